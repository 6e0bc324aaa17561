"""How many requests a caller may make: counted over all instances, at no round trip of its own.

Most requests are counted in memory, out of a lease (leases.py), which takes some microseconds. A task asks for more
uses in the background, for all callers that need some in one statement (counts.py). A request waits for that statement,
about a millisecond, only if its caller has no lease here: after a pause of some seconds, in a new window, and for each
of the last uses of a window. Requests that wait at the same time share a statement.

It shapes and does not guard: while the database is away or slow, requests pass uncounted, and the metric
`erp_limits_failed_open` says so."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import islice
from time import monotonic
from typing import NamedTuple

import msgspec

from erp_service.access.principals import Principal
from erp_service.db.engine import Database
from erp_service.observability import telemetry
from erp_service.settings import Settings
from erp_service.web.limit_fields import Standing
from erp_service.web.rate_limits import whole_seconds
from erp_service.web.request_limits import counts
from erp_service.web.request_limits.leases import Demand, Lease, Leases, Tuning

WINDOW_SECONDS = 60
_MOST_DEMANDS = 200  # in one statement


class Limits(NamedTuple):
    """Requests in a minute: of one user with tokens, on all of them together, and of one API key. None: no limit."""

    per_user: int | None = 6000
    per_key: int | None = 6000


class Pace(NamedTuple):
    """In seconds: `tick` between two statements in the background; `patience` of a request that waits for one;
    `statement`, the longest that one may take; `outage`, for which nothing is asked after one that failed."""

    tick: float = 0.1
    patience: float = 1.0
    statement: float = 2.0
    outage: float = 2.0


class RequestLimiter:
    """One for each instance. It has a connection of its own: requests that use all of the pool's must be counted, too.

    `limits` is asked at each request, so that a change holds at once. While `is_away` says that no database can be
    reached, no request waits to find that out."""

    def __init__(
        self,
        settings: Settings,
        limits: Callable[[], Limits],
        *,
        is_away: Callable[[], bool] = lambda: False,
        seconds: int = WINDOW_SECONDS,
        pace: Pace = Pace(),  # noqa: B008 it is immutable
        tuning: Tuning = Tuning(),  # noqa: B008
    ) -> None:
        own = msgspec.structs.replace(settings, pool_size=1, replica_url=None)
        self._database = Database(own, name="erp limits")
        self._limits, self._is_away, self._seconds, self._pace = limits, is_away, seconds, pace
        self._leases = Leases(tuning)
        self._waiters: dict[str, deque[asyncio.Future[bool | None]]] = {}
        self._due = asyncio.Event()
        self._looked_at = 0.0
        self._unavailable_until = float("-inf")

    async def take(self, who: Principal) -> Standing | None:
        """Count one request of this caller. None if it has no limit, or cannot be counted, and so passes."""
        name, caller, most = self._limit_of(who)
        if most is None or caller is None:
            return None
        lease = self._leases.of(f"{name}:{caller}", most)
        admitted: bool | None = True
        if not self._leases.use(lease, now := monotonic()):
            admitted, now = await self._wait_for_use(lease), monotonic()
        if admitted is None:
            telemetry.failed_open.labels("requests").inc()
            return None
        wait = whole_seconds(lease.ends_at - now)
        return Standing(name, most, self._seconds, lease.remaining() if admitted else 0, wait, not admitted)

    def _limit_of(self, who: Principal) -> tuple[str, int | None, int | None]:
        limits = self._limits()
        if who.key is not None:
            return "key", who.key.id, limits.per_key
        return "user", who.user_id, limits.per_user

    async def _wait_for_use(self, lease: Lease) -> bool | None:
        """Whether the shared count has one more; None if it cannot be asked."""
        now = monotonic()
        if lease.is_refused(now):
            return False
        if now < self._unavailable_until or self._is_away():
            return None
        waiter: asyncio.Future[bool | None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(lease.key, deque()).append(waiter)
        self._due.set()
        try:
            async with asyncio.timeout(self._pace.patience):
                return await waiter
        except TimeoutError:
            self._fail_open_for_a_while()
            return None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Asks in the background inside; in the end, gives back what is left and closes the connection."""
        task = asyncio.create_task(self._run(), name="request limits")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            unused = self._leases.unused(now := monotonic(), idle_seconds=0)
            if unused and now >= self._unavailable_until:
                await self._settle(unused)
            await self._database.close()

    async def _run(self) -> None:
        while True:
            # without leases there is nothing to ask for until a request does
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pace.tick if self._leases else None):
                    await self._due.wait()
            self._due.clear()
            if monotonic() < self._unavailable_until:
                await asyncio.sleep(self._pace.tick)
            elif demands := self._demands():
                await self._settle(demands)

    def _demands(self) -> list[Demand]:
        now = monotonic()
        waiting = {key: sum(not one.done() for one in waiters) for key, waiters in self._waiters.items()}
        for key in [key for key, count in waiting.items() if not count]:
            # none waits any longer: their patience was over, or their clients have gone
            del self._waiters[key], waiting[key]
        unused: list[Demand] = []
        if now - self._looked_at >= 1:
            self._looked_at = now
            unused = self._leases.unused(now, besides=waiting)
        return [*unused, *self._leases.demands(waiting, now)]

    async def _settle(self, demands: Sequence[Demand]) -> None:
        every = iter(demands)
        while batch := list(islice(every, _MOST_DEMANDS)):
            sent_at = monotonic()
            try:
                async with asyncio.timeout(self._pace.statement), self._database.autocommit() as db:
                    grants = await counts.settle(db, batch, seconds=self._seconds)
            except Exception as exc:  # noqa: BLE001 whatever it is: without this task, no request would be counted
                telemetry.log.warning("requests are not counted", error=exc)
                self._fail_open_for_a_while()
            else:
                self._leases.apply(grants, sent_at=sent_at, now=monotonic())
            for demand in batch:
                if demand.waiting:
                    self._serve(self._leases.of(demand.key, demand.most))

    def _serve(self, lease: Lease) -> None:
        """Answer those who wait, in turn, as far as that is known."""
        waiters = self._waiters[lease.key]
        while waiters:
            if not waiters[0].done():
                now = monotonic()
                if now < self._unavailable_until:
                    waiters[0].set_result(None)
                elif self._leases.use(lease, now):
                    waiters[0].set_result(True)
                elif lease.is_exhausted(now):
                    waiters[0].set_result(False)
                else:
                    # it came after the statement was sent, or the answer after the end of its window
                    self._due.set()
                    return
            waiters.popleft()
        del self._waiters[lease.key]

    def _fail_open_for_a_while(self) -> None:
        self._unavailable_until = monotonic() + self._pace.outage
