"""The connection pools of one process: one to the primary, perhaps one to a replica."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import asyncpg
from sqlalchemy import Select, event, func, select, text
from sqlalchemy.exc import InvalidatePoolError, InvalidRequestError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from erp_service.db.connections import (
    KEEPALIVE,
    POOL_KEEPALIVE,
    as_connection_error,
    connect,
    detect_silence,
    engine_url,
)
from erp_service.db.outages import DATABASE_ERRORS
from erp_service.db.replica import Replica, ReplicaNow, ReplicaUnavailable
from erp_service.db.sessions import AutocommitSession, ReadSession, WriteSession
from erp_service.observability import telemetry
from erp_service.settings import Settings

T = TypeVar("T")

PING_SECONDS = 2.0


class OnReplica(NamedTuple):
    """A connection to the replica, which has what was committed on the primary before `at`, by the primary's clock."""

    connection: asyncpg.Connection
    url: str
    at: datetime


class Database:
    """The pools of one process. Nothing connects before the first session."""

    def __init__(self, settings: Settings, *, name: str = "erp") -> None:
        self._primary = _engine(settings.database_url, settings, name, pooled=settings.pooled)
        self._places = asyncio.Semaphore(settings.pool_size)
        self._patience = settings.pool_timeout_seconds
        self._autocommit = self._primary.execution_options(isolation_level="AUTOCOMMIT")
        self._limits = _for_this_transaction(settings) if settings.pooled else None
        self._replica: Replica | None = None
        if settings.replica_url is not None:
            self._replica_url = settings.replica_url
            # one more, to look at it while all others are in use
            engine = _engine(settings.replica_url, settings, name, pooled=False, more=1)
            engine = engine.execution_options(isolation_level="AUTOCOMMIT")
            self._replica = Replica(engine, self._told, places=settings.pool_size)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[WriteSession]:
        async with self._in_turn(), _reached(self._primary) as connection:
            transaction = await connection.begin()
            try:
                if self._limits is not None:
                    await connection.execute(self._limits)
                yield WriteSession(connection)
            except BaseException:
                # with the connection lost there is nothing to roll back, and the caller asks why it came to this
                with contextlib.suppress(*DATABASE_ERRORS):
                    await transaction.rollback()
                raise
            # unless it was rolled back inside
            if transaction.is_active:
                await transaction.commit()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[ReadSession]:
        """On the primary."""
        async with self.autocommit() as connection:
            yield ReadSession(connection)

    @asynccontextmanager
    async def autocommit(self) -> AsyncIterator[AutocommitSession]:
        """For single statements that write, on the primary."""
        async with self._in_turn(), _reached(self._autocommit) as connection:
            yield AutocommitSession(connection)

    async def reading(self, read: Callable[[ReadSession], Awaitable[T]]) -> T:
        """What `read` gives, on the replica if that has all that was committed before the call, else on the primary.

        `read` runs a second time if the replica breaks under it, so it must do nothing but read."""
        if self._replica is not None:
            try:
                found = await self._replica.reading(lambda connection: read(ReadSession(connection)))
            except ReplicaUnavailable:
                pass
            else:
                telemetry.repeatable_reads.labels("replica").inc()
                return found
        async with self.read() as db:
            found = await read(db)
        telemetry.repeatable_reads.labels("primary").inc()
        return found

    async def connect_to_replica(self, *, name: str, **server_settings: str) -> OnReplica | None:
        """A connection of one's own for what takes long; None if the primary must be read instead."""
        if self._replica is None:
            return None
        url = self._replica_url
        try:
            connection, mark = await self._replica.caught_up(lambda: connect(url, name=name, **server_settings))
        except ReplicaUnavailable:
            telemetry.repeatable_reads.labels("primary").inc()
            return None
        telemetry.repeatable_reads.labels("replica").inc()
        return OnReplica(connection, url, mark.at)

    @asynccontextmanager
    async def on_replica(self) -> AsyncIterator[ReadSession]:
        """The replica as it is, however far behind: for what only it knows, such as the progress of a COPY there."""
        if self._replica is None:
            raise ConnectionError("there is no replica")
        async with self._replica.session() as connection:
            yield ReadSession(connection)

    def replica(self) -> ReplicaNow | None:
        """None if none is set."""
        return None if self._replica is None else self._replica.now()

    def pool(self) -> dict[str, int]:
        pool: Any = self._primary.pool
        return {"size": pool.size(), "in_use": pool.checkedout()}

    async def close(self) -> None:
        if self._replica is not None:
            await self._replica.close()
        await self._primary.dispose()

    @asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[None]:
        """The pool itself lets whoever comes as a connection is given back pass by all who wait for one."""
        try:
            async with asyncio.timeout(self._patience):
                await self._places.acquire()
        except TimeoutError:
            raise PoolTimeout(f"no connection was given back within {self._patience} s") from None
        try:
            yield
        finally:
            self._places.release()

    async def _told(self, statement: str) -> Mapping[str, Any]:
        async with self.read() as db:
            return dict((await db.execute(text(statement))).mappings().one())


