"""Sessions whose connection is lost at the worst moment, and the order in which sessions get one."""

import asyncio
import contextlib

import asyncpg
import pytest
from msgspec.structs import replace
from sqlalchemy import text

from erp_service import errors
from erp_service.db.engine import Database
from erp_service.db.outages import DATABASE_ERRORS, PoolTimeout
from erp_service.db.sessions import Session
from erp_service.settings import Settings


async def cut_off(db: Session, owner: asyncpg.Connection) -> None:
    pid = await db.scalar(text("select pg_backend_pid()"))
    await owner.execute("select pg_terminate_backend($1, 1000)", pid)


async def test_refusal_turns_into_a_fault_of_ours_since_its_rollback_fails(
    database: Database, owner: asyncpg.Connection
) -> None:
    """The framework would answer 500, since the session ends with another exception than the handler's."""

    async def refused() -> None:
        async with database.write() as db:
            await cut_off(db, owner)
            raise errors.Conflict("no")

    with pytest.raises(errors.Conflict):
        await refused()


async def test_commit_that_cannot_be_made_is_not_taken_for_one(database: Database, owner: asyncpg.Connection) -> None:
    async def written() -> None:
        async with database.write() as db:
            await db.execute(text("insert into procrastinate_workers default values"))
            await cut_off(db, owner)

    with pytest.raises(DATABASE_ERRORS):
        await written()
    assert await owner.fetchval("select count(*) from procrastinate_workers") == 0


async def test_error_that_the_body_swallowed_is_not_taken_for_a_commit(
    database: Database, owner: asyncpg.Connection
) -> None:
    """Postgres answers COMMIT with ROLLBACK, and no error."""

    async def written() -> None:
        async with database.write() as db:
            await db.execute(text("insert into procrastinate_workers default values"))
            with contextlib.suppress(asyncpg.UndefinedTableError):
                await db.execute(text("select from nothing"))

    with pytest.raises(asyncpg.InFailedSQLTransactionError):
        await written()
    assert await owner.fetchval("select count(*) from procrastinate_workers") == 0


async def test_session_after_one_that_was_cut_off_works(database: Database, owner: asyncpg.Connection) -> None:
    async with database.read() as db:
        await cut_off(db, owner)
    async with database.read() as db:
        assert await db.scalar(text("select 1")) == 1


async def test_whoever_waits_for_a_connection_gets_it_before_those_who_come_later(settings: Settings) -> None:
    """In other pools a request that arrives just when a connection is returned overtakes all that wait."""
    database = Database(replace(settings, pool_size=1), name="erp test")
    order: list[str] = []
    begun = asyncio.Event()

    async def ask(name: str, times: int = 1) -> None:
        for _ in range(times):
            async with database.read() as db:
                order.append(name)
                begun.set()
                await db.execute(text("select 1"))

    greedy = asyncio.create_task(ask("greedy", 5))
    await begun.wait()
    await asyncio.gather(greedy, ask("first"), ask("second"))
    await database.close()
    assert order == ["greedy", "first", "second", *["greedy"] * 4]


async def test_whoever_waits_too_long_for_a_connection_is_told_and_leaves_no_place_taken(settings: Settings) -> None:
    database = Database(replace(settings, pool_size=1, pool_timeout_seconds=0.05), name="erp test")
    async with database.read():
        with pytest.raises(PoolTimeout):
            async with database.read():
                pass
    async with database.read() as db:
        assert await db.scalar(text("select 1")) == 1
    await database.close()
