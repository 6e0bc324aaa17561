"""A streaming replica: read while it has all that the primary had when the question came, left while it has not.

Whoever reads takes the primary's position in the WAL first, and reads the replica once that has been replayed there: so
nobody misses their own write, with no help from the client, whichever instance wrote it. A replica that lags, breaks,
hangs or was promoted is left for the primary, looked at again every half second, and taken back without a word; reads
that were on it when it broke are repeated on the primary.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from time import monotonic
from typing import Any, NamedTuple, TypeVar

import asyncpg
import msgspec
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from erp_service.observability import telemetry

T = TypeVar("T")

WAIT = 0.25
"""Seconds for which a reader waits until the replica has replayed what the primary had."""

LOOK_EVERY = 0.5
LOOK_SECONDS = 1.0  # a replica that takes longer to say where it is hangs
_CONNECTED = 0.5  # seconds to connect and to say once where it is
_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.02
_PAST = 7200  # positions of the primary that are kept: an hour of looks

UNKNOWN = "It was not looked at yet."
BEHIND = "It is behind."
BUSY = "Its connections are all in use."
AWAY = "It does not answer."
PROMOTED = "It is no replica any more."
ANOTHER = "It is a replica of another database."
FORKED = "It does not follow the primary's present timeline."

# A commit that waits for no flush is acknowledged before it is one: then only the insert position is past it.
_HERE = """
  (select case when current_setting('synchronous_commit') = 'off' then pg_current_wal_insert_lsn()
    else pg_current_wal_flush_lsn() end) as here (lsn)
"""
_MARK = """
select statement_timestamp() as at, pg_wal_lsn_diff(lsn, '0/0')::bigint as position, pg_walfile_name(lsn) as file
"""
_WHOSE = """
  (select system_identifier from pg_control_system()) as system,
  (select oid::bigint from pg_database where datname = current_database()) as database
"""
MARK = _MARK + "from" + _HERE
PRIMARY = _MARK + "," + _WHOSE + "from" + _HERE
_REPLAYED = """
select pg_is_in_recovery() as recovering, pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint as position
"""
# The control file names a new timeline at the first restart point after the switch; the receiver knows it at once, but
# says so only to members of pg_monitor.
_TIMELINES = """
  array[
    (select timeline_id from pg_control_checkpoint()),
    (select min_recovery_end_timeline from pg_control_recovery()),
    (select received_tli from pg_stat_wal_receiver)
  ] as timelines
