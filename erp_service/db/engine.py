"""The connection pools of one process: one to the primary and, if a replica is set, one to it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import asyncpg

from erp_service.db.addresses import parse
from erp_service.db.connections import KEEPALIVE, POOL_KEEPALIVE, connect, connect_for_sessions
from erp_service.db.leaders import LEADERS
from erp_service.db.pool import Pool
from erp_service.db.replica import Replica, ReplicaNow, ReplicaUnavailable
from erp_service.db.sessions import AutocommitSession, PoolReadSession, ReadSession, Row, WriteSession
from erp_service.observability import telemetry
from erp_service.settings import Settings

T = TypeVar("T")

_STATEMENTS = 300  # that stay prepared on each connection: more than the request paths have shapes


class OnReplica(NamedTuple):
    """A connection to the replica, which has replayed everything that was committed on the primary before `at`, a
    timestamp by the primary's clock."""

    connection: asyncpg.Connection
    url: str
    at: datetime


class Database:
    """The pools of one process. The first session opens the first connection. `reader` reads the primary."""

    def __init__(self, settings: Settings, *, name: str = "erp") -> None:
        self._hosts = parse(settings.database_url).hosts
        self._primary = _pool(settings.database_url, settings, name, leader=True, pooled=settings.pooled)
        self._begin = "begin" + "".join(
            f"; set local {limit} = {value}" for limit, value in _limits(settings).items() if settings.pooled
        )
        self.reader: ReadSession = PoolReadSession(self._primary)
        self._replica: Replica | None = None
        if settings.replica_url is not None:
            self._replica_url = settings.replica_url
            # one connection more than slots: the replica is checked while all slots are in use, too
            pool = _pool(settings.replica_url, settings, name, leader=False, pooled=False, more=1)
            host = parse(settings.replica_url).hosts[0].name or "local"
            self._replica = Replica(pool, self._row_of_primary, slots=settings.pool_size, host=host)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[WriteSession]:
        """One transaction on the primary: committed at the end, rolled back if the body raises."""
        async with self._primary.connection() as connection:
            await connection.execute(self._begin)
            session = WriteSession(connection)
            yield session
            await session.commit()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[ReadSession]:
        """Several statements on one connection to the primary; without that need, use `reader`."""
        async with self._primary.connection() as connection:
            yield ReadSession(connection)

    @asynccontextmanager
    async def autocommit(self) -> AsyncIterator[AutocommitSession]:
        """For single statements that write, on the primary."""
        async with self._primary.connection() as connection:
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
            connection, mark = await self._replica.caught_up(
                lambda: connect(url, name=name, leader=False, **server_settings)
            )
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
        async with self._replica.connection() as connection:
            yield ReadSession(connection)

    def replica(self) -> ReplicaNow | None:
        """None if none is set."""
        return None if self._replica is None else self._replica.now()

    def leader(self) -> str | None:
        """The host of the primary's address that led when a connection was opened last; None before the first."""
        host = LEADERS.last(self._hosts)
        return None if host is None else str(host)

    def pool(self) -> dict[str, int]:
        """The pool of the primary: connections that it may open, and those in use."""
        return {"size": self._primary.size, "in_use": self._primary.in_use}

    async def close(self) -> None:
        if self._replica is not None:
            await self._replica.close()
        await self._primary.close()

    async def _row_of_primary(self, statement: str) -> Mapping[str, Any]:
        async with self.read() as db:
            return dict((await db.fetch(statement)).one())


@asynccontextmanager
async def long_transaction(url: str, *, name: str) -> AsyncIterator[WriteSession]:
    """One transaction on a connection outside the pools, committed at the end; the time limits of requests are off.

    A server that works, or waits for a lock, looks every five seconds whether this process is still there."""
    limits = {"statement_timeout": "0", "lock_timeout": "0", "idle_in_transaction_session_timeout": "0"}
    limits |= {"client_connection_check_interval": "5000"}
    server_settings = {"application_name": name, "timezone": "UTC", **limits, **KEEPALIVE}
    connection = await connect_for_sessions(url, record_class=Row, server_settings=server_settings)
    try:
        await connection.execute("begin")
        session = WriteSession(connection)
        yield session
        await session.commit()
    finally:
        await connection.close()


def _pool(url: str, settings: Settings, name: str, *, leader: bool, pooled: bool, more: int = 0) -> Pool:
    """`pooled` is for an address of a pooler in transaction mode; `more` are connections beside those of the slots."""
    arguments: dict[str, Any] = {}
    server_settings = {"application_name": name, "timezone": "UTC"}
    if pooled:
        # Such a pooler keeps no session. It refuses limits that are set when a session starts, and statements do not
        # stay prepared; the unnamed one does for one round of the protocol, within which asyncpg uses it.
        arguments |= {"command_timeout": settings.statement_seconds, "statement_cache_size": 0}
    else:
        server_settings |= {**_limits(settings), **POOL_KEEPALIVE}
        arguments |= {
            # a server that hangs does not enforce its own limit
            "command_timeout": settings.statement_seconds + 5,
            "statement_cache_size": _STATEMENTS,
        }
    return Pool(
        lambda: connect_for_sessions(
            url, leader=leader, record_class=Row, server_settings=server_settings, **arguments
        ),
        size=settings.pool_size + more,
        wait_seconds=settings.pool_timeout_seconds,
    )


def _limits(settings: Settings) -> dict[str, str]:
    """Postgres' settings, in ms."""
    return {
        "statement_timeout": str(int(settings.statement_seconds * 1000)),
        # less than the lock_timeout: a process that is paused in a transaction loses its locks before others give up
        "idle_in_transaction_session_timeout": "5000",
        # a load balancer does not wait longer for the request
        "lock_timeout": "10000",
    }
