"""The connection pools of one process: one to the primary and, if a replica is set, one to it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import asyncpg
import msgspec

from erp_service.db.connections import KEEPALIVE, POOL_KEEPALIVE, SessionConnection, connect, connect_for_sessions
from erp_service.db.outages import DATABASE_ERRORS, may_succeed_elsewhere
from erp_service.db.pool import Pool
from erp_service.db.replicas.hosts import Standby, Standbys
from erp_service.db.replicas.leader_watch import LeaderAway, LeaderWatch
from erp_service.db.replicas.replica import Replica, ReplicaNow, ReplicaUnavailable
from erp_service.db.servers.addresses import Address, Host, parse
from erp_service.db.servers.leaders import LEADERS
from erp_service.db.sessions import AutocommitSession, PoolReadSession, ReadSession, Row, WriteSession
from erp_service.observability import telemetry
from erp_service.settings import Settings

T = TypeVar("T")

_ATTEMPTS = 3  # of a read, while servers come and go
_AUTHORITY_CONNECTIONS = 4  # one for each kind of look-up, which each share one, and one more
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
        self._begin = "begin" + "".join(
            f"; set local {limit} = {value}" for limit, value in _limits(settings).items() if settings.pooled
        )
        self._replica: Replica | None = None
        self._leader: LeaderWatch | None = None
        if settings.replica_url is not None:
            self._replica_address = parse(settings.replica_url)
            self._leader = LeaderWatch(lambda: connect(settings.listen_url, name=f"{name} leader"))
            self._replica = _replica(self._replica_address, settings, name, self._leader)
        self._primary = _primary(settings, name, self._leader)
        self.reader: ReadSession = PoolReadSession(self._primary)

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
        async with self._primary.connection(reads=True) as connection:
            yield ReadSession(connection)

    @asynccontextmanager
    async def autocommit(self) -> AsyncIterator[AutocommitSession]:
        """For single statements that write, on the primary."""
        async with self._primary.connection() as connection:
            yield AutocommitSession(connection)

    async def reading(
        self, read: Callable[[ReadSession], Awaitable[T]], *, as_of: Callable[[datetime], object] | None = None
    ) -> T:
        """The result of `read`: from the replica if it has all that was committed before the call, else from the
        primary.

        If that server fails meanwhile, `read` runs again, on another one, so it must only read. With `as_of`, a replica
        is read while no primary can be reached, too, and `as_of` is called with the time up to which it surely has all
        that was committed, by the primary's clock: the caller must pass that on."""
        fault: BaseException | None = None
        for _ in range(_ATTEMPTS):
            try:
                return await self._reading_with_leader(read)
            except DATABASE_ERRORS as exc:
                if as_of is None or not may_succeed_elsewhere(exc):
                    raise
                fault = exc
            if await self._is_leader_away(fault):
                try:
                    return await self._reading_without_leader(read, as_of)
                except ReplicaUnavailable as exc:
                    fault = LeaderAway(f"no server that leads can be reached, and no replica may be read: {exc}")
        raise fault or AssertionError("no attempt")

    async def _reading_with_leader(self, read: Callable[[ReadSession], Awaitable[T]]) -> T:
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

    async def _is_leader_away(self, exc: BaseException) -> bool:
        """Or else a connection broke, or another server leads: a read there is as good as it was on the first."""
        if self._leader is None:
            return False
        if not isinstance(exc, LeaderAway):
            try:
                await self._leader.now()
            except LeaderAway:
                return True
            except DATABASE_ERRORS:
                return False
        return isinstance(exc, LeaderAway)

    async def _reading_without_leader(
        self, read: Callable[[ReadSession], Awaitable[T]], as_of: Callable[[datetime], object]
    ) -> T:
        if self._replica is None:
            raise ReplicaUnavailable("no replica is configured")
        result, mark = await self._replica.reading_without_leader(lambda connection: read(ReadSession(connection)))
        telemetry.repeatable_reads.labels("replica alone").inc()
        as_of(mark.at)
        return result

    @asynccontextmanager
    async def authority_without_leader(self) -> AsyncIterator[ReadSession]:
        """What users may do, of a replica, while no primary can be reached: see ops/security.md.

        As the role that asks the primary. Raises ConnectionError if that must not be, or cannot."""
        if self._replica is None or self._leader is None:
            raise ConnectionError("no replica is configured")
        # whoever fills the pool of the primary must not be let in by what a replica knows
        if not self._leader.is_away and not await self._is_leader_away(ConnectionError()):
            raise ConnectionError("a primary can be reached")
        try:
            async with self._replica.without_leader(authority=True) as (connection, _):
                yield ReadSession(connection)
        except ReplicaUnavailable as exc:
            raise ConnectionError(str(exc)) from exc

    async def connect_to_replica(self, *, name: str, **server_settings: str) -> OnReplica | None:
        """A connection outside the pool for a long read; None if the primary must be read instead."""
        if self._replica is None:
            return None

        def connect_to(host: Host) -> Awaitable[asyncpg.Connection]:
            return connect(self._replica_address.url(host), name=name, leader=False, **server_settings)

        try:
            connection, mark, host = await self._replica.caught_up(connect_to)
        except ReplicaUnavailable:
            telemetry.repeatable_reads.labels("primary").inc()
            return None
        telemetry.repeatable_reads.labels("replica").inc()
        # whoever opens more connections for the same snapshot needs the same server
        return OnReplica(connection, self._replica_address.url(host), mark.at)

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
        if self._leader is not None:
            await self._leader.close()
        await self._primary.close()

    def may_be_read_alone(self) -> bool:
        """Whether reports could be read from a replica now, if no primary can be reached."""
        return self._replica is not None and self._replica.may_be_read_alone()

    @property
    def is_away(self) -> bool:
        """No server that leads can be reached, as far as this process knows: it watches that only beside a replica."""
        return self._leader is not None and self._leader.is_away


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


