"""Two versions run side by side during a rolling release, so the keys of the locks must not change."""

import asyncpg
import pytest

from erp_service.db import locks
from erp_service.db.engine import Database
from erp_service.db.locks import AdvisoryLock

USER = 2**31 + 7
HELD = """
select classid::bigint, objid::bigint, objsubid from pg_locks
where locktype = 'advisory' and granted and database = (select oid from pg_database where datname = current_database())
"""
ONE_KEY = "select ($1::bigint >> 32) & x'ffffffff'::bigint, $1::bigint & x'ffffffff'::bigint, 1::smallint"


@pytest.mark.parametrize(
    ("lock", "key"),
    [
        (locks.MIGRATION, "727275"),
        (locks.ADMISSION, "727276"),
        (locks.USERS, "hashtext('erp users')"),
        (locks.LOCATION_TREE, "hashtextextended('erp locations tree', 0)"),
        (locks.DEMO, "hashtextextended('erp demo', 0)"),
        (AdvisoryLock(locks.IDEMPOTENCY_KEY, {"key": "k-1", "user_id": USER}), f"hashtextextended('k-1', {USER})"),
    ],
)
async def test_a_lock_of_one_key_keeps_its_key(
    database: Database, owner: asyncpg.Connection, lock: AdvisoryLock, key: str
) -> None:
    value = await owner.fetchval(f"select ({key})::bigint")
    async with database.write() as db:
        await locks.take(db, lock)
        assert await owner.fetch(HELD) == [await owner.fetchrow(ONE_KEY, value)]
    assert await owner.fetch(HELD) == [], "released at the end of the transaction"


async def test_a_lock_of_two_keys_keeps_its_keys(database: Database, owner: asyncpg.Connection) -> None:
    async with database.write() as db:
        await locks.take(db, locks.schedules_of(USER))
        assert [tuple(row) for row in await owner.fetch(HELD)] == [(727277, 7, 2)]
    await locks.hold_for_worker(owner, 7)
    assert [tuple(row) for row in await owner.fetch(HELD)] == [(0x45525077, 7, 2)]


async def test_the_lock_of_a_worker_is_seen_until_its_connection_ends(
    database: Database, owner: asyncpg.Connection
) -> None:
    seen = f"select {locks.is_held_for_worker('8')}"
    assert await owner.fetchval(seen) is False
    async with database.read() as db:
        driver = db.driver
        await locks.hold_for_worker(driver, 8)
        assert await owner.fetchval(seen) is True
        assert await owner.fetchval(f"select {locks.is_held_for_worker('9')}") is False
        driver.terminate()
