"""The lifeline of a worker: the connection on which it proves that it is alive, and looks for those that are not.

What the proof is, and what becomes of jobs without one: rescue.py.

A failover frees all locks, and workers come back one by one: first those whose connection was closed, last those that
waited for a host that is silent. Nobody is taken for dead meanwhile (`failover_grace`). The lifeline asks several times
a second, so it is the first connection of a worker that notices silence. It then looks who leads. If that is another
server, db/servers/opening.py ends all connections to the old one."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from time import monotonic
from typing import Generic, Protocol, TypeVar

import asyncpg

from erp_service.db import locks
from erp_service.db.backoff import Backoff
from erp_service.db.connections import connect
from erp_service.db.outages import DATABASE_ERRORS
from erp_service.observability import telemetry
from erp_service.queue.attempts import JobAttempt
from erp_service.queue.rescue import Doing, Reason, Timeouts, beat, put_back, survey, timelines

log = logging.getLogger(__name__)
Key = TypeVar("Key")

OWN_CHECK_SECONDS = 1.0
RECONNECT_SECONDS = 0.5

_SESSION = {
    # a rescuer that is paused in its transaction must not keep the job from all others
    "lock_timeout": "1000",
    "idle_in_transaction_session_timeout": "2000",
    # a synchronous standby that is lost holds up all commits until it is replaced: then no worker must look dead. What
    # is lost of heartbeats and rescues by a failover comes again
    "synchronous_commit": "local",
}


class PresenceTracker(Generic[Key]):
    """For how long things have been present, without a gap between two updates."""

    def __init__(self) -> None:
        self._since: dict[Key, float] = {}

    def update(self, present: Iterable[Key], now: float) -> None:
        self._since = {key: self._since.get(key, now) for key in present}

    def present_for(self, seconds: float, now: float) -> set[Key]:
        return {key for key, since in self._since.items() if now - since >= seconds}


class StopRuns(Protocol):
    """With `forget` nothing is written of their end: what has their numbers by now may be something else."""

    def __call__(self, runs: set[JobAttempt], why: str, *, forget: bool = False) -> None: ...


class Lifeline:
    """One worker's lock and heartbeat, the check of its own jobs and of those of others, over one connection.

    `own_runs` returns the runs that this process really has, `stop_runs` ends those that it has lost, and `on_connect`
    is awaited after each connect."""

    def __init__(
        self,
        url: str,
        timeouts: Timeouts,
        *,
        own_runs: Callable[[], set[JobAttempt]],
        stop_runs: StopRuns,
        on_connect: Callable[[], Awaitable[None]],
    ) -> None:
        self.has_lock = asyncio.Event()
        self.draining = False
        self._url, self._timeouts = url, timeouts
        self._own_runs, self._stop_runs, self._on_connect = own_runs, stop_runs, on_connect
        # by monotonic(): the last heartbeat, the last check, and when every living worker has its lock again
        self._beaten_at = self._checked_at = self._settled_at = monotonic()
        self._timeline: int | None = None
        self._draining_sent = False
        self._absent: PresenceTracker[JobAttempt] = PresenceTracker()
        self._unknown: PresenceTracker[JobAttempt] = PresenceTracker()
        self._lost: PresenceTracker[JobAttempt] = PresenceTracker()
        self._tasks: set[asyncio.Task[None]] = set()

    async def hold(self, worker_id: int) -> None:
        """Hold the lifeline for ever, through any outage. `has_lock` is set while the lock is ours."""
        pauses = Backoff(0.05, RECONNECT_SECONDS, at_once=True)
        while True:
            try:
                async with self._connected(worker_id) as connection:
                    pauses.reset()
                    while True:
                        async with self._answer_in_time():
                            with self._in_doubt():
                                await self._check(connection, worker_id)
                        await asyncio.sleep(self._timeouts.survey)
            except DATABASE_ERRORS as exc:
                log.warning("worker %s lost its lifeline, connecting again: %r", worker_id, exc)
            if monotonic() - self._beaten_at > self._timeouts.stalled:
                # by now the others have taken over all that ran here
                self._stop_runs(self._own_runs(), "no heartbeat came through")
            await asyncio.sleep(pauses.next())

    def _answer_in_time(self) -> asyncio.Timeout:
        # a server or network that hangs without closing is as good as lost
        return asyncio.timeout(max(1.0, self._timeouts.heartbeat))

    @contextmanager
    def _in_doubt(self) -> Iterator[None]:
        """If the body takes long, look who leads. That ends the body if it waits for a server that no longer does."""
        looking = asyncio.get_running_loop().call_later(self._timeouts.doubt, self._look)
        try:
            yield
        finally:
            looking.cancel()

    def _look(self) -> None:
        async def meet_leader() -> None:
            with suppress(*DATABASE_ERRORS):
                (await connect(self._url, name="erp worker doubt")).terminate()

        self._start(meet_leader())

    @asynccontextmanager
    async def _connected(self, worker_id: int) -> AsyncIterator[asyncpg.Connection]:
        async with self._answer_in_time():
            connection = await connect(self._url, name="erp worker lifeline", leader=True, **_SESSION)
        try:
            async with self._answer_in_time():
                await self._beat(connection, worker_id)
                await locks.hold_for_worker(connection, worker_id)
                grace = await self._meet_server(connection, worker_id)
            self._checked_at = monotonic()
            self._settled_at = self._checked_at + grace
            self.has_lock.set()
            # in a task of its own: a pooled connection that hangs must not delay the heartbeats
            self._start(self._on_connect())
            yield connection
        finally:
            self.has_lock.clear()
            connection.terminate()

    async def _meet_server(self, connection: asyncpg.Connection, worker_id: int) -> float:
        """Returns how many seconds the others may need from now on until they have their locks again."""
        known, found = self._timeline, await timelines(connection)
        self._timeline = found.leading
        if known is None or known == found.leading:
            return self._timeouts.failover_grace if found.is_new else self._timeouts.reconnect_grace
        # before the next fetch: a server that has lost the last transactions gives out their numbers again
        doing = await survey(connection, stalled=self._timeouts.stalled)
        unknown = self._own_runs() - {job.run for job in doing if job.worker_id == worker_id}
        self._stop_runs(unknown, "the server that leads now does not know it", forget=True)
        return self._timeouts.failover_grace

    async def _beat(self, connection: asyncpg.Connection, worker_id: int) -> None:
        sent_at, draining = monotonic(), self.draining
        await beat(connection, worker_id, draining=draining)
        self._beaten_at, self._draining_sent = sent_at, draining

    async def _check(self, connection: asyncpg.Connection, worker_id: int) -> None:
        now = monotonic()
        if now - self._checked_at > self._timeouts.reconnect_grace:
            # this process was paused, perhaps with its host and so with the others: give them time for a heartbeat
            self._settled_at = max(self._settled_at, now + self._timeouts.reconnect_grace)
        self._checked_at = now
        if now - self._beaten_at >= self._timeouts.heartbeat or self.draining != self._draining_sent:
            await self._beat(connection, worker_id)
        doing = await survey(connection, stalled=self._timeouts.stalled)
        now = monotonic()
        await self._check_own(connection, [job for job in doing if job.worker_id == worker_id], now)
        await self._rescue(connection, [job for job in doing if job.worker_id != worker_id], now)

    async def _check_own(self, connection: asyncpg.Connection, own: list[Doing], now: float) -> None:
        """A difference counts once it lasts: while a job is fetched or finished, both sides differ for a moment."""
        runs = self._own_runs()
        self._lost.update(runs - {job.run for job in own}, now)
        if lost := self._lost.present_for(OWN_CHECK_SECONDS, now):
            self._stop_runs(lost, "another worker has taken it over")
        self._unknown.update((job.run for job in own if job.run not in runs), now)
        unknown = self._unknown.present_for(OWN_CHECK_SECONDS, now)
        for job in own:
            if job.run in unknown:
                # the response to a fetch, or the last write of a job, was lost on its way
                await self._put_back(connection, job, reason=None)

    async def _rescue(self, connection: asyncpg.Connection, others: list[Doing], now: float) -> None:
        self._absent.update((job.run for job in others if job.gone), now)
        if now < self._settled_at:
            return
        absent = self._absent.present_for(self._timeouts.absent, now)
        for job in others:
            if job.run in absent:
                await self._put_back(connection, job, reason="gone")
            elif job.silent:
                await self._put_back(connection, job, reason="silent")

    async def _put_back(self, connection: asyncpg.Connection, job: Doing, *, reason: Reason | None) -> None:
        try:
            ending = await put_back(connection, job, reason=reason, deaths=self._timeouts.deaths)
        except asyncpg.PostgresError as exc:
            # a job that cannot be rescued must not stop the rescue of others; a lost connection fails at the next one
            log.error("job %s of worker %s cannot be taken over: %r", job.run.job_id, job.worker_id, exc)
            return
        if ending is not None:
            telemetry.rescues.labels(reason or "lost", ending.name.lower()).inc()
            values = (job.run.job_id, job.worker_id, reason or "lost", ending.value)
            log.warning("job %s of worker %s (%s): %s", *values)

    def _start(self, work: Awaitable[None]) -> None:
        async def logged() -> None:
            try:
                await work
            except Exception:
                log.exception("what a worker does beside its lifeline failed")

        task = asyncio.create_task(logged())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
