"""A streaming replica: it is read while it has everything that the primary had when a request came, and else not.

A reader first takes the primary's position in the WAL, and reads the replica once it has replayed up to there. So all
users see their own writes, without help from the client and whichever instance wrote them. A replica that lags, fails,
hangs or was promoted is not read; it is checked twice a second and read again as soon as it is fit. A read that was on
it when it failed is repeated on the primary.

Of several servers one is used at a time, and left for the next as soon as it cannot be read. While no primary can be
reached, without_leader.py says what may be read."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Annotated, NamedTuple, TypeVar

import asyncpg
import msgspec
from msgspec import Meta

from erp_service.db.backoff import Backoff
from erp_service.db.outages import DATABASE_ERRORS, STATEMENT_CANCELED, is_server_failure, sqlstate_of
from erp_service.db.replicas import state
from erp_service.db.replicas.hosts import Standby, Standbys
from erp_service.db.replicas.leader_watch import Known, LeaderWatch
from erp_service.db.replicas.state import AWAY, BEHIND, BUSY, FORKED, PROMOTED, UNKNOWN, LagMeter, Mark
from erp_service.db.replicas.without_leader import PATIENCE_SECONDS, TOO_LONG_AGO, Choice, Replayed, Unfit
from erp_service.db.servers.addresses import Host
from erp_service.observability import telemetry

T = TypeVar("T")

WAIT = 0.25
"""Seconds for which a reader waits until the replica has replayed the primary's position."""

_CHECK_EVERY = 0.5
_CHECK_SECONDS = 1.0  # a replica that takes longer to answer a check hangs
_ANSWER_SECONDS = 0.5  # for a reader: to answer once how far it is
_BEHIND_SECONDS = 5.0  # after so long another server is tried
_ROUND_SECONDS = 2.0  # between looks at all servers, once none of them could be read for some time
_SLOT_SECONDS = 5.0  # that a read waits for others, where it can go nowhere else


class ReplicaUnavailable(Exception):
    """The replica must not or cannot be read now: read the primary. The text says why."""


class ReplicaNow(msgspec.Struct):
    """The replica as the answering instance saw it, at most a second ago."""

    host: Annotated[str, Meta(description="the server that this instance reads, of those that are configured")]
    in_use: Annotated[bool, Meta(description="whether reads go there now")]
    fault: Annotated[str | None, Meta(description="why not, if not")]
    lag_bytes: Annotated[int | None, Meta(description="how much WAL it has not replayed; null if it is not known")]
    lag_seconds: Annotated[float | None, Meta(description="how far it is behind; null if it is not known")]


class CaughtUp(NamedTuple):
    """A new connection to `host`, which has replayed up to the mark."""

    connection: asyncpg.Connection
    mark: Mark
    host: Host


