"""Which listeners follow which job, of an export or an import, on this instance, and how one query serves all of them.

Notifications name the exports that changed; their rows are read together, a few times a second at most, for all
listeners. A listener holds no connection and no queue: it is woken, and reads the newest state. So a slow one misses
states in between, but never the last one, and delays nobody."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from time import monotonic
from typing import Any, Literal, Protocol
from uuid import UUID

import msgspec
from prometheus_client import Gauge

from erp_service import errors
from erp_service.access import keys, principals, revocations
from erp_service.db.engine import Database
from erp_service.db.notifications import NotificationListener
from erp_service.db.sessions import Session
from erp_service.observability import telemetry

TICK = 0.1  # seconds between two reads after notifications
LOOK = 2.0  # seconds between two reads without one: a few changes, such as a new attempt, send none
UNSURE = 1.0  # the same while this instance may not receive notifications
_READ_SECONDS = 5.0

KEEP_ALIVE = 15.0
"""Seconds of silence after which a comment shows readers, and proxies in between, that the stream is alive."""

_SEND_SECONDS = 60.0  # a reader that takes nothing for so long is considered gone

WAIT_MOST = 60
"""Seconds that a request may ask to wait."""


class TooManyStreams(errors.TooMany):
    """Too many of your event streams are open on this instance of the service.

    Close those that you do not need, or get the job itself, which needs no stream."""

    slug, title = "too-many-streams", "Too many of your event streams are open"


class StreamsFull(errors.Unavailable):
    """This instance has as many open event streams as it may have. Another instance may have room: try again.

    Or get the job itself, which needs no stream."""

    slug, title = "streams-full", "No room for another event stream"


_listeners = Gauge("erp_export_listeners", "Who follows an export at this moment", registry=telemetry.REGISTRY)


class VersionedJob(Protocol):
    """A job of any kind as its readers get it, with the version that its ETag is made of."""

    @property
    def job(self) -> Any: ...

    @property
    def version(self) -> int: ...

    @property
    def final(self) -> bool: ...


class JobSource(msgspec.Struct, frozen=True):
    """A kind of job that can be followed: the channel that names what has changed, and the read of those of the given
    jobs whose version is not the known one."""

    channel: str
    newer: Callable[[Session, Mapping[UUID, int]], Awaitable[Sequence[VersionedJob]]]


class FollowedExport:
    """An export that at least one listener here follows, and its newest known state."""

    def __init__(self) -> None:
        self.listeners = 0
        self.newest: VersionedJob | None = None
        self.event = b""
        self.change = asyncio.Event()

    def offer(self, export: VersionedJob) -> None:
        """Take a state that somebody has read. If it is a newer one, wake the listeners."""
        if self.newest is None or export.version > self.newest.version:
            # rendered once for all listeners
            self.newest, self.event = export, render_event(export)
            self.wake()

    def wake(self) -> None:
        """Wake all who wait for `change`. Whoever begins to wait later gets a new one."""
        change, self.change = self.change, asyncio.Event()
        change.set()


class LiveStatus:
    """One for each instance of the API. `stopping` is set when the instance ends its open streams."""

    def __init__(
        self,
        database: Database,
        notifications: NotificationListener,
        stopping: asyncio.Event,
        sources: Sequence[JobSource],
        *,
        most: int,
        most_per_user: int,
        keep_alive: float = KEEP_ALIVE,
        send_seconds: float = _SEND_SECONDS,
    ) -> None:
        self._database, self._notifications = database, notifications
        self._most, self._most_per_user = most, most_per_user
        self.keep_alive, self.send_seconds = keep_alive, send_seconds
        self._followed: dict[UUID, FollowedExport] = {}
        self._users: Counter[int | None] = Counter()
        self.listeners = 0
        self._changed: set[UUID] = set()
        self._due = asyncio.Event()
        self._read_all_at = float("-inf")
        self.stopping = stopping
        self._sources = sources
        for source in sources:
            notifications.subscribe(source.channel, self._on_export)
        notifications.subscribe(principals.CHANNEL, self._on_authority)
        notifications.subscribe(revocations.CHANNEL, self._on_authority)
        notifications.subscribe(keys.CHANNEL, self._on_authority)

    @contextlib.contextmanager
    def following(self, export_id: UUID, user_id: int | None) -> Iterator[FollowedExport]:
        """Enter it before the first read, so that no change is missed. Raises TooManyStreams, StreamsFull."""
        if self._users[user_id] >= self._most_per_user:
            detail = f"{self._most_per_user} of your event streams are open here."
            raise TooManyStreams(detail, headers={"Retry-After": "5"})
        if self.listeners >= self._most:
            raise StreamsFull(headers={"Retry-After": "5"})
        followed = self._followed.setdefault(export_id, FollowedExport())
        self._count(followed, user_id, 1)
        self._due.set()
        try:
            yield followed
        finally:
            self._count(followed, user_id, -1)
            if not followed.listeners:
                del self._followed[export_id]

    def _count(self, followed: FollowedExport, user_id: int | None, more: int) -> None:
        followed.listeners += more
        self.listeners += more
        self._users[user_id] += more
        if not self._users[user_id]:
            del self._users[user_id]
        _listeners.inc(more)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._run(), name="exports"), asyncio.create_task(self._end(), name="exports end")]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            changed = await self._next_changed()
            try:
                await self._read(changed)
            # every kind of error: without this task the listeners would wait for ever
            except Exception as exc:  # noqa: BLE001
                telemetry.log.warning("exports not read", error=exc)
                await asyncio.sleep(UNSURE)
                self._changed |= changed
            await asyncio.sleep(TICK)

    async def _next_changed(self) -> set[UUID]:
        """Wait for exports to read: those that notifications have named, and from time to time all."""
        while not self._followed:
            self._due.clear()
            await self._due.wait()
        read_all_at = self._read_all_at + (LOOK if self._notifications.is_current else UNSURE)
        while not self._changed and (left := read_all_at - monotonic()) > 0:
            self._due.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._due.wait()
        # by the clock, and not by silence: exports with frequent notifications must not hide those without any
        if monotonic() >= read_all_at:
            self._read_all_at = monotonic()
            self._changed.update(self._followed)
        changed, self._changed = self._changed, set()
        return changed

    async def _read(self, changed: set[UUID]) -> None:
        known = {
            export_id: followed.newest.version if followed.newest else 0
            for export_id in changed
            if (followed := self._followed.get(export_id)) is not None
        }
        if not known:
            return
        async with asyncio.timeout(_READ_SECONDS), self._database.read() as db:
            # the ids of all kinds are drawn from one space, so each is a row of one of the tables at most
            exports = [export for source in self._sources for export in await source.newer(db, known)]
        for export in exports:
            if (followed := self._followed.get(export.job.id)) is not None:
                followed.offer(export)

    async def _end(self) -> None:
        await self.stopping.wait()
        self._wake_all()

    def _on_export(self, payload: str | None) -> None:
        if payload is None:
            # after a gap in the connection, any export may have changed
            self._changed.update(self._followed)
        else:
            with contextlib.suppress(ValueError):
                if (export_id := UUID(payload)) in self._followed:
                    self._changed.add(export_id)
        if self._changed:
            self._due.set()

    def _on_authority(self, _payload: str | None) -> None:
        # each listener checks whether its own reader is concerned: the cache answers
        self._wake_all()

    def _wake_all(self) -> None:
        for followed in self._followed.values():
            followed.wake()


def render_event(export: VersionedJob) -> bytes:
    """As an event (HTML Living Standard, 9.2.6). JSON as msgspec writes it contains no line break."""
    name = b"done" if export.final else b"progress"
    return b"event: %b\nid: %d\ndata: %b\n\n" % (name, export.version, msgspec.json.encode(export.job))


_NEXT = {
    "address": "Ask for another address (POST .../download-url) and follow it with last_event_id.",
    "token": "Connect again with another token and Last-Event-ID.",
}


def render_expiry(what: Literal["address", "token"], sent: str | None) -> bytes:
    """The event with which a stream ends whose reader's address or token has expired.

    Its id is that of the last event before it, so that readers who keep the newest id miss nothing."""
    data = msgspec.json.encode({"expired": what, "detail": _NEXT[what]})
    known = b"" if sent is None else b"id: %b\n" % sent.encode()
    return b"event: expired\n%bdata: %b\n\n" % (known, data)


def preferred_wait(prefer: str | None) -> int | None:
    """The seconds of `wait` in a Prefer header (RFC 7240, 4.3), at most WAIT_MOST; None if absent or malformed."""
    for preference in (prefer or "").split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() == "wait":
            seconds = value.strip().strip('"')
            # if a preference is given twice, the first one counts
            return min(int(seconds[:9]), WAIT_MOST) if seconds.isascii() and seconds.isdecimal() else None
    return None
