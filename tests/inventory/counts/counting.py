"""Counts opened, counted and posted over HTTP."""

from collections.abc import Mapping
from typing import Any

import asyncpg
import httpx

COUNTS = "/api/v1/inventory/counts"


def lines_of(counted: Mapping[str, object]) -> list[dict[str, object]]:
    return [{"sku": sku, "counted": quantity} for sku, quantity in counted.items()]


async def open_count(client: httpx.AsyncClient, location: str = "MAIN", /, **counted: object) -> str:
    """The id of a new count with these quantities by sku."""
    answer = await client.post(COUNTS, json={"location": location, "lines": lines_of(counted)})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def recorded(client: httpx.AsyncClient, count: str, *lines: Mapping[str, object]) -> Any:
    answer = await client.put(f"{COUNTS}/{count}/lines", json={"lines": lines})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def posted(client: httpx.AsyncClient, count: str, **body: object) -> Any:
    answer = await client.post(f"{COUNTS}/{count}/post", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def refused(client: httpx.AsyncClient, count: str, **body: object) -> Any:
    """The problem of a count that is not posted."""
    answer = await client.post(f"{COUNTS}/{count}/post", json=body)
    assert answer.status_code in (409, 422), answer.text
    return answer.json()


async def lines(client: httpx.AsyncClient, count: str, **params: Any) -> dict[str, Any]:
    """The lines of a count, by sku."""
    answer = await client.get(f"{COUNTS}/{count}/lines", params={"limit": 500, **params})
    assert answer.status_code == 200, answer.text
    return {line["sku"]: line for line in answer.json()["items"]}


async def entries(owner: asyncpg.Connection, document: str) -> list[str]:
    """Of a document, such as `ADJUSTMENT COUNT BOLT MAIN -2 -10`, in their order."""
    rows = await owner.fetch(
        "select concat_ws(' ', e.entry_type, e.origin, i.sku, l.code, trim_scale(e.quantity), trim_scale(e.value))"
        " from stock_ledger e join items i on i.id = e.item_id join locations l on l.id = e.location_id"
        " where e.transaction_id = $1 order by e.id",
        document,
    )
    return [row[0] for row in rows]
