"""Who follows which export on this instance, and how all of them hear of a change by one query.

Notices say what changed; the rows are read together, a few times a second at most, for everybody who follows them. A
listener holds no connection and no queue: it is woken, and looks at the newest state. So a slow one misses states in
between, never the last, and delays nobody."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from time import monotonic
from uuid import UUID

import msgspec

from erp_service import errors
from erp_service.access import principals
from erp_service.db.engine import Database
from erp_service.db.notifications import NotificationListener
from erp_service.exports import queries
from erp_service.exports.models import CHANNEL
from erp_service.exports.queries import VersionedExport
from erp_service.observability import telemetry

TICK = 0.1  # seconds between two reads for notices
LOOK = 2.0  # seconds between two reads without any: a few changes, as a new attempt, give no notice
UNSURE = 1.0  # the same while this instance may not hear of changes
_READ_SECONDS = 5.0

KEEP_ALIVE = 15.0
"""Seconds of silence after which a comment says that the stream lives, to proxies between too."""

_SEND_SECONDS = 60.0  # a reader that takes nothing for so long is gone, or as good as gone

WAIT_MOST = 60
"""Seconds that a request may ask to wait."""


class TooManyStreams(errors.TooMany):
    """So many of your event streams are open on this instance of the service that it gives you no other.

    Close those you do not look at, or ask for the job itself, which needs no stream."""

    slug, title = "too-many-streams", "Too many of your event streams are open"


class StreamsFull(errors.Unavailable):
    """This instance has as many open event streams as it may have. Another instance may have room: try again.

    Or ask for the job itself, which needs no stream."""

    slug, title = "streams-full", "No place for another event stream"


class FollowedExport:
    """An export that at least one listener here follows, with the newest state that is known of it."""

    def __init__(self) -> None:
        self.listeners = 0
        self.shown: VersionedExport | None = None
        self.event = b""
        self.change = asyncio.Event()

    def offer(self, shown: VersionedExport) -> None:
        """Tell the listeners, unless the state is one they know; whoever read it."""
        if self.shown is None or shown.version > self.shown.version:
            # rendered once, for however many
            self.shown, self.event = shown, rendered(shown)
            self.wake()

    def wake(self) -> None:
        """Whoever waits looks again. Who begins to wait later waits for the next time."""
        change, self.change = self.change, asyncio.Event()
        change.set()


class LiveStatus:
    """One for each instance of the API. `stopping` is set when the instance ends what is open."""

    def __init__(
        self,
        database: Database,
        notices: NotificationListener,
        stopping: asyncio.Event,
        *,
        most: int,
        most_per_user: int,
        keep_alive: float = KEEP_ALIVE,
        send_seconds: float = _SEND_SECONDS,
    ) -> None:
        self._database, self._notices = database, notices
        self._most, self._most_per_user = most, most_per_user
        self.keep_alive, self.send_seconds = keep_alive, send_seconds
        self._followed: dict[UUID, FollowedExport] = {}
        self._users: Counter[int | None] = Counter()
        self.listeners = 0
        self._changed: set[UUID] = set()
        self._due = asyncio.Event()
        self._looked_at = float("-inf")
        self.stopping = stopping
        notices.subscribe(CHANNEL, self._heard)
        notices.subscribe(principals.CHANNEL, self._authority_changed)

    @contextlib.contextmanager
    def following(self, export_id: UUID, user_id: int | None) -> Iterator[FollowedExport]:
        """Begin before the first read, so that no change falls between. Raises TooManyStreams, StreamsFull."""
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
        telemetry.export_listeners.inc(more)

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
            changed = await self._awaited()
            try:
                await self._read(changed)
            # not a list of kinds: an instance whose reader died would leave its listeners waiting for ever
            except Exception as exc:  # noqa: BLE001
                telemetry.log.warning("exports not read", error=repr(exc))
                await asyncio.sleep(UNSURE)
                self._changed |= changed
            await asyncio.sleep(TICK)

    async def _awaited(self) -> set[UUID]:
        """Which to look at: those that notices named, and from time to time all."""
        while not self._followed:
            self._due.clear()
            await self._due.wait()
        look_at = self._looked_at + (LOOK if self._notices.is_current else UNSURE)
        while not self._changed and (left := look_at - monotonic()) > 0:
            self._due.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._due.wait()
        # by the clock, and not by the silence: what keeps telling of itself must not hide what does not
        if monotonic() >= look_at:
            self._looked_at = monotonic()
            self._changed.update(self._followed)
        changed, self._changed = self._changed, set()
        return changed

    async def _read(self, changed: set[UUID]) -> None:
        known = {
            export_id: followed.shown.version if followed.shown else 0
            for export_id in changed
            if (followed := self._followed.get(export_id)) is not None
        }
        if not known:
            return
        async with asyncio.timeout(_READ_SECONDS), self._database.read() as db:
            found = await queries.newer(db, known)
        for shown in found:
            if (followed := self._followed.get(shown.job.id)) is not None:
                followed.offer(shown)

    async def _end(self) -> None:
        await self.stopping.wait()
        self._wake_all()

    def _heard(self, payload: str | None) -> None:
        if payload is None:
            # after a gap, anything may have changed
            self._changed.update(self._followed)
        else:
            with contextlib.suppress(ValueError):
                if (export_id := UUID(payload)) in self._followed:
                    self._changed.add(export_id)
        if self._changed:
            self._due.set()

    def _authority_changed(self, _payload: str | None) -> None:
        # each looks whether it was about its own reader: the cache answers
        self._wake_all()

    def _wake_all(self) -> None:
        for followed in self._followed.values():
            followed.wake()


def rendered(shown: VersionedExport) -> bytes:
    """As an event (HTML Living Standard, 9.2.6): JSON as msgspec writes it has no line break."""
    name = b"done" if shown.final else b"progress"
    return b"event: %b\nid: %d\ndata: %b\n\n" % (name, shown.version, msgspec.json.encode(shown.job))


def preferred_wait(prefer: str | None) -> int | None:
    """The seconds of `wait` in a Prefer header (RFC 7240, 4.3), at most WAIT_MOST; None without, or if malformed."""
    for preference in (prefer or "").split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() == "wait":
            seconds = value.strip().strip('"')
            # of a preference that stands there twice, the first counts
            return min(int(seconds[:9]), WAIT_MOST) if seconds.isascii() and seconds.isdecimal() else None
    return None
