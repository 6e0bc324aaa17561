"""Sessions whose connection is lost at the wrong moment."""

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from erp_service import errors
from erp_service.db import Database, Session


async def cut_off(db: Session, owner: asyncpg.Connection) -> None:
    pid = await db.scalar(text("select pg_backend_pid()"))
    await owner.execute("select pg_terminate_backend($1, 1000)", pid)


async def test_refusal_turns_into_a_fault_of_ours_since_its_rollback_fails(
    database: Database, owner: asyncpg.Connection
) -> None:
    """The framework would answer 500, for the session ends with another exception than the handler's."""

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

    with pytest.raises(DBAPIError):
        await written()
    assert await owner.fetchval("select count(*) from procrastinate_workers") == 0


async def test_session_after_one_that_was_cut_off_works(database: Database, owner: asyncpg.Connection) -> None:
    async with database.read() as db:
        await cut_off(db, owner)
    async with database.read() as db:
        assert await db.scalar(text("select 1")) == 1
