"""Items and locations made and listed over HTTP, and a receipt of one of them."""

from decimal import Decimal
from typing import Any

import httpx

from erp_service.inventory.posting import row_locks
from erp_service.inventory.posting.lines import PostingLine
from tests.inventory.posting import NOON

ITEMS = "/api/v1/inventory/items"
LOCATIONS = "/api/v1/inventory/locations"


def bolt(**fields: Any) -> dict[str, Any]:
    return {"sku": "BOLT-M8", "name": "Bolt M8", "unit": "pcs", **fields}


async def make(admin: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    answer = await admin.post(ITEMS, json=bolt(**fields))
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def make_place(admin: httpx.AsyncClient, code: str = "MAIN", **fields: Any) -> dict[str, Any]:
    answer = await admin.post(LOCATIONS, json={"code": code, "name": code, "location_type": "WAREHOUSE", **fields})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def listed(client: httpx.AsyncClient, **params: Any) -> list[str]:
    answer = await client.get(ITEMS, params=params)
    assert answer.status_code == 200, answer.text
    assert "ETag" not in answer.headers
    return [item["sku"] for item in answer.json()["items"]]


def receipt(held: row_locks.LockedRows, sku: str = "BOLT-M8") -> PostingLine:
    return PostingLine(
        kind="IN",
        item=held.items[sku],
        location=held.locations["MAIN"],
        quantity=Decimal(1),
        cost=Decimal(2),
        occurred_at=NOON,
    )
