"""How a worker proves that it lives, and what the others do when it does not.

Each worker holds a lock (db/locks.py) on a connection of its own, its lifeline, and beats over it. Postgres frees
the lock within milliseconds of the process's death, so a lock that is gone means dead, and a lock that is held while
no beat comes means paused, hung, or cut off. The others read `pg_locks` and never try to take the lock: a try that
succeeds would itself look like life. Nobody needs a free slot, a job, or a leader for this; two rescuers of one job
meet at its row, and the fence (fencing.py) makes a mistaken rescue harmless."""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from enum import Enum
from time import monotonic
from typing import Generic, Literal, NamedTuple, TypeVar

import asyncpg
import msgspec

from erp_service.db import locks
from erp_service.db.backoff import Backoff
from erp_service.db.connections import connect
from erp_service.db.outages import DATABASE_ERRORS
from erp_service.observability import telemetry
from erp_service.queue.fencing import JobAttempt

log = logging.getLogger(__name__)

OWN_CHECK_SECONDS = 1.0
RECONNECT_SECONDS = 0.5

# A rescuer that is itself paused in the middle must not keep the job from all others
LIMITS = {"lock_timeout": "1000", "idle_in_transaction_session_timeout": "2000"}

Reason = Literal["gone", "silent"]
Key = TypeVar("Key")


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """How long to wait before believing what, in seconds, and how many deaths one job may cause."""

    heartbeat: float = 5
    stalled: float = 15
    # a worker that lost only its connection has taken the lock again by then
    absent: float = 0.5
    # a restart of Postgres frees every lock at once: for so long, the others may still be on their way back
    reconnect_grace: float = 3
    survey: float = 0.2
    deaths: int = 5


class Doing(NamedTuple):
    """A job that a worker is said to run. `gone`: nobody holds that worker's lock. `silent`: no beat in time."""

    run: JobAttempt
    worker_id: int | None
    gone: bool
    silent: bool


class Ending(Enum):
    WAITS = "waits again"
    FAILED = "failed: too many workers died under it"
    ABORTED = "aborted, as had been asked"


BEAT = """
WITH worker AS (
    -- the id is its own: a worker that was pruned while it was paused comes back as who it was
    INSERT INTO procrastinate_workers (id) OVERRIDING SYSTEM VALUE VALUES ($1)
    ON CONFLICT (id) DO UPDATE SET last_heartbeat = now()
    RETURNING id
)
INSERT INTO queue_workers (worker_id, host, pid, draining) SELECT id, $2, $3, $4 FROM worker
ON CONFLICT (worker_id) DO UPDATE SET draining = excluded.draining"""

SURVEY = f"""
SELECT job.id, job.attempts, job.worker_id,
    NOT {locks.is_held_for_worker("job.worker_id")} AS gone,
    coalesce(worker.last_heartbeat < now() - make_interval(secs => $1), true) AS silent
FROM procrastinate_jobs AS job
LEFT JOIN procrastinate_workers AS worker ON worker.id = job.worker_id
WHERE job.status = 'doing'"""  # noqa: S608 a constant of db/locks.py

CLAIM = """
SELECT job.queue_name, job.abort_requested, coalesce(worker.draining, false) AS draining
FROM procrastinate_jobs AS job
LEFT JOIN queue_workers AS worker ON worker.worker_id = job.worker_id
WHERE job.id = $1 AND job.attempts = $2 AND job.status = 'doing'
FOR UPDATE OF job SKIP LOCKED"""

DIED = """
INSERT INTO queue_deaths AS death (job_id, deaths, last_reason, last_worker_id) VALUES ($1, 1, $2, $3)
ON CONFLICT (job_id) DO UPDATE SET deaths = death.deaths + 1, last_reason = excluded.last_reason,
    last_worker_id = excluded.last_worker_id, last_at = now()
RETURNING deaths"""

END = "SELECT procrastinate_finish_job_v1($1, $2::procrastinate_job_status, false)"
RETRY = "SELECT procrastinate_retry_job_v2($1, now(), NULL, NULL, NULL)"
# As in fencing.RETRY: pruning its last worker must not lock a job that waits
FORGET_WORKER = "UPDATE procrastinate_jobs SET worker_id = NULL WHERE id = $1"
NOTIFY = """
SELECT pg_notify(channel, json_build_object('type', 'job_inserted', 'job_id', $1::bigint)::text)
FROM unnest(ARRAY['procrastinate_queue_v1#' || $2::text, 'procrastinate_any_queue_v1']) AS channel"""


