"""The connection pools of one process: one to the primary and, if a replica is set, one to it."""

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
    """A connection to the replica, which has replayed everything that was committed on the primary before `at`, a
    timestamp by the primary's clock."""

    connection: asyncpg.Connection
    url: str
    at: datetime


class Database:
    """The pools of one process. The first session opens the first connection."""

    def __init__(self, settings: Settings, *, name: str = "erp") -> None:
        self._primary = _engine(settings.database_url, settings, name, pooled=settings.pooled)
        self._slots = asyncio.Semaphore(settings.pool_size)
        self._slot_seconds = settings.pool_timeout_seconds
        self._autocommit = self._primary.execution_options(isolation_level="AUTOCOMMIT")
        self._transaction_limits = _transaction_limits(settings) if settings.pooled else None
        self._replica: Replica | None = None
        if settings.replica_url is not None:
            self._replica_url = settings.replica_url
            # one connection more than slots: the replica is checked while all slots are in use, too
            engine = _engine(settings.replica_url, settings, name, pooled=False, more=1)
            engine = engine.execution_options(isolation_level="AUTOCOMMIT")
            self._replica = Replica(engine, self._row_of_primary, slots=settings.pool_size)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[WriteSession]:
        """One transaction on the primary: committed at the end, rolled back if the body raises."""
        async with self._slot(), _connected(self._primary) as connection:
            transaction = await connection.begin()
            try:
                if self._transaction_limits is not None:
                    await connection.execute(self._transaction_limits)
                yield WriteSession(connection)
            except BaseException:
                # on a lost connection the rollback fails too, and must not hide the first error from the caller
                with contextlib.suppress(*DATABASE_ERRORS):
                    await transaction.rollback()
                raise
            # the body may have rolled it back
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
        async with self._slot(), _connected(self._autocommit) as connection:
            yield AutocommitSession(connection)

    async def reading(self, read: Callable[[ReadSession], Awaitable[T]]) -> T:
        """The result of `read`: from the replica if it has all that was committed before the call, else from the
        primary.

        If the replica fails meanwhile, `read` runs a second time, on the primary, so it must only read."""
        if self._replica is not None:
            try:
                result = await self._replica.reading(lambda connection: read(ReadSession(connection)))
            except ReplicaUnavailable:
                pass
            else:
                telemetry.repeatable_reads.labels("replica").inc()
                return result
        async with self.read() as db:
            result = await read(db)
        telemetry.repeatable_reads.labels("primary").inc()
        return result

    async def connect_to_replica(self, *, name: str, **server_settings: str) -> OnReplica | None:
        """A connection outside the pool for a long read; None if the primary must be read instead."""
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
        """The replica, however far behind: for what only it knows, such as the progress of a COPY there."""
        if self._replica is None:
            raise ConnectionError("there is no replica")
        async with self._replica.session() as connection:
            yield ReadSession(connection)

    def replica(self) -> ReplicaNow | None:
        """None if none is set."""
        return None if self._replica is None else self._replica.now()

    def pool(self) -> dict[str, int]:
        """The pool of the primary: connections that it may open, and those in use."""
        pool: Any = self._primary.pool
        return {"size": pool.size(), "in_use": pool.checkedout()}

    async def close(self) -> None:
        if self._replica is not None:
            await self._replica.close()
        await self._primary.dispose()

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        """Wait in turn for one of the pool's connections; raises SQLAlchemy's TimeoutError.

        The pool itself is not fair: a session that starts when a connection is returned overtakes all that wait."""
        try:
            async with asyncio.timeout(self._slot_seconds):
                await self._slots.acquire()
        except TimeoutError:
            raise PoolTimeout(f"no connection was given back within {self._slot_seconds} s") from None
        try:
            yield
        finally:
            self._slots.release()

    async def _row_of_primary(self, statement: str) -> Mapping[str, Any]:
        async with self.read() as db:
            return dict((await db.execute(text(statement))).mappings().one())


@asynccontextmanager
async def long_transaction(url: str, *, name: str) -> AsyncIterator[WriteSession]:
    """One transaction on a connection outside the pools, committed at the end; the time limits of requests are off."""
    limits = {"statement_timeout": "0", "lock_timeout": "0", "idle_in_transaction_session_timeout": "0"}
    server_settings = {"application_name": name, "timezone": "UTC", **limits, **KEEPALIVE}
    engine = create_async_engine(
        engine_url(url),
        poolclass=NullPool,
        hide_parameters=True,
        connect_args={"timeout": 5, "server_settings": server_settings},
    )
    try:
        async with engine.begin() as connection:
            yield WriteSession(connection)
    finally:
        await engine.dispose()


def _engine(url: str, settings: Settings, name: str, *, pooled: bool, more: int = 0) -> AsyncEngine:
    """`pooled` is for an address of a pooler in transaction mode; `more` are connections beside those of the slots."""
    arguments: dict[str, Any] = {"timeout": 5}
    if pooled:
        # Such a pooler keeps no session. It refuses limits that are set when a session starts, and statements do not
        # stay prepared; the unnamed one does for one round of the protocol, within which asyncpg uses it.
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
            # a server that hangs does not enforce its own limit
            "command_timeout": settings.statement_seconds + 5,
        }
    engine = create_async_engine(
        engine_url(url),
        # they may be hashes of passwords, and the text of an error ends in logs
        hide_parameters=True,
        pool_size=settings.pool_size + more,
        max_overflow=0,
        pool_timeout=settings.pool_timeout_seconds,
        connect_args=arguments,
    )
    event.listen(engine.sync_engine, "connect", detect_silence)
    event.listen(engine.sync_engine, "checkout", _check_alive)
    return engine


def _limits(settings: Settings) -> dict[str, str]:
    """Postgres' settings, in ms."""
    return {
        "statement_timeout": str(int(settings.statement_seconds * 1000)),
        # less than the lock_timeout: a process that is paused in a transaction loses its locks before others give up
        "idle_in_transaction_session_timeout": "5000",
        # a load balancer does not wait longer for the request
        "lock_timeout": "10000",
    }


def _transaction_limits(settings: Settings) -> Select[*tuple[Any, ...]]:
    """One statement that sets the same limits for one transaction."""
    return select(*(func.set_config(name, value, True) for name, value in _limits(settings).items()))


def _check_alive(connection: Any, _record: Any, _proxy: Any) -> None:
    """Replace a connection that died in the pool: without this, each would fail one request after a restart of
    Postgres. It costs a round trip for each session.

    SQLAlchemy's own ping waits without limit on a connection that hangs without closing."""
    try:
        connection.run_async(_ping)
    except DATABASE_ERRORS as exc:
        raise InvalidatePoolError from exc


async def _ping(connection: asyncpg.Connection) -> None:
    try:
        await connection.execute("select", timeout=PING_SECONDS)
    except BaseException:
        # SQLAlchemy would wait for an orderly close
        connection.terminate()
        raise


@asynccontextmanager
async def _connected(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Raises ConnectionError if the server cannot be reached."""
    connection = engine.connect()
    # the pool raises InvalidRequestError when a second new connection has failed its ping, too
    with as_connection_error(InvalidRequestError):
        await connection.start()
    try:
        yield connection
    finally:
        await connection.close()