def _primary(settings: Settings, name: str, leader: LeaderWatch | None) -> Pool:
    """Fails at once while the leader is known to be away."""
    connect_one = _connector(settings.database_url, settings, name, leader=True, pooled=settings.pooled)
    if leader is None:
        return Pool(connect_one, size=settings.pool_size, wait_seconds=settings.pool_timeout_seconds)
    pool = Pool(
        lambda: leader.unless_away(connect_one()),
        size=settings.pool_size,
        wait_seconds=settings.pool_timeout_seconds,
        require=leader.require,
    )
    leader.when_away(pool.end_reads)
    return pool


def _replica(address: Address, settings: Settings, name: str, leader: LeaderWatch) -> Replica:
    # Whoever asks the primary what a user may do asks the standby as the same role. That of the replica cannot: it may
    # not read the digests of keys, nor sign-ins.
    asking = parse(settings.listen_url)
    authority = msgspec.structs.replace(
        address, user=asking.user, password=asking.password, database=asking.database, target=None
    )

    def standby_of(host: Host) -> Standby:
        pools = [
            Pool(
                _connector(of.url(host), settings, name, leader=False, pooled=False),
                size=size,
                wait_seconds=settings.pool_timeout_seconds,
            )
            # beside those of the slots one for the checks, and one for the comparison with other servers
            for of, size in ((address, settings.pool_size + 2), (authority, _AUTHORITY_CONNECTIONS))
        ]
        return Standby(host, *pools)

    return Replica(
        Standbys(address.hosts, standby_of),
        leader,
        slots=settings.pool_size,
        alone_seconds=settings.read_without_primary_seconds,
    )


def _connector(
    url: str, settings: Settings, name: str, *, leader: bool, pooled: bool
) -> Callable[[], Awaitable[SessionConnection]]:
    """Opens connections of a pool. `pooled` is for an address of a pooler in transaction mode."""
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
    return lambda: connect_for_sessions(
        url, leader=leader, record_class=Row, server_settings=server_settings, **arguments
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
