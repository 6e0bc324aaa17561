"""Who waits for events on this instance. A waiter holds no connection: the sealer's notification wakes it, and only if
it names a type that the waiter wants."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator

from prometheus_client import Gauge

from erp_service import errors
from erp_service.access import principals, revocations
from erp_service.audit.trail_models import ANY_TYPE, CHANNEL
from erp_service.db.notifications import NotificationListener
from erp_service.observability import telemetry

LOOK, UNSURE = 5.0, 1.0
"""Seconds between two looks at who still may wait: while this instance is told of news, and while it may not be."""

_RETRY_SECONDS = "5"

_waiters = Gauge("erp_event_waiters", "Requests that wait for events at this moment", registry=telemetry.REGISTRY)


class TooManyWaiters(errors.TooMany):
    """Too many of your requests wait for events on this instance of the service.

    One request at a time is enough for a reader; or ask without `wait`."""

    slug, title = "too-many-waiters", "Too many of your requests wait for events"


class WaitersFull(errors.Unavailable):
    """As many requests wait for events on this instance as may. Another instance may have room: try again, or ask
    without `wait`."""

    slug, title = "waiters-full", "No room for another request that waits"


class Waiter:
    """One request. `news`: there may be events that it has not seen."""

    def __init__(self, types: frozenset[str]) -> None:
        self.types = types
        self.news = False
        self._woken = asyncio.Event()

    def wake(self) -> None:
        self._woken.set()

    async def sleep(self, seconds: float) -> None:
        """Until it is woken, at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        self._woken.clear()


class Feed:
    """One for each instance of the API. `stopping` is set when the instance ends what waits."""

    def __init__(
        self, notifications: NotificationListener, stopping: asyncio.Event, *, most: int, most_per_user: int
    ) -> None:
        self.stopping = stopping
        self._notifications = notifications
        self._most, self._most_per_user = most, most_per_user
        self._waiters: set[Waiter] = set()
        self._users: Counter[int | None] = Counter()
        notifications.subscribe(CHANNEL, self._on_positions)
        notifications.subscribe(principals.CHANNEL, self._on_authority)
        notifications.subscribe(revocations.CHANNEL, self._on_authority)

    @property
    def waiters(self) -> int:
        """How many requests wait."""
        return len(self._waiters)

    @property
    def is_current(self) -> bool:
        """Whether a waiter is certain to be told of news."""
        return self._notifications.is_current

    @contextlib.contextmanager
    def waiting(self, user_id: int | None, types: frozenset[str]) -> Iterator[Waiter]:
        """Enter it before the first look, so that no event is missed. Raises TooManyWaiters, WaitersFull."""
        if self._users[user_id] >= self._most_per_user:
            detail = f"{self._most_per_user} of your requests wait here."
            raise TooManyWaiters(detail, headers={"Retry-After": _RETRY_SECONDS})
        if len(self._waiters) >= self._most:
            raise WaitersFull(headers={"Retry-After": _RETRY_SECONDS})
        waiter = Waiter(types)
        self._waiters.add(waiter)
        self._users[user_id] += 1
        _waiters.inc()
        try:
            yield waiter
        finally:
            _waiters.dec()
            self._waiters.discard(waiter)
            self._users[user_id] -= 1
            if not self._users[user_id]:
                del self._users[user_id]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Ends every wait when the instance stops."""
        task = asyncio.create_task(self._end(), name="feed end")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _end(self) -> None:
        await self.stopping.wait()
        for waiter in self._waiters:
            waiter.wake()

    def _on_positions(self, payload: str | None) -> None:
        # after a gap in the connection anything may have happened
        types = {ANY_TYPE} if payload is None else set(payload.split()[1:])
        for waiter in self._waiters:
            if ANY_TYPE in types or not types.isdisjoint(waiter.types):
                waiter.news = True
                waiter.wake()

    def _on_authority(self, _payload: str | None) -> None:
        # each waiter asks the cache whether its own reader is concerned
        for waiter in self._waiters:
            waiter.wake()
