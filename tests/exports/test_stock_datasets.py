"""The exports of stock: what they say of values, and that their cost grows with their rows alone."""

import csv
import io
import re
from datetime import timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import httpx

from erp_service.db.engine import Database
from erp_service.exports.planning.selection import Spec, query
from erp_service.inventory.datasets import STOCK_LEVELS
from tests.exports.jobs import JOBS, done
from tests.inventory.posting import NOON, posting
from tests.inventory.stock import fill, make_item, make_place
from tests.support.clients import UserClient
from tests.support.workers import Work


async def rows(client: httpx.AsyncClient, dataset: str, **body: Any) -> list[dict[str, str]]:
    job = await done(client, dataset, **body)
    text = (await client.get(f"{JOBS}/{job['id']}/download")).text
    return list(csv.DictReader(io.StringIO(text, newline="")))


async def test_levels_have_their_shares_and_a_change_of_value_is_nowhere(
    admin: UserClient, database: Database, owner: asyncpg.Connection, work: Work
) -> None:
    post = posting(database)
    bolt = await make_item(admin, "BOLT")
    house = await make_place(admin, "HOUSE")
    await make_place(admin, "SHOP", house)
    await make_place(admin, "YARD")
    for code in ("HOUSE", "SHOP", "YARD"):
        await post("IN", "BOLT", code, "1", unit_cost="1")
    await post("OUT", "BOLT", "YARD", "0.5", at=NOON + timedelta(days=1))
    revaluation = {"sku": "BOLT", "difference": "-0.5001", "quantity": "5", "reason": "a later discount"}
    (await admin.post("/api/v1/inventory/stock/revaluation", json=revaluation)).raise_for_status()
    await owner.execute("update stock_balances set reserved = 0.25 where location_id = $1", house)
    async with work():
        levels = await rows(admin, "stock_levels")
        inside = await rows(admin, "stock_levels", filter={"within": "HOUSE"})
        shop = await rows(admin, "stock_levels", filter={"location": "SHOP"})
        (value,) = await rows(admin, "stock_values")
        movements = await rows(admin, "stock_movements", sort="-id")
        revalued = await rows(admin, "stock_movements", filter={"origin": "REVALUATION"})
        at_yard = await rows(admin, "stock_movements", filter={"location": "YARD"})
        later = {"recorded_from": movements[1]["recorded_at"].replace(" ", "T")}
        recorded = await rows(admin, "stock_movements", filter=later)
    assert [(row["location"], row["on_hand"], row["reserved"], row["available"]) for row in levels] == [
        ("HOUSE", "1", "0.25", "0.75"),
        ("SHOP", "1", "0", "1"),
        ("YARD", "0.5", "0", "0.5"),
    ]
    # half of the discount is of what is gone: 2.2499 is left, and 0.9 + 0.9 + 0.45 is more
    assert [row["value"] for row in levels] == ["0.8999", "0.9", "0.45"]
    assert {row["unit_value"] for row in levels} == {"0.89996"}
    assert [row["location"] for row in inside] == ["HOUSE", "SHOP"]
    assert [row["location"] for row in shop] == ["SHOP"]
    assert value == {
        "item_id": str(bolt),
        "sku": "BOLT",
        "name": "The BOLT",
        "unit": "pcs",
        "on_hand": "2.5",
        "value": "2.2499",
        "unit_value": "0.89996",
        "last_cost": value["last_cost"],
    }
    assert (movements[0]["location"], movements[0]["origin"]) == ("", "REVALUATION")
    assert Decimal(movements[0]["value"]) + Decimal(movements[0]["not_covered"]) == Decimal("-0.5001")
    assert revalued == movements[:1]
    assert [row["quantity"] for row in at_yard] == ["1", "-0.5"]
    assert [row["id"] for row in recorded] == [movements[1]["id"], movements[0]["id"]]


async def test_a_range_of_levels_reads_the_balances_of_its_own_items(owner: asyncpg.Connection) -> None:
    """If each range of an export computed the shares of all items, its cost would be the square of its length."""
    await fill(owner)
    buffers = []
    for low, high in ((1, 101), (801, 901), (1, 1001)):
        part = query(STOCK_LEVELS, Spec()).between(low, high)
        plan = await owner.fetch(f"explain (analyze, buffers) {part.sql}", *part.arguments)
        whole = re.search(r"Buffers: shared(?: hit=([0-9]+))?(?: read=([0-9]+))?", "\n".join(row[0] for row in plan))
        assert whole is not None
        buffers.append(sum(int(count or 0) for count in whole.groups()))
    assert buffers[1] < 2 * buffers[0], buffers
    assert buffers[2] < 12 * buffers[0], buffers