async def beat(connection: asyncpg.Connection, worker_id: int, *, draining: bool) -> None:
    await connection.execute(BEAT, worker_id, socket.gethostname(), os.getpid(), draining)


async def survey(connection: asyncpg.Connection, *, stalled: float) -> list[Doing]:
    """Every job that is being done in the cluster, and what Postgres knows of its worker."""
    rows = await connection.fetch(SURVEY, stalled)
    return [
        Doing(JobAttempt.of_row(id_, attempts), worker_id, gone, silent)
        for id_, attempts, worker_id, gone, silent in rows
    ]


async def put_back(
    connection: asyncpg.Connection, doing: Doing, *, reason: Reason | None, deaths: int
) -> Ending | None:
    """Take one job from its worker, in one transaction. None if it has moved on or another rescuer has it.

    With a reason it counts as a death, unless that worker was draining: a supervisor's SIGKILL is not the job's fault.
    """
    async with connection.transaction():
        job = await connection.fetchrow(CLAIM, doing.run.job_id, doing.run.attempts)
        if job is None:
            return None
        died = 0
        if reason and not job["draining"]:
            died = await connection.fetchval(DIED, doing.run.job_id, reason, doing.worker_id)
        # Also when the job has ended: another may wait for its lock
        await connection.execute(NOTIFY, doing.run.job_id, job["queue_name"])
        if job["abort_requested"]:
            await connection.execute(END, doing.run.job_id, "aborted")
            return Ending.ABORTED
        if died >= deaths or not await _waits_again(connection, doing.run.job_id):
            await connection.execute(END, doing.run.job_id, "failed")
            return Ending.FAILED
        return Ending.WAITS


async def _waits_again(connection: asyncpg.Connection, job_id: int) -> bool:
    """False if a job with the same queueing lock waits already (issue #1446): then this one is not needed."""
    try:
        async with connection.transaction():
            await connection.execute(RETRY, job_id)
            await connection.execute(FORGET_WORKER, job_id)
    except asyncpg.UniqueViolationError:
        return False
    return True


class PresenceTracker(Generic[Key]):
    """Since when something has been seen, without a gap between two looks."""

    def __init__(self) -> None:
        self._since: dict[Key, float] = {}

    def look(self, seen: Iterable[Key], now: float) -> None:
        self._since = {key: self._since.get(key, now) for key in seen}

    def at_least(self, seconds: float, now: float) -> set[Key]:
        return {key for key, since in self._since.items() if now - since >= seconds}


