"""A small stock to post to, and the proof that its books are right."""

from typing import Any

import asyncpg
import httpx

from erp_service.inventory.proofs import PROOFS

PATH = "/api/v1/inventory/stock"
BOLT = {"sku": "BOLT", "location": "MAIN"}


async def stocked(
    owner: asyncpg.Connection,
    *skus: str,
    places: tuple[str, ...] = ("MAIN", "SHOP"),
    status: str = "ACTIVE",
    free: bool = True,
) -> list[int]:
    """Items with these skus, and the places; one whose code ends in `-` allows negative stock. The items' ids.

    If they are `free`, it is known that they cost nothing, so that a test need not state costs that it does not ask
    about."""
    await owner.executemany(
        "insert into locations (code, name, location_type, allow_negative_stock) values ($1, $1, 'WAREHOUSE', $2)"
        " on conflict do nothing",
        [(code, code.endswith("-")) for code in places],
    )
    ids = [
        await owner.fetchval(
            "insert into items (sku, name, unit, status) values ($1, $1, 'pcs', $2) returning id", s, status
        )
        for s in skus
    ]
    if free:
        await owner.execute("insert into stock_values (item_id, last_cost) select unnest($1::bigint[]), 0", ids)
    return ids


async def balance(owner: asyncpg.Connection, sku: str, code: str) -> str:
    """On hand, and its share of the item's value, such as `7 17.5`; empty if there never was any."""
    share = await owner.fetchval(
        "select trim_scale(b.on_hand) || ' '"
        " || trim_scale(coalesce(round(b.on_hand * v.value / nullif(v.on_hand, 0), 4), 0))"
        " from stock_balances b join stock_values v on v.item_id = b.item_id join items i on i.id = b.item_id"
        " join locations l on l.id = b.location_id where i.sku = $1 and l.code = $2",
        sku,
        code,
    )
    return str(share or "")


async def worth(owner: asyncpg.Connection, sku: str) -> str:
    """What is on hand over all locations, and its value, such as `7 17.5`; empty if nothing was ever posted."""
    both = await owner.fetchval(
        "select trim_scale(on_hand) || ' ' || trim_scale(value) from stock_values"
        " join items i on i.id = item_id where i.sku = $1",
        sku,
    )
    return str(both or "")


async def assert_books(owner: asyncpg.Connection) -> None:
    """Every proof of `erp verify` about stock holds."""
    for proof in PROOFS:
        assert [dict(row) for row in await owner.fetch(proof.rows)] == [], proof.holds


async def post(client: httpx.AsyncClient, what: str, **body: object) -> Any:
    answer = await client.post(f"{PATH}/{what}", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def pointers(client: httpx.AsyncClient, what: str, body: object, status: int = 422) -> list[str]:
    answer = await client.post(f"{PATH}/{what}", json=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return [fault["pointer"] for fault in answer.json().get("errors", [])]