class Replica:
    """`slots` is how many sessions may read at once; those beyond it read the primary. Without a leader it is read for
    `alone_seconds` after one was reached last."""

    def __init__(self, standbys: Standbys, leader: LeaderWatch, *, slots: int, alone_seconds: float) -> None:
        self._standbys, self._leader = standbys, leader
        self._slots, self._alone_seconds = asyncio.Semaphore(slots), alone_seconds
        self._fault: str | None = UNKNOWN
        self._fault_since = monotonic()
        self._timeline = 0
        self._meter = LagMeter()
        self._lag: tuple[int, float] | None = None
        self._checks: asyncio.Task[None] | None = None
        self._replayed = Replayed(standbys, leader)
        self._choice = Choice(standbys, leader, self._use)
        telemetry.replica_in_use.labels(self._standbys.current.name).set(0)

    def now(self) -> ReplicaNow:
        self._start_checks()
        size, seconds = self._lag or (None, None)
        host = self._standbys.current.name
        return ReplicaNow(host, in_use=self._fault is None, fault=self._fault, lag_bytes=size, lag_seconds=seconds)

    async def reading(self, read: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        """The result of `read` on the replica. Raises ReplicaUnavailable, and what `read` itself raises; LeaderAway if
        the primary does not say how far it is."""
        self._require_use()
        if self._slots.locked():
            raise ReplicaUnavailable(BUSY)
        async with self._slots:
            mark = (await self._leader.now()).mark
            standby = self._standbys.current
            async with self._as_unavailable(standby), standby.connection() as connection:
                await self._catch_up(standby, connection, mark)
                return await read(connection)

    async def caught_up(self, connect: Callable[[Host], Awaitable[asyncpg.Connection]]) -> CaughtUp:
        """Raises ReplicaUnavailable, and LeaderAway as `reading`."""
        self._require_use()
        mark = (await self._leader.now()).mark
        standby = self._standbys.current
        async with self._as_unavailable(standby):
            connection = await connect(standby.host)
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await self._catch_up(standby, connection, mark)
            except BaseException:
                connection.terminate()
                raise
        return CaughtUp(connection, mark, standby.host)

    async def reading_without_leader(self, read: Callable[[asyncpg.Connection], Awaitable[T]]) -> tuple[T, Mark]:
        """The result of `read` while no leader can be reached, and the mark up to which it shows everything.

        Raises ReplicaUnavailable, and what `read` itself raises."""
        try:
            async with asyncio.timeout(_SLOT_SECONDS):
                await self._slots.acquire()
        except TimeoutError:
            raise ReplicaUnavailable(BUSY) from None
        try:
            async with self.without_leader() as (connection, mark):
                return await read(connection), mark
        finally:
            self._slots.release()

    def may_be_read_alone(self) -> bool:
        """Whether a leader was reached lately enough for a read without one."""
        return monotonic() - self._leader.reached_at <= self._alone_seconds

    @asynccontextmanager
    async def without_leader(self, *, authority: bool = False) -> AsyncIterator[tuple[asyncpg.Connection, Mark]]:
        """A connection for a read while no leader can be reached, and the mark up to which it shows everything; with
        `authority`, one for what users may do. Raises ReplicaUnavailable."""
        self._start_checks()
        if not self.may_be_read_alone():
            raise ReplicaUnavailable(TOO_LONG_AGO)
        try:
            await self._choice.make()
            standby = self._standbys.current
            connecting = standby.connection(authority=authority, seconds=PATIENCE_SECONDS)
            async with self._as_unavailable(standby), connecting as connection:
                yield connection, await self._replayed.mark(standby, connection)
        except Unfit as exc:
            self._choice.forget()
            raise ReplicaUnavailable(str(exc)) from exc

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """For what only the replica knows, however far behind it is."""
        async with self._standbys.current.connection() as connection:
            yield connection

    async def close(self) -> None:
        if self._checks is not None:
            self._checks.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._checks
        await self._choice.close()
        await self._standbys.current.close()

    def _require_use(self) -> None:
        self._start_checks()
        if self._fault is not None:
            raise ReplicaUnavailable(self._fault)

    @asynccontextmanager
    async def _as_unavailable(self, standby: Standby) -> AsyncIterator[None]:
        """Raise ReplicaUnavailable for what the primary, or another server, may do better."""
        try:
            yield
        except DATABASE_ERRORS as exc:
            sqlstate = sqlstate_of(exc)
            # the statement would take as long on the primary, and the caller has waited long enough
            if sqlstate == STATEMENT_CANCELED:
                raise
            if is_server_failure(exc):
                self._choice.forget()
                self._stop_using(standby, AWAY)
            raise ReplicaUnavailable(f"{type(exc).__name__} {sqlstate}".strip()) from exc

    async def _catch_up(self, standby: Standby, driver: asyncpg.Connection, mark: Mark) -> None:
        """Raises ReplicaUnavailable unless the replica replays up to the mark within WAIT."""
        if mark.timeline != self._timeline:
            self._stop_using(standby, FORKED)
            raise ReplicaUnavailable(FORKED)
        deadline, pauses = monotonic() + WAIT, Backoff(0.001, 0.02)
        while True:
            row = await driver.fetchrow(state.REPLAYED, timeout=_ANSWER_SECONDS)
            if not row["recovering"]:
                self._stop_using(standby, PROMOTED)
                raise ReplicaUnavailable(PROMOTED)
            if row["position"] >= mark.position:
                return
            pause = pauses.next()
            if monotonic() + pause > deadline:
                # the next readers do not wait again: they read the primary until a check finds it caught up
                self._stop_using(standby, BEHIND)
                raise ReplicaUnavailable(BEHIND)
            await asyncio.sleep(pause)

    def _stop_using(self, standby: Standby, fault: str) -> None:
        if standby is not self._standbys.current:
            # a read that was on the one before
            return
        if self._fault != fault:
            telemetry.log.warning("replica not in use", fault=fault, host=standby.name)
            self._fault_since = monotonic()
        self._fault = fault
        if fault == AWAY:
            # a reader may find out before the next check does, and the last known lag is no longer true
            self._lag = None
        telemetry.replica_in_use.labels(standby.name).set(0)
        if fault != BEHIND:
            standby.end_reads()

    def _use(self, standby: Standby) -> None:
        if standby is self._standbys.current:
            return
        for gauge in (telemetry.replica_in_use, telemetry.replica_lag_bytes, telemetry.replica_lag_seconds):
            with contextlib.suppress(KeyError):
                gauge.remove(self._standbys.current.name)
        self._standbys.use(standby)
        self._fault, self._fault_since, self._lag = UNKNOWN, monotonic(), None
        telemetry.log.info("another replica is looked at", host=standby.name)
        telemetry.replica_in_use.labels(standby.name).set(0)

    def _start_checks(self) -> None:
        if self._checks is None:
            self._checks = asyncio.create_task(self._check_forever(), name="replica")

    async def _check_forever(self) -> None:
        pauses = Backoff(_CHECK_EVERY, _ROUND_SECONDS)
        while True:
            pause = _CHECK_EVERY
            try:
                for _ in self._standbys.hosts:
                    known = await self._leader.now()
                    await self._check(known)
                    if not self._is_to_be_left():
                        pauses.reset()
                        await self._standbys.learn(known.mark.timeline, known.identity)
                        break
                    self._use(self._standbys.after_current())
                else:
                    # each look opens connections
                    pause = pauses.next()
            except DATABASE_ERRORS:
                # without the primary the replica cannot be judged by its position
                self._lag = None
            except Exception as exc:  # noqa: BLE001 without checks the replica would stay in use, or unused, for ever
                telemetry.log.error("the check of the replica failed", exc_info=exc)
            await asyncio.sleep(pause)

    def _is_to_be_left(self) -> bool:
        if len(self._standbys.hosts) == 1 or self._fault is None:
            return False
        return self._fault != BEHIND or monotonic() - self._fault_since > _BEHIND_SECONDS

    async def _check(self, known: Known) -> None:
        mark, standby = known.mark, self._standbys.current
        self._meter.note_primary(mark)
        try:
            async with asyncio.timeout(_CHECK_SECONDS), standby.connection() as driver:
                row = await driver.fetchrow(state.REPLICA)
                self._show_lag(standby, *self._meter.of(mark, row))
                newest = self._standbys.timeline_of(standby.host, state.followed(row))
                if (fault := state.mismatch(mark, known.identity, row, newest)) is not None:
                    self._stop_using(standby, fault)
                elif self._fault is not None:
                    self._timeline = mark.timeline
                    await self._catch_up(standby, driver, mark)
                    telemetry.log.info("replica in use", host=standby.name)
                    self._fault = None
        except ReplicaUnavailable:
            return
        except DATABASE_ERRORS:
            self._stop_using(standby, AWAY)
        telemetry.replica_in_use.labels(standby.name).set(self._fault is None)

    def _show_lag(self, standby: Standby, size: int, seconds: float) -> None:
        self._lag = (size, round(seconds, 3))
        telemetry.replica_lag_bytes.labels(standby.name).set(size)
        telemetry.replica_lag_seconds.labels(standby.name).set(seconds)
