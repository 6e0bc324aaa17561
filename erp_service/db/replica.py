"""A streaming replica: it is read while it has everything that the primary had when a request came, and else not.

A reader first takes the primary's position in the WAL, and reads the replica once it has replayed up to there. So all
users see their own writes, without help from the client and whichever instance wrote them. A replica that lags, fails,
hangs or was promoted is not read; it is checked twice a second and read again as soon as it is fit. A read that was on
it when it failed is repeated on the primary.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Annotated, TypeVar

import asyncpg
import msgspec
from msgspec import Meta

from erp_service.db import replica_state
from erp_service.db.backoff import Backoff
from erp_service.db.outages import DATABASE_ERRORS, STATEMENT_CANCELED, is_server_failure, sqlstate_of
from erp_service.db.pool import Pool
from erp_service.db.replica_state import AWAY, BEHIND, BUSY, FORKED, PROMOTED, UNKNOWN, LagMeter, Mark, Row
from erp_service.observability import telemetry

T = TypeVar("T")

WAIT = 0.25
"""Seconds for which a reader waits until the replica has replayed the primary's position."""

_CHECK_EVERY = 0.5
_CHECK_SECONDS = 1.0  # a replica that takes longer to answer a check hangs
_ANSWER_SECONDS = 0.5  # for a reader: to connect, and to answer once how far it is

QueryPrimary = Callable[[str], Awaitable[Row]]
"""Runs one statement on the primary and returns its only row."""


class ReplicaUnavailable(Exception):
    """The replica must not or cannot be read now: read the primary. The text says why."""


class ReplicaNow(msgspec.Struct):
    """The replica as the answering instance saw it, at most a second ago."""

    in_use: Annotated[bool, Meta(description="whether reads go there now")]
    fault: Annotated[str | None, Meta(description="why not, if not")]
    lag_bytes: Annotated[int | None, Meta(description="how much WAL it has not replayed; null if it is not known")]
    lag_seconds: Annotated[float | None, Meta(description="how far it is behind; null if it is not known")]