@asynccontextmanager
async def long_transaction(url: str, *, name: str) -> AsyncIterator[WriteSession]:
    """One transaction on a connection outside the pools, committed at the end; the time limits of requests are off."""
    limits = {"statement_timeout": "0", "lock_timeout": "0", "idle_in_transaction_session_timeout": "0"}
    server_settings = {"application_name": name, "timezone": "UTC", **limits, **KEEPALIVE}
    engine = create_async_engine(
        engine_url(url), poolclass=NullPool, connect_args={"timeout": 5, "server_settings": server_settings}
    )
    try:
        async with engine.begin() as connection:
            yield WriteSession(connection)
    finally:
        await engine.dispose()


def _engine(url: str, settings: Settings, name: str, *, pooled: bool, more: int = 0) -> AsyncEngine:
    arguments: dict[str, Any] = {"timeout": 5}
    if pooled:
        # a pooler in transaction mode keeps no session: no limits that were set at its start, which it would refuse,
        # and no statement that stays prepared. Of the unnamed one asyncpg makes use within one round of the protocol
        arguments |= {
            "server_settings": {"application_name": name, "timezone": "UTC"},
            "command_timeout": settings.statement_seconds,
            "statement_cache_size": 0,
            "prepared_statement_cache_size": 0,
            "prepared_statement_name_func": str,
        }
    else:
        arguments |= {
            "server_settings": {"application_name": name, "timezone": "UTC", **_limits(settings), **POOL_KEEPALIVE},
            # a server that hangs does not keep its own limit
            "command_timeout": settings.statement_seconds + 5,
        }
    engine = create_async_engine(
        engine_url(url),
        pool_size=settings.pool_size + more,
        max_overflow=0,
        pool_timeout=settings.pool_timeout_seconds,
        connect_args=arguments,
    )
    event.listen(engine.sync_engine, "connect", detect_silence)
    event.listen(engine.sync_engine, "checkout", _answers)
    return engine


def _limits(settings: Settings) -> dict[str, str]:
    return {
        "statement_timeout": str(int(settings.statement_seconds * 1000)),
        # below the lock_timeout: a process that is paused in a transaction lets go before the others give up
        "idle_in_transaction_session_timeout": "5000",
        # a request that waits longer for a row than a load balancer waits for it helps nobody
        "lock_timeout": "10000",
    }


def _for_this_transaction(settings: Settings) -> Select[*tuple[Any, ...]]:
    """The same limits for one transaction, in one statement."""
    return select(*(func.set_config(name, value, True) for name, value in _limits(settings).items()))


def _answers(connection: Any, _record: Any, _proxy: Any) -> None:
    """Costs one round trip a checkout, and saves every request that follows a restart of Postgres.

    SQLAlchemy's own ping waits for ever on a connection that hangs without closing."""
    try:
        connection.run_async(_ping)
    except DATABASE_ERRORS as exc:
        raise InvalidatePoolError from exc


async def _ping(connection: asyncpg.Connection) -> None:
    try:
        await connection.execute("select", timeout=PING_SECONDS)
    except BaseException:
        # SQLAlchemy would first wait for an orderly end
        connection.terminate()
        raise


@asynccontextmanager
async def _reached(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Raises ConnectionError if the server cannot be reached."""
    connection = engine.connect()
    # InvalidRequestError is what the pool raises when a second new connection has failed its ping as well
    with as_connection_error(InvalidRequestError):
        await connection.start()
    try:
        yield connection
    finally:
        await connection.close()
