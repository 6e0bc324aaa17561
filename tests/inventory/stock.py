"""Items, locations and a history of movements to read."""

import asyncpg
import httpx


async def make_item(admin: httpx.AsyncClient, sku: str) -> int:
    answer = await admin.post("/api/v1/inventory/items", json={"sku": sku, "name": f"The {sku}", "unit": "pcs"})
    id_: int = answer.json()["id"]
    return id_


async def make_place(admin: httpx.AsyncClient, code: str, parent_id: int | None = None, negative: bool = False) -> int:
    body = {"code": code, "name": code, "location_type": "BIN", "parent_id": parent_id}
    answer = await admin.post("/api/v1/inventory/locations", json={**body, "allow_negative_stock": negative})
    id_: int = answer.json()["id"]
    return id_


async def fill(owner: asyncpg.Connection) -> None:
    """1,000 items at 4 places with 3 entries at each; S7 has 4,000 more of them at each of two places."""
    await owner.execute("""
        insert into items (sku, name, unit) select 'S' || n, 'N' || n, 'pcs' from generate_series(1, 1000) n;
        insert into locations (code, name, location_type) select 'L' || n, 'L', 'BIN' from generate_series(1, 4) n;
        insert into stock_transactions (id) values ('00000000-0000-7000-8000-000000000001');
        insert into stock_ledger (transaction_id, line, item_id, location_id, entry_type, quantity, value,
            on_hand_after, item_on_hand_after, value_after, occurred_at, reference_no)
          select '00000000-0000-7000-8000-000000000001', 1, i.id, l.id, 'IN', 1, 1, n, n, n,
            '2026-01-10T12:00:00Z'::timestamptz + n * interval '1 day', 'R' || i.id
          from items i, locations l, generate_series(1, case when i.sku = 'S7' and l.id <= 2 then 4003 else 3 end) n;
        insert into stock_balances (item_id, location_id, on_hand)
          select item_id, location_id, sum(quantity) from stock_ledger group by 1, 2;
        insert into stock_values (item_id, on_hand, value)
          select item_id, sum(quantity), sum(value) from stock_ledger group by 1;
        analyze items, locations, stock_ledger, stock_balances, stock_values;
    """)
