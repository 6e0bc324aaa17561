"""The unit of an item with ledger entries stays, since their quantities are in it."""

import asyncio

import asyncpg
import httpx
import pytest

from erp_service.access.principals import system
from erp_service.db.engine import Database
from erp_service.inventory import items
from erp_service.inventory.posting import ledger, row_locks
from erp_service.inventory.posting.row_locks import Wanted
from erp_service.inventory.schemas import ItemBody, NameText, SkuText, UnitText
from erp_service.settings import Settings
from tests.inventory.catalogue import ITEMS, bolt, make, make_place, receipt
from tests.inventory.posting import Post
from tests.support.databases import connected
from tests.support.statements import Waiting
from tests.support.waiting import eventually


async def test_the_unit_of_an_item_with_entries_cannot_be_changed(admin: httpx.AsyncClient, post: Post) -> None:
    """Old movements of 5 pcs would say 5 kg."""
    item = await make(admin)
    await make_place(admin)
    address = f"{ITEMS}/{item['id']}"
    assert (await admin.put(address, json=bolt(unit="box"))).status_code == 200
    await post("IN", "BOLT-M8", "MAIN", "5", unit_cost="2")
    await post("OUT", "BOLT-M8", "MAIN", "5")
    refused = await admin.put(address, json=bolt(unit="kg"))
    problem = refused.json()
    assert (refused.status_code, problem["type"], problem["unit"]) == (409, "/problems/unit-stays", "box")
    assert problem["detail"] == "BOLT-M8 has ledger entries in box, so its unit stays."
    assert (await admin.put(address, json=bolt(unit="box", name="Bolt"))).status_code == 200
    # the same unit, decomposed and composed
    other = await make(admin, sku="FILM", unit="m\u00e8tre")
    await post("IN", "FILM", "MAIN", "1", unit_cost="2")
    same = await admin.put(f"{ITEMS}/{other['id']}", json=bolt(sku="FILM", unit="me\u0300tre"))
    assert same.status_code == 200


async def test_a_new_unit_waits_for_a_receipt_that_is_being_committed_and_is_refused(
    admin: httpx.AsyncClient, database: Database, waiting: Waiting
) -> None:
    item = await make(admin)
    await make_place(admin)
    async with database.write() as db:
        locked = await row_locks.lock_rows(db, [Wanted("BOLT-M8", "MAIN")])
        change = asyncio.create_task(admin.put(f"{ITEMS}/{item['id']}", json=bolt(unit="kg")))
        await eventually(waiting)
        await ledger.post(db, system("test"), [receipt(locked)], locked)
    assert (await change).json()["type"] == "/problems/unit-stays"


async def test_a_receipt_waits_for_a_new_unit_that_is_being_committed_and_is_posted_in_it(
    admin: httpx.AsyncClient, database: Database, owner: asyncpg.Connection, waiting: Waiting
) -> None:
    item = await make(admin)
    await make_place(admin)

    async def receive() -> None:
        async with database.write() as db:
            locked = await row_locks.lock_rows(db, [Wanted("BOLT-M8", "MAIN")])
            await ledger.post(db, system("test"), [receipt(locked)], locked)

    async with database.write() as db:
        body = ItemBody(sku=SkuText("BOLT-M8"), name=NameText("Bolt"), unit=UnitText("kg"))
        await items.replace(db, system("test"), await items.lock_for_update(db, item["id"]), body)
        receiving = asyncio.create_task(receive())
        await eventually(waiting)
    await receiving
    assert await owner.fetchval("select unit from items") == "kg"


async def test_the_database_itself_refuses_a_new_unit_whoever_writes_it(
    admin: httpx.AsyncClient, settings: Settings, database: Database, post: Post, waiting: Waiting
) -> None:
    """An import that updates, a script, a person in psql: also while a receipt is being committed."""
    await make(admin)
    await make(admin, sku="NUT")
    await make_place(admin)
    await post("IN", "BOLT-M8", "MAIN", "5", unit_cost="2")
    upsert = (
        "insert into items (sku, name, unit) values ($1, 'New', 'kg')"
        " on conflict (sku) do update set unit = excluded.unit, name = excluded.name"
    )
    async with connected(settings.migration_database_url or "") as writer:
        with pytest.raises(asyncpg.CheckViolationError, match="has ledger entries in its unit") as refusal:
            await writer.execute(upsert, "BOLT-M8")
        assert refusal.value.constraint_name == "items_unit_stays"
        async with database.write() as db:
            locked = await row_locks.lock_rows(db, [Wanted("NUT", "MAIN")])
            change = asyncio.create_task(writer.execute(upsert, "NUT"))
            await eventually(waiting)
            await ledger.post(db, system("test"), [receipt(locked, "NUT")], locked)
        with pytest.raises(asyncpg.CheckViolationError):
            await change
        await writer.execute("update items set unit = 'pcs', name = 'The same unit'")