class Replica:
    """`slots` is how many sessions may read at once; those beyond it read the primary."""

    def __init__(self, pool: Pool, query_primary: QueryPrimary, *, slots: int, host: str) -> None:
        self._pool, self._query_primary, self._slots, self._host = pool, query_primary, slots, host
        telemetry.replica_in_use.labels(self._host).set(0)
        self._fault: str | None = UNKNOWN
        self._timeline = 0
        self._taken_slots = 0
        self._connections: set[asyncpg.Connection] = set()
        self._meter = LagMeter()
        self._lag: tuple[int, float] | None = None
        self._checks: asyncio.Task[None] | None = None

    def now(self) -> ReplicaNow:
        self._start_checks()
        size, seconds = self._lag or (None, None)
        return ReplicaNow(in_use=self._fault is None, fault=self._fault, lag_bytes=size, lag_seconds=seconds)

    async def reading(self, read: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        """The result of `read` on the replica. Raises ReplicaUnavailable, and what `read` itself raises."""
        self._require_use()
        if self._taken_slots >= self._slots:
            raise ReplicaUnavailable(BUSY)
        self._taken_slots += 1
        try:
            mark = await self._mark()
            async with self._as_unavailable(), self._connected() as connection:
                await self._catch_up(connection, mark)
                return await read(connection)
        finally:
            self._taken_slots -= 1

    async def caught_up(self, connect: Callable[[], Awaitable[asyncpg.Connection]]) -> tuple[asyncpg.Connection, Mark]:
        """A new connection to the replica, which has replayed up to the mark. Raises ReplicaUnavailable."""
        self._require_use()
        mark = await self._mark()
        async with self._as_unavailable():
            connection = await connect()
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await self._catch_up(connection, mark)
            except BaseException:
                connection.terminate()
                raise
        return connection, mark

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """For what only the replica knows, however far behind it is."""
        async with self._connected() as connection:
            yield connection

    async def close(self) -> None:
        if self._checks is not None:
            self._checks.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._checks
        await self._pool.close()

    def _require_use(self) -> None:
        self._start_checks()
        if self._fault is not None:
            raise ReplicaUnavailable(self._fault)

    async def _mark(self) -> Mark:
        return replica_state.mark_of(await self._query_primary(replica_state.MARK))

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[asyncpg.Connection]:
        async with contextlib.AsyncExitStack() as stack:
            async with asyncio.timeout(_ANSWER_SECONDS):
                connection = await stack.enter_async_context(self._pool.connection())
            self._connections.add(connection)
            try:
                yield connection
            except (*DATABASE_ERRORS, asyncio.CancelledError):
                # to end a statement in an orderly way would hang on a server that hangs
                connection.terminate()
                raise
            finally:
                self._connections.discard(connection)

    @asynccontextmanager
    async def _as_unavailable(self) -> AsyncIterator[None]:
        """Raise ReplicaUnavailable for what the primary may do better."""
        try:
            yield
        except DATABASE_ERRORS as exc:
            state = sqlstate_of(exc)
            # the statement would take as long on the primary, and the caller has waited long enough
            if state == STATEMENT_CANCELED:
                raise
            if is_server_failure(exc):
                self._stop_using(AWAY)
            raise ReplicaUnavailable(f"{type(exc).__name__} {state}".strip()) from exc

    async def _catch_up(self, driver: asyncpg.Connection, mark: Mark) -> None:
        """Raises ReplicaUnavailable unless the replica replays up to the mark within WAIT."""
        if mark.timeline != self._timeline:
            self._stop_using(FORKED)
            raise ReplicaUnavailable(FORKED)
        deadline, pauses = monotonic() + WAIT, Backoff(0.001, 0.02)
        while True:
            row = await driver.fetchrow(replica_state.REPLAYED, timeout=_ANSWER_SECONDS)
            if not row["recovering"]:
                self._stop_using(PROMOTED)
                raise ReplicaUnavailable(PROMOTED)
            if row["position"] >= mark.position:
                return
            pause = pauses.next()
            if monotonic() + pause > deadline:
                # the next readers do not wait again: they read the primary until a check finds it caught up
                self._stop_using(BEHIND)
                raise ReplicaUnavailable(BEHIND)
            await asyncio.sleep(pause)

    def _stop_using(self, fault: str) -> None:
        if self._fault != fault:
            telemetry.log.warning("replica not in use", fault=fault)
        self._fault = fault
        if fault == AWAY:
            # a reader may find out before the next check does, and the last known lag is no longer true
            self._lag = None
        telemetry.replica_in_use.labels(self._host).set(0)
        if fault != BEHIND:
            # reads on it fail now, and are repeated on the primary, instead of waiting for an answer that may not come
            for driver in list(self._connections):
                driver.terminate()

    def _start_checks(self) -> None:
        if self._checks is None:
            self._checks = asyncio.create_task(self._check_forever(), name="replica")

    async def _check_forever(self) -> None:
        while True:
            try:
                await self._check(await self._query_primary(replica_state.PRIMARY))
            except DATABASE_ERRORS:
                # without the primary the replica cannot be judged, and readers cannot take a position either
                self._lag = None
            except Exception as exc:  # noqa: BLE001 without checks the replica would stay in use, or unused, for ever
                telemetry.log.error("the check of the replica failed", exc_info=exc)
            await asyncio.sleep(_CHECK_EVERY)

    async def _check(self, primary: Row) -> None:
        mark = replica_state.mark_of(primary)
        self._meter.note_primary(mark)
        try:
            async with asyncio.timeout(_CHECK_SECONDS), self._connected() as driver:
                row = await driver.fetchrow(replica_state.REPLICA)
                self._show_lag(*self._meter.of(mark, row))
                if (fault := replica_state.mismatch(mark, primary, row)) is not None:
                    self._stop_using(fault)
                elif self._fault is not None:
                    self._timeline = mark.timeline
                    await self._catch_up(driver, mark)
                    telemetry.log.info("replica in use")
                    self._fault = None
        except ReplicaUnavailable:
            return
        except DATABASE_ERRORS:
            self._stop_using(AWAY)
        telemetry.replica_in_use.labels(self._host).set(self._fault is None)

    def _show_lag(self, size: int, seconds: float) -> None:
        self._lag = (size, round(seconds, 3))
        telemetry.replica_lag_bytes.labels(self._host).set(size)
        telemetry.replica_lag_seconds.labels(self._host).set(seconds)
