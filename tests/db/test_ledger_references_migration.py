"""Migration 0015 takes the ledger's foreign keys away while postings go on, before and after it."""

import asyncio
from pathlib import Path

from erp_service.access.principals import system
from erp_service.db import migrate as schema
from erp_service.db.engine import Database
from erp_service.decimals import Quantity
from erp_service.inventory.posting import service
from erp_service.inventory.posting.schemas import Receipt
from erp_service.standalone.postgres import Cluster
from tests.inventory.books import assert_books, balance, stocked
from tests.support.databases import as_owner, connected
from tests.support.schemas import migrate_to_before
from tests.support.settings import settings_for
from tests.support.statements import count_of_waiting
from tests.support.waiting import eventually

KEYS = "select count(*) from pg_constraint where conrelid = 'stock_ledger'::regclass and contype = 'f'"


async def test_postings_go_on_while_the_keys_of_the_ledger_are_taken_away(cluster: Cluster, tmp_path: Path) -> None:
    name = "ledger_with_keys"
    await as_owner(cluster, f"create database {name}")
    url = cluster.owner_url(name)
    await migrate_to_before(url, "0015")
    database = Database(settings_for(cluster, name, tmp_path), name="erp test")

    async def receive() -> None:
        async with database.write() as db:
            await service.post_one(db, system("test"), Receipt(sku="BOLT", location="MAIN", quantity=Quantity(1)))

    async with connected(url) as owner:
        await stocked(owner, "BOLT")
        await receive()
        assert await owner.fetchval(KEYS) == 4
        async with database.write() as db:
            await service.post_one(db, system("test"), Receipt(sku="BOLT", location="MAIN", quantity=Quantity(1)))
            migration = asyncio.create_task(schema.migrate(url))
            await eventually(count_of_waiting(owner))
            others = [asyncio.create_task(receive()) for _ in range(8)]
        await asyncio.gather(migration, *others)
        await receive()
        assert await owner.fetchval(KEYS) == 0
        assert await balance(owner, "BOLT", "MAIN") == "11 0"
        await assert_books(owner)
    await database.close()
    await as_owner(cluster, f"drop database {name}")
