"""Whether the primary can be reached, and how far it was when it last answered.

It has a connection of its own. So it tells a primary that is silent from a pool that is busy, and the positions that
readers need do not take connections from requests: all that are requested at the same time share one statement."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, NamedTuple, TypeVar

import asyncpg

from erp_service.db.outages import DATABASE_ERRORS, is_full, is_unavailable
from erp_service.db.replicas import state
from erp_service.db.replicas.state import Mark, Row
from erp_service.observability import telemetry

T = TypeVar("T")

_EVERY = 0.5
_ANSWER_SECONDS = 0.75  # a primary that takes longer hangs, or its host is gone
# Of a reader: until it is certain, by a new connection too; and once it is known that the primary does not answer.
_PATIENCE, _PATIENCE_AWAY = 2.0, 0.5
_PAUSE_AWAY = 0.1  # between attempts that readers ask for meanwhile: each opens connections
_KEPT_EVERY, _KEPT_SECONDS = 0.1, 1.0


class LeaderAway(ConnectionError):
    """No server that leads can be reached at this moment."""


class Known(NamedTuple):
    """What the primary said of itself, by a statement that was sent at `sent_at` of our own clock.

    `identity` is a row of state.PRIMARY."""

    mark: Mark
    identity: Row
    sent_at: float


class LeaderWatch:
    """`connect` opens a connection to the leader. Nothing is opened before the first use."""

    def __init__(self, connect: Callable[[], Awaitable[asyncpg.Connection]]) -> None:
        self._connect = connect
        self._connection: asyncpg.Connection | None = None
        # goes on while a host is silent, and finds out when another one is promoted
        self._connecting: asyncio.Future[asyncpg.Connection] | None = None
        self._identity: Row = {}
        self._asked = asyncio.Event()
        self._next: asyncio.Future[Known] | None = None
        self._task: asyncio.Task[None] | None = None
        self._recent: deque[Known] = deque(maxlen=round(_KEPT_SECONDS / _KEPT_EVERY) + 2)
        self._waiting: set[asyncio.Future[Any]] = set()
        self._when_away: list[Callable[[], object]] = []
        self.is_away = False
        """The last attempt failed, also over a new connection."""
        self.reached_at = float("-inf")
        """When the last statement was sent that the leader answered, by our own clock."""

    def when_away(self, call: Callable[[], object]) -> None:
        """`call` is called each time that the leader is found to be away."""
        self._when_away.append(call)

    def require(self) -> None:
        """For who needs the primary: raises LeaderAway at once while it is known to be away."""
        self._start()
        if self.is_away:
            raise LeaderAway("no server that leads can be reached")

    async def unless_away(self, waiting: Awaitable[T]) -> T:
        """Its result. Raises LeaderAway as soon as the leader is found to be away."""
        task = asyncio.ensure_future(waiting)
        self._waiting.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            if self.is_away and task.cancelled() and not _is_cancelled():
                raise LeaderAway("the leader went away") from None
            raise
        finally:
            self._waiting.discard(task)

    async def now(self) -> Known:
        """What the primary says after this call began. Raises LeaderAway, and whatever else keeps it from answering."""
        self._start()
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        self._asked.set()
        try:
            async with asyncio.timeout(_PATIENCE_AWAY if self.is_away else _PATIENCE):
                # a caller that gives up must not cancel the answer that others wait for
                return await asyncio.shield(self._next)
        except TimeoutError:
            raise LeaderAway("the leader did not answer in time") from None

    def last_before(self, position: int) -> Mark | None:
        """The newest mark that is not after the position, of those of the last second before the leader went away."""
        for known in reversed(self._recent):
            if known.sent_at < self.reached_at - _KEPT_SECONDS:
                return None
            if known.mark.position <= position:
                return known.mark
        return None

    def last(self) -> Known | None:
        return self._recent[-1] if self._recent else None

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._connecting is not None:
            self._connecting.cancel()
            with contextlib.suppress(asyncio.CancelledError, *DATABASE_ERRORS):
                self._connection = await self._connecting
        self._leave()

    def _start(self) -> None:
        if self._task is None:
            self._asked.set()
            self._task = asyncio.create_task(self._watch(), name="leader")

    async def _watch(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_EVERY if self._connecting is None else _PAUSE_AWAY):
                    await self._asked.wait()
            self._asked.clear()
            # Who asks from here on may have written something that the statement does not see: it gets the next answer.
            answer, self._next = self._next, None
            try:
                known = await self._ask()
            except Exception as exc:  # noqa: BLE001 whatever it is: without this task nothing would be asked again
                if not isinstance(exc, DATABASE_ERRORS):
                    telemetry.log.error("the watch of the leader failed", exc_info=exc)
                if answer is not None and not answer.done():
                    answer.set_exception(exc)
                    # counts as retrieved: if every caller has given up, asyncio must not log it as lost
                    answer.exception()
                await asyncio.sleep(_PAUSE_AWAY)
            else:
                if answer is not None and not answer.done():
                    answer.set_result(known)

    async def _ask(self) -> Known:
        """Over the connection that is there, and if that fails over a new one."""
        if self._connection is not None and not self._connection.is_closed():
            try:
                return await self._ask_once()
            except DATABASE_ERRORS:
                self._leave()
        try:
            return await self._ask_once()
        except DATABASE_ERRORS as exc:
            self._leave()
            if not is_unavailable(exc) or is_full(exc):
                raise
            self._note_away(exc)
            raise LeaderAway("no server that leads can be reached") from exc

    async def _ask_once(self) -> Known:
        sent_at = monotonic()
        async with asyncio.timeout(_ANSWER_SECONDS):
            if (connection := self._connection) is None or connection.is_closed():
                connection = await self._connected()
                sent_at = monotonic()
                self._identity = await connection.fetchrow(state.PRIMARY)
                row = self._identity
            else:
                row = await connection.fetchrow(state.MARK)
        known = Known(state.mark_of(row), self._identity, sent_at)
        if not self._recent or sent_at - self._recent[-1].sent_at >= _KEPT_EVERY:
            self._recent.append(known)
        self.reached_at = sent_at
        if self.is_away:
            telemetry.log.info("the leader answers again")
        self.is_away = False
        telemetry.leader_away.set(0)
        return known

    async def _connected(self) -> asyncpg.Connection:
        if self._connecting is None:
            self._connecting = asyncio.ensure_future(self._connect())
        try:
            self._connection = await asyncio.shield(self._connecting)
        finally:
            if self._connecting.done():
                self._connecting = None
        return self._connection

    def _note_away(self, exc: BaseException) -> None:
        telemetry.leader_away.set(1)
        if self.is_away:
            return
        telemetry.log.warning("no leader can be reached", error=exc)
        self.is_away = True
        for task in list(self._waiting):
            task.cancel()
        for call in self._when_away:
            call()

    def _leave(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None


def _is_cancelled() -> bool:
    """Whether the current task itself was asked to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
