"""What others do while somebody sits before the console, and what the ledger holds afterwards."""

from typing import Any

import asyncpg
import httpx

from tests.browser.people import EMAIL, PASSWORD


async def entries(owner: asyncpg.Connection, reference: str) -> list[tuple[str, str]]:
    """What the ledger holds under a reference: kind and quantity."""
    statement = "select entry_type, trim_scale(quantity)::text from stock_ledger where reference_no = $1 order by id"
    return [(row[0], row[1]) for row in await owner.fetch(statement, reference)]


def submit_export(url: str) -> None:
    _post(url, "exports/jobs", {"dataset": "stock_movements"})


def issue(url: str, sku: str, location: str) -> None:
    """One of it goes out."""
    _post(url, "inventory/stock/out", {"sku": sku, "location": location, "quantity": "1"})


def _post(url: str, path: str, body: dict[str, Any]) -> None:
    pair = httpx.post(f"{url}/api/v1/auth/login", data={"username": EMAIL, "password": PASSWORD}).json()
    headers = {"Authorization": f"Bearer {pair['access_token']}"}
    httpx.post(f"{url}/api/v1/{path}", json=body, headers=headers).raise_for_status()
