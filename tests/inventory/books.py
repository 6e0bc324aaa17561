"""A small stock to post to, and the proof that its books are right."""

from typing import Any

import asyncpg
import httpx

PATH = "/api/v1/inventory/stock"
BOLT = {"sku": "BOLT", "location": "MAIN"}


async def stocked(
    owner: asyncpg.Connection, *skus: str, places: tuple[str, ...] = ("MAIN", "SHOP"), status: str = "ACTIVE"
) -> list[int]:
    """Items with these skus, and the places; one whose code ends in `-` allows negative stock. The items' ids."""
    await owner.executemany(
        "insert into locations (code, name, location_type, allow_negative_stock) values ($1, $1, 'WAREHOUSE', $2)"
        " on conflict do nothing",
        [(code, code.endswith("-")) for code in places],
    )
    return [
        await owner.fetchval(
            "insert into items (sku, name, unit, status) values ($1, $1, 'pcs', $2) returning id", s, status
        )
        for s in skus
    ]


async def balance(owner: asyncpg.Connection, sku: str, code: str) -> str:
    """On hand and value, such as `7 17.5`; empty if there never was any."""
    found = await owner.fetchval(
        "select trim_scale(b.on_hand) || ' ' || trim_scale(b.value) from stock_balances b"
        " join items i on i.id = b.item_id join locations l on l.id = b.location_id where i.sku = $1 and l.code = $2",
        sku,
        code,
    )
    return str(found or "")


async def assert_books(owner: asyncpg.Connection) -> None:
    """Balances are the sums of the ledger in quantity and value, in the order of its ids; transfers come to nothing."""
    differing = await owner.fetch(
        """
        select item_id, location_id, b.on_hand, b.value, l.q, l.v from stock_balances b
        full join (select item_id, location_id, sum(quantity) q, sum(value) v from stock_ledger group by 1, 2) l
        using (item_id, location_id)
        where coalesce(b.on_hand, 0) <> coalesce(l.q, 0) or coalesce(b.value, 0) <> coalesce(l.v, 0)
        """
    )
    assert differing == []
    broken = await owner.fetch(
        """
        select id from (
          select id, on_hand_after - quantity - lag(on_hand_after, 1, 0) over effects gap,
            value_after - value - lag(value_after, 1, 0) over effects worth
          from stock_ledger window effects as (partition by item_id, location_id order by id)
        ) e where gap <> 0 or worth <> 0
        """
    )
    assert broken == [], "the order of ids is not the order of effects"
    lopsided = await owner.fetch(
        """
        select transaction_id, line from stock_ledger where entry_type like 'TRANSFER%'
        group by transaction_id, line having sum(quantity) <> 0 or sum(value) <> 0 or count(*) <> 2
        """
    )
    assert lopsided == []


async def post(client: httpx.AsyncClient, what: str, **body: object) -> Any:
    answer = await client.post(f"{PATH}/{what}", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def pointers(client: httpx.AsyncClient, what: str, body: object, status: int = 422) -> list[str]:
    answer = await client.post(f"{PATH}/{what}", json=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return [fault["pointer"] for fault in answer.json().get("errors", [])]