class Lifeline:
    """One worker's lock, heartbeat, check of its own jobs, and look after the others', over one connection.

    `running` tells what this process really runs; `stop` ends runs that are no longer ours; `came_back` is awaited
    at each connect."""

    def __init__(
        self,
        url: str,
        timeouts: Timeouts,
        *,
        running: Callable[[], set[JobAttempt]],
        stop: Callable[[set[JobAttempt], str], None],
        came_back: Callable[[], Awaitable[None]],
    ) -> None:
        self.held = asyncio.Event()
        self.draining = False
        self._url, self._timeouts = url, timeouts
        self._running, self._stop, self._came_back = running, stop, came_back
        self._beaten = self._looked = self._steady = monotonic()
        self._said_draining = False
        self._absent: PresenceTracker[JobAttempt] = PresenceTracker()
        self._unknown: PresenceTracker[JobAttempt] = PresenceTracker()
        self._taken: PresenceTracker[JobAttempt] = PresenceTracker()
        self._besides: set[asyncio.Task[None]] = set()

    async def hold(self, worker_id: int) -> None:
        """Hold the lifeline for ever, through any outage. `held` is set while the lock is ours."""
        pauses = Backoff(0.05, RECONNECT_SECONDS, at_once=True)
        while True:
            try:
                async with self._connected(worker_id) as connection:
                    pauses.reset()
                    while True:
                        async with self._answer_in_time():
                            await self._look(connection, worker_id)
                        await asyncio.sleep(self._timeouts.survey)
            except DATABASE_ERRORS as exc:
                log.warning("worker %s lost its lifeline, connecting again: %r", worker_id, exc)
            if monotonic() - self._beaten > self._timeouts.stalled:
                # By now the others have taken over whatever ran here
                self._stop(self._running(), "no heartbeat came through")
            await asyncio.sleep(pauses.next())

    def _answer_in_time(self) -> asyncio.Timeout:
        # A server or network that hangs without closing is a lost one
        return asyncio.timeout(max(1.0, self._timeouts.heartbeat))

    @asynccontextmanager
    async def _connected(self, worker_id: int) -> AsyncIterator[asyncpg.Connection]:
        async with self._answer_in_time():
            connection = await connect(self._url, name="erp worker lifeline", **LIMITS)
        try:
            async with self._answer_in_time():
                await self._beat(connection, worker_id)
                await locks.hold_for_worker(connection, worker_id)
            self._steady = self._looked = monotonic()
            self.held.set()
            # Aside: a pooled connection that hangs must not keep the beats back
            self._aside(self._came_back())
            yield connection
        finally:
            self.held.clear()
            connection.terminate()

    async def _beat(self, connection: asyncpg.Connection, worker_id: int) -> None:
        sent, draining = monotonic(), self.draining
        await beat(connection, worker_id, draining=draining)
        self._beaten, self._said_draining = sent, draining

    async def _look(self, connection: asyncpg.Connection, worker_id: int) -> None:
        now = monotonic()
        if now - self._looked > self._timeouts.reconnect_grace:
            # This process was paused, perhaps with its host and so with the others: let them beat first
            self._steady = now
        self._looked = now
        if now - self._beaten >= self._timeouts.heartbeat or self.draining != self._said_draining:
            await self._beat(connection, worker_id)
        doing = await survey(connection, stalled=self._timeouts.stalled)
        now = monotonic()
        await self._check_own(connection, [d for d in doing if d.worker_id == worker_id], now)
        await self._rescue(connection, [d for d in doing if d.worker_id != worker_id], now)

    async def _check_own(self, connection: asyncpg.Connection, own: list[Doing], now: float) -> None:
        """Two looks apart, for a job that is just being fetched or finished differs for a moment."""
        running = self._running()
        self._taken.look(running - {doing.run for doing in own}, now)
        if taken := self._taken.at_least(OWN_CHECK_SECONDS, now):
            self._stop(taken, "another worker has taken it over")
        self._unknown.look((doing.run for doing in own if doing.run not in running), now)
        unknown = self._unknown.at_least(OWN_CHECK_SECONDS, now)
        for doing in own:
            if doing.run in unknown:
                # The answer to a fetch, or the last write of a job, was lost on its way
                await self._put_back(connection, doing, reason=None)

    async def _rescue(self, connection: asyncpg.Connection, others: list[Doing], now: float) -> None:
        self._absent.look((doing.run for doing in others if doing.gone), now)
        if now - self._steady < self._timeouts.reconnect_grace:
            return
        absent = self._absent.at_least(self._timeouts.absent, now)
        for doing in others:
            if doing.run in absent:
                await self._put_back(connection, doing, reason="gone")
            elif doing.silent:
                await self._put_back(connection, doing, reason="silent")

    async def _put_back(self, connection: asyncpg.Connection, doing: Doing, *, reason: Reason | None) -> None:
        try:
            ending = await put_back(connection, doing, reason=reason, deaths=self._timeouts.deaths)
        except asyncpg.PostgresError as exc:
            # One job that cannot be rescued must not hold up the others; a lost connection shows at the next
            log.error("job %s of worker %s cannot be taken over: %r", doing.run.job_id, doing.worker_id, exc)
            return
        if ending is not None:
            telemetry.rescues.labels(reason or "lost", ending.name.lower()).inc()
            said = (doing.run.job_id, doing.worker_id, reason or "lost", ending.value)
            log.warning("job %s of worker %s (%s): %s", *said)

    def _aside(self, work: Awaitable[None]) -> None:
        async def attempt() -> None:
            try:
                await work
            except Exception:
                log.exception("what a worker does besides its lifeline failed")

        task = asyncio.create_task(attempt())
        self._besides.add(task)
        task.add_done_callback(self._besides.discard)
