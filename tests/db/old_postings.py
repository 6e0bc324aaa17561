"""What the version before migration 0017 sent to post a movement: values by location, and the same locks."""

from decimal import Decimal

import asyncpg

_POST = """
with document as (insert into stock_transactions (id) values (gen_random_uuid()) returning id),
changed as (
  update stock_balances set on_hand = on_hand + $3, value = value + $4,
    last_average = case when on_hand + $3 > 0 then (value + $4) / (on_hand + $3) else last_average end
  where item_id = $1 and location_id = $2 returning on_hand, value
)
insert into stock_ledger (transaction_id, line, item_id, location_id, entry_type, quantity, value, unit_cost,
  on_hand_after, value_after, occurred_at)
select document.id, 1, $1, $2, $5, $3, $4, $6, changed.on_hand, changed.value, now() from document, changed
returning transaction_id
"""


async def post_as_before(
    connection: asyncpg.Connection, sku: str, code: str, quantity: str, value: str, unit_cost: str | None = None
) -> object:
    """A receipt, or an issue if the quantity is below zero; the id of its document."""
    async with connection.transaction():
        item = await connection.fetchval("select id from items where sku = $1 for share", sku)
        place = await connection.fetchrow(
            "select id, allow_negative_stock from locations where code = $1 for share", code
        )
        await connection.execute(
            "insert into stock_balances (item_id, location_id, allows_negative) values ($1, $2, $3)"
            " on conflict do nothing",
            *(item, *place),
        )
        await connection.fetch(
            "select from stock_balances where item_id = $1 and location_id = $2 for update", item, place["id"]
        )
        kind = "IN" if Decimal(quantity) > 0 else "OUT"
        cost = None if unit_cost is None else Decimal(unit_cost)
        return await connection.fetchval(_POST, item, place["id"], Decimal(quantity), Decimal(value), kind, cost)


async def transfer_as_before(
    connection: asyncpg.Connection, sku: str, source: str, target: str, quantity: str, value: str
) -> None:
    """It took its share of the value along."""
    async with connection.transaction():
        document = await connection.fetchval(
            "insert into stock_transactions (id) values (gen_random_uuid()) returning id"
        )
        for code, kind, sign in ((source, "TRANSFER_OUT", -1), (target, "TRANSFER_IN", 1)):
            await connection.execute(
                "insert into stock_balances (item_id, location_id) select i.id, l.id from items i, locations l"
                " where sku = $1 and code = $2 on conflict do nothing",
                *(sku, code),
            )
            moved, worth = sign * Decimal(quantity), sign * Decimal(value)
            state = await connection.fetchrow(
                "update stock_balances set on_hand = on_hand + $3, value = value + $4 from items i, locations l"
                " where sku = $1 and code = $2 and item_id = i.id and location_id = l.id"
                " returning i.id as item, l.id as place, on_hand, value",
                *(sku, code, moved, worth),
            )
            await connection.execute(
                "insert into stock_ledger (transaction_id, line, item_id, location_id, entry_type, quantity, value,"
                " on_hand_after, value_after, occurred_at) values ($1, 1, $2, $3, $4, $5, $6, $7, $8, now())",
                *(document, state["item"], state["place"], kind, moved, worth, state["on_hand"], state["value"]),
            )
