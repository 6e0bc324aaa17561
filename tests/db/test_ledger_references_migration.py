"""Migration 0015 takes the ledger's foreign keys away while postings go on, before and after it."""

import asyncio

from erp_service.standalone.postgres import Cluster
from tests.db.old_postings import post_as_before
from tests.support.databases import as_owner, connected
from tests.support.schemas import migrate_to_before
from tests.support.statements import count_of_waiting
from tests.support.waiting import eventually

KEYS = "select count(*) from pg_constraint where conrelid = 'stock_ledger'::regclass and contype = 'f'"


async def test_postings_go_on_while_the_keys_of_the_ledger_are_taken_away(cluster: Cluster) -> None:
    name = "ledger_with_keys"
    await as_owner(cluster, f"create database {name}")
    url = cluster.owner_url(name)
    await migrate_to_before(url, "0015")

    async def receive() -> None:
        async with connected(url) as connection:
            await post_as_before(connection, "BOLT", "MAIN", "1", "0")

    async with connected(url) as owner, connected(url) as poster:
        await owner.execute(
            "insert into items (sku, name, unit) values ('BOLT', 'Bolt', 'pcs');"
            "insert into locations (code, name, location_type) values ('MAIN', 'Main', 'WAREHOUSE')"
        )
        await receive()
        assert await owner.fetchval(KEYS) == 4
        async with poster.transaction():
            await post_as_before(poster, "BOLT", "MAIN", "1", "0")
            migration = asyncio.create_task(migrate_to_before(url, "0016"))
            await eventually(count_of_waiting(owner))
            others = [asyncio.create_task(receive()) for _ in range(8)]
        await asyncio.gather(migration, *others)
        await receive()
        assert await owner.fetchval(KEYS) == 0
        assert await owner.fetchval("select on_hand from stock_balances") == 11
        assert await owner.fetchval("select sum(quantity) from stock_ledger") == 11
    await as_owner(cluster, f"drop database {name}")