"""
_REPLICA = _REPLAYED + ", pg_last_xact_replay_timestamp() as replayed_at," + _WHOSE + "," + _TIMELINES

_FAULTS = (
    SQLAlchemyError,
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)


class ReplicaUnavailable(Exception):
    """The replica does not answer this one: ask the primary. The text says why."""


class Mark(NamedTuple):
    """Where the primary was: what was committed before `at`, by the primary's clock, lies before `position`, in bytes
    of WAL."""

    at: datetime
    position: int
    timeline: int


class ReplicaNow(msgspec.Struct):
    """The replica as the answering instance saw it, at most a second ago."""

    in_use: bool
    fault: str | None
    lag_bytes: int | None
    lag_seconds: float | None


Ask = Callable[[str], Awaitable[Mapping[str, Any]]]
"""Runs one statement on the primary, and gives its only row."""


class Replica:
    """`places` is how many may read at once; whoever comes when all are taken reads the primary."""

    def __init__(self, engine: AsyncEngine, ask_primary: Ask, *, places: int) -> None:
        self._engine, self._ask, self._places = engine, ask_primary, places
        self._host = engine.url.host or "local"
        telemetry.replica_in_use.labels(self._host).set(0)
        self._fault: str | None = UNKNOWN
        self._timeline = 0
        self._taken = 0
        self._in_use: set[asyncpg.Connection] = set()
        self._past: deque[tuple[float, int]] = deque(maxlen=_PAST)
        self._lag: tuple[int, float] | None = None
        self._watching: asyncio.Task[None] | None = None

    def now(self) -> ReplicaNow:
        self._watch()
        size, seconds = self._lag or (None, None)
        return ReplicaNow(in_use=self._fault is None, fault=self._fault, lag_bytes=size, lag_seconds=seconds)

    async def reading(self, read: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """What `read` gives on the replica. Raises Left if the primary must be asked, and what `read` itself raises."""
        self._watch()
        if self._fault is not None:
            raise ReplicaUnavailable(self._fault)
        if self._taken >= self._places:
            raise ReplicaUnavailable(BUSY)
        self._taken += 1
        try:
            mark = await self._mark()
            async with self._judged(), self._connected() as (connection, driver):
                await self._catch_up(driver, mark)
                return await read(connection)
        finally:
            self._taken -= 1

    async def caught_up(self, connect: Callable[[], Awaitable[asyncpg.Connection]]) -> tuple[asyncpg.Connection, Mark]:
        """A connection of the caller's own, to the replica, which has replayed all up to the mark. Raises Left."""
        self._watch()
        if self._fault is not None:
            raise ReplicaUnavailable(self._fault)
        mark = await self._mark()
        async with self._judged():
            connection = await connect()
            try:
                async with asyncio.timeout(_CONNECTED):
                    await self._catch_up(connection, mark)
            except BaseException:
                connection.terminate()
                raise
        return connection, mark

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncConnection]:
        """For what can be seen on the replica alone: no position is waited for."""
        async with self._connected() as (connection, _):
            yield connection

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
        await self._engine.dispose()

    async def _mark(self) -> Mark:
        return _mark_of(await self._ask(MARK))

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple[AsyncConnection, asyncpg.Connection]]:
        connection = self._engine.connect()
        async with asyncio.timeout(_CONNECTED):
            await connection.start()
        driver: asyncpg.Connection = (await connection.get_raw_connection()).driver_connection
        self._in_use.add(driver)
        try:
            yield connection, driver
        except (*_FAULTS, asyncio.CancelledError):
            # what hangs would hang again when it is given back in order
            driver.terminate()
            raise
        finally:
            self._in_use.discard(driver)
            await connection.close()

    @asynccontextmanager
    async def _judged(self) -> AsyncIterator[None]:
        """Turns what the replica is to blame for into Left."""
        try:
            yield
        except _FAULTS as exc:
            state = _sqlstate(exc)
            # the primary would take as long, and the caller has waited long enough
            if state == "57014":
                raise
            # all else of these classes is about the connection or the server, not about the statement
            if state[:2] in ("", "08", "53", "57", "58", "F0", "XX"):
                self._leave(AWAY)
            raise ReplicaUnavailable(f"{type(exc).__name__} {state}".strip()) from exc

    async def _catch_up(self, driver: asyncpg.Connection, mark: Mark) -> None:
        """Raises Left unless the replica has replayed all up to the mark, or does within WAIT."""
        if mark.timeline != self._timeline:
            self._leave(FORKED)
            raise ReplicaUnavailable(FORKED)
        deadline, pause = monotonic() + WAIT, _FIRST_PAUSE
        while True:
            there = await driver.fetchrow(_REPLAYED, timeout=_CONNECTED)
            if not there["recovering"]:
                self._leave(PROMOTED)
                raise ReplicaUnavailable(PROMOTED)
            if there["position"] >= mark.position:
                return
            if monotonic() + pause > deadline:
                # those who come after do not wait again before a look has found it caught up
                self._leave(BEHIND)
                raise ReplicaUnavailable(BEHIND)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _leave(self, why: str) -> None:
        if self._fault != why:
            telemetry.log.warning("replica left", why=why)
        self._fault = why
        if why == AWAY:
            # a reader may find out before the next look: what was last known of it does not count any more
            self._lag = None
        telemetry.replica_in_use.labels(self._host).set(0)
        if why != BEHIND:
            # whoever reads there is told now, and reads the primary, rather than wait for what will not come
            for driver in list(self._in_use):
                driver.terminate()

    def _watch(self) -> None:
        if self._watching is None:
            self._watching = asyncio.create_task(self._look_for_ever(), name="replica")

    async def _look_for_ever(self) -> None:
        while True:
            try:
                await self._look(await self._ask(PRIMARY))
            except _FAULTS:
                # without the primary nothing can be said about the replica, and nobody can read either
                self._lag = None
            except Exception as exc:  # noqa: BLE001 if looking ended, the replica would stay left, or in use, for ever
                telemetry.log.error("looking at the replica failed", exc_info=exc)
            await asyncio.sleep(LOOK_EVERY)

    async def _look(self, primary: Mapping[str, Any]) -> None:
        mark = _mark_of(primary)
        self._past.append((monotonic(), mark.position))
        try:
            async with asyncio.timeout(LOOK_SECONDS), self._connected() as (_, driver):
                there = await driver.fetchrow(_REPLICA)
                self._note(mark, there)
                if (fault := _misfit(mark, primary, there)) is not None:
                    self._leave(fault)
                elif self._fault is not None:
                    self._timeline = mark.timeline
                    await self._catch_up(driver, mark)
                    telemetry.log.info("replica in use")
                    self._fault = None
        except ReplicaUnavailable:
            return
        except _FAULTS:
            self._leave(AWAY)
        telemetry.replica_in_use.labels(self._host).set(self._fault is None)

    def _note(self, mark: Mark, there: Mapping[str, Any]) -> None:
        size = max(0, mark.position - (there["position"] or 0))
        seconds = self._age(mark, there) if size else 0.0
        self._lag = (size, round(seconds, 3))
        telemetry.replica_lag_bytes.labels(self._host).set(size)
        telemetry.replica_lag_seconds.labels(self._host).set(seconds)

    def _age(self, mark: Mark, there: Mapping[str, Any]) -> float:
        """By our own clock, for how long the primary has been where the replica is not yet.

        What was replayed last says less: on a quiet primary it is old though nothing is missing."""
        for at, position in reversed(self._past):
            if position <= (there["position"] or 0):
                return monotonic() - at
        replayed = there["replayed_at"]
        oldest = monotonic() - self._past[0][0]
        return oldest if replayed is None else max(oldest, (mark.at - replayed).total_seconds())


def _mark_of(row: Mapping[str, Any]) -> Mark:
    # the first eight digits of a segment's name are its timeline
    return Mark(row["at"], row["position"], int(row["file"][:8], 16))


def _misfit(mark: Mark, primary: Mapping[str, Any], there: Mapping[str, Any]) -> str | None:
    if not there["recovering"]:
        return PROMOTED
    if (there["system"], there["database"]) != (primary["system"], primary["database"]):
        return ANOTHER
    if mark.timeline not in there["timelines"]:
        return FORKED
    return None


def _sqlstate(exc: BaseException) -> str:
    original = getattr(exc, "orig", None) or exc
    return getattr(original, "sqlstate", None) or getattr(original.__cause__, "sqlstate", None) or ""
