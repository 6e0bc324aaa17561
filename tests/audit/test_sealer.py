"""The sealer: everything that is committed gets one position, in an order that nothing changes afterwards."""

import asyncpg
import pytest

from erp_service.access.principals import system
from erp_service.audit.record import record
from erp_service.audit.trail_queries import head_position, scan
from erp_service.db.engine import Database
from erp_service.settings import Settings
from tests.support.databases import connected
from tests.support.trail import seal_all, sealed, sealing

WHO = system("erp test")
ENTRY = "insert into audit_log (action, entity, entity_id) values ('item.created', 'item', $1) returning id"


async def entry(connection: asyncpg.Connection, name: str) -> int:
    id_: int = await connection.fetchval(ENTRY, name)
    return id_


async def subjects(database: Database) -> list[str]:
    async with database.read() as db:
        return [event.subject for event in (await scan(db, 0, limit=1000)).events]


async def test_entries_get_the_next_positions_in_order_of_their_ids(
    settings: Settings, database: Database, owner: asyncpg.Connection
) -> None:
    async with database.write() as db:
        for number in range(5):
            await record(db, WHO, "item.created", number, after={"id": number, "version": 1})
    async with sealing(settings, entries=2) as sealer:
        assert [(await sealer.run()).positions for _ in range(4)] == [2, 2, 1, 0]
    assert [position for position, _ in await sealed(owner)] == [1, 2, 3, 4, 5]
    async with database.read() as db:
        assert await head_position(db) == 5
        events = (await scan(db, 2, limit=2)).events
        assert [(event.position, event.subject, event.data) for event in events] == [
            (3, "item/2", {"id": 2, "version": 1}),
            (4, "item/3", {"id": 3, "version": 1}),
        ]


async def test_an_entry_that_commits_late_is_not_missed_and_comes_once(
    settings: Settings, database: Database, owner: asyncpg.Connection
) -> None:
    async with connected(settings.migration_database_url or "") as slow, sealing(settings) as sealer:
        late = slow.transaction()
        await late.start()
        await entry(slow, "late")
        await entry(owner, "first")
        await sealer.run()
        # whatever else commits meanwhile, and however often it looks
        await entry(owner, "second")
        await sealer.run()
        await sealer.run()
        await late.commit()
        await sealer.run()
        await entry(owner, "third")
        await sealer.run()
    assert await subjects(database) == ["item/first", "item/second", "item/late", "item/third"]


async def test_an_entry_that_commits_late_is_found_by_the_next_sealer(
    settings: Settings, database: Database, owner: asyncpg.Connection
) -> None:
    async with connected(settings.migration_database_url or "") as slow:
        late = slow.transaction()
        await late.start()
        await entry(slow, "late")
        for number in range(10):
            await entry(owner, str(number))
            await seal_all(settings)
        await late.commit()
    await seal_all(settings)
    assert await subjects(database) == [*(f"item/{number}" for number in range(10)), "item/late"]
    assert await owner.fetchval("select through from trail order by position desc limit 1") == 11


async def test_what_was_rolled_back_is_waited_for_only_as_long_as_its_writers(
    settings: Settings, owner: asyncpg.Connection
) -> None:
    async with (
        connected(settings.migration_database_url or "") as slow,
        connected(settings.migration_database_url or "") as reader,
        sealing(settings) as sealer,
        # an export or a dump, which holds a snapshot all the time
        reader.transaction(isolation="repeatable_read", readonly=True),
    ):
        await reader.fetch("select count(*) from audit_log")
        late = slow.transaction()
        await late.start()
        await entry(slow, "never")
        await entry(owner, "first")
        await sealer.run()
        await sealer.run()
        assert [(gap.first, gap.last) for gap in sealer.gaps("audit_log")] == [(1, 1)]
        await late.rollback()
        await sealer.run()
        assert not sealer.gaps("audit_log")
    assert await sealed(owner) == [(1, "2")]


async def test_a_savepoint_that_is_rolled_back_leaves_nothing_to_wait_for_after_its_transaction(
    settings: Settings, database: Database, owner: asyncpg.Connection
) -> None:
    async with sealing(settings) as sealer:
        async with database.write() as db:
            await record(db, WHO, "item.created", "kept")
            async with db.savepoint(keep=False):
                await record(db, WHO, "item.created", "undone")
            await record(db, WHO, "item.created", "kept too")
        await sealer.run()
        await sealer.run()
        assert not sealer.gaps("audit_log")
    assert await subjects(database) == ["item/kept", "item/kept too"]


async def test_a_stale_sealer_fails_instead_of_forking_the_chain(
    settings: Settings, database: Database, owner: asyncpg.Connection
) -> None:
    await entry(owner, "1")
    async with sealing(settings) as stale:
        await entry(owner, "2")
        await seal_all(settings)
        with pytest.raises(asyncpg.UniqueViolationError):
            await stale.run()
    assert await sealed(owner) == [(1, "1"), (2, "2")]


async def test_a_jump_of_the_sequence_costs_nothing(settings: Settings, owner: asyncpg.Connection) -> None:
    await entry(owner, "1")
    await owner.execute("alter table audit_log alter column id restart with 5000000000")
    await entry(owner, "2")
    async with sealing(settings) as sealer:
        await sealer.run()
        await sealer.run()
        assert not sealer.gaps("audit_log")
    assert await sealed(owner) == [(1, "1"), (2, "5000000000")]


async def test_only_the_sealers_role_may_add_to_the_trail_and_nobody_may_change_it(
    settings: Settings, owner: asyncpg.Connection
) -> None:
    await entry(owner, "1")
    await seal_all(settings)
    for statement in ("update trail set through = 7", "delete from trail", "truncate trail"):
        with pytest.raises(asyncpg.PostgresError):
            await owner.execute(statement)
    assert not await owner.fetchval("select has_any_column_privilege('erp_api', 'trail', 'insert')")


async def test_scanning_goes_on_where_nothing_is_wanted(
    settings: Settings, database: Database, owner: asyncpg.Connection
) -> None:
    for number in range(10):
        await entry(owner, str(number))
    await owner.execute("insert into audit_log (action, entity, entity_id) values ('item.deleted', 'item', '3')")
    await seal_all(settings)
    async with database.read() as db:
        first = await scan(db, 0, limit=5, types=["item.deleted"], window=4)
        assert (first.events, first.last_position, first.head) == ([], 4, 11)
        assert [event.position for event in (await scan(db, 0, limit=5, types=["item.deleted"])).events] == [11]
