"""Connections that die in the pool, and what a body leaves behind on one."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from erp_service.db.connections import connect_for_sessions
from erp_service.db.pool import Pool
from erp_service.db.sessions import Row
from erp_service.settings import Settings
from tests.db.failures import ANY, Failure, each
from tests.support.waiting import eventually


def pool_of(settings: Settings, *, sure_seconds: float = 0.0, size: int = 2) -> Pool:
    return Pool(
        lambda: connect_for_sessions(settings.database_url, record_class=Row),
        size=size,
        wait_seconds=5,
        sure_seconds=sure_seconds,
    )


@pytest.fixture
async def pool(settings: Settings) -> AsyncIterator[Pool]:
    pool = pool_of(settings)
    yield pool
    await pool.close()


@each(ANY)
async def test_connection_that_fails_its_ping_is_replaced(
    pool: Pool, failure: Failure, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pool.connection() as first, pool.connection() as second:
        pass
    execute, failures = asyncpg.Connection.execute, [failure()]

    async def fail_once(connection: asyncpg.Connection, query: str, *arguments: Any, **options: Any) -> Any:
        if failures:
            raise failures.pop()
        return await execute(connection, query, *arguments, **options)

    monkeypatch.setattr(asyncpg.Connection, "execute", fail_once)
    async with pool.connection() as third:
        assert await third.fetchval("select 1") == 1
    assert failures == []
    assert third not in (first, second)
    assert first.is_closed(), "the others were idle for as long"
    assert second.is_closed()


async def test_connection_that_the_server_closed_is_replaced_without_a_ping(
    settings: Settings, owner: asyncpg.Connection
) -> None:
    pool = pool_of(settings, sure_seconds=3600)
    async with pool.connection() as first:
        pid = await first.fetchval("select pg_backend_pid()")
    assert await owner.fetchval("select pg_terminate_backend($1, 5000)", pid)

    async def is_closed() -> bool:
        return bool(first.is_closed())

    await eventually(is_closed)
    async with pool.connection() as second:
        assert await second.fetchval("select 1") == 1
    await pool.close()


async def test_connection_that_was_just_used_costs_no_round_trip(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = pool_of(settings, sure_seconds=3600)
    async with pool.connection() as first:
        pass
    monkeypatch.setattr(asyncpg.Connection, "execute", None)
    async with pool.connection() as second:
        assert second is first
    await pool.close()


async def test_transaction_that_a_body_left_open_is_not_the_next_ones(pool: Pool) -> None:
    async with pool.connection() as first:
        await first.execute("begin")
    async with pool.connection() as second:
        assert not second.is_in_transaction()


async def test_transaction_of_a_body_that_fails_is_rolled_back_and_its_connection_kept(pool: Pool) -> None:
    connections: list[asyncpg.Connection] = []

    async def fail() -> None:
        async with pool.connection() as connection:
            connections.append(connection)
            await connection.execute("begin")
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    async with pool.connection() as connection:
        assert connection is connections[0]
        assert not connection.is_in_transaction()


@pytest.mark.parametrize(
    ("exc", "kept"),
    [
        (asyncpg.InternalClientError("cannot switch to state 11"), False),
        (asyncpg.InterfaceError("another operation is in progress"), False),
        (asyncpg.exceptions._base.DataError("invalid input for query argument $1"), True),
        (LookupError(), True),
    ],
)
async def test_open_connection_whose_state_is_not_known_is_not_used_again(
    pool: Pool, exc: Exception, kept: bool
) -> None:
    connections: list[asyncpg.Connection] = []

    async def fail(connection: asyncpg.Connection) -> None:
        connections.append(connection)
        raise exc

    with pytest.raises(type(exc)):
        await pool.call(fail)
    async with pool.connection() as connection:
        assert (connection is connections[0]) is kept
        assert await connection.fetchval("select 1") == 1


async def test_canceled_statement_does_not_go_on_under_the_next_session(pool: Pool, owner: asyncpg.Connection) -> None:
    pids: list[int] = []

    async def read() -> None:
        async with pool.connection() as connection:
            pids.append(await connection.fetchval("select pg_backend_pid()"))
            await connection.fetchval("select pg_sleep(60)")

    task = asyncio.create_task(read())
    sleeping = "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and pid = any($1)"

    async def is_sleeping() -> bool:
        return bool(await owner.fetchval(sleeping, pids))

    async def is_over() -> bool:
        return not await is_sleeping()

    await eventually(is_sleeping)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with pool.connection() as connection:
        assert await connection.fetchval("select 1") == 1
    await eventually(is_over)
    assert pool.in_use == 0


async def test_connection_in_use_when_the_pool_closes_is_closed_when_it_is_given_back(pool: Pool) -> None:
    async with pool.connection() as connection:
        await pool.close()
        assert await connection.fetchval("select 1") == 1
    assert connection.is_closed()
