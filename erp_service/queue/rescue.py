"""How a worker proves that it is alive, and what the other workers do with its jobs when it is not.

Each worker has a connection of its own, its lifeline, on which it holds a lock (db/locks.py) and sends heartbeats.
Postgres releases the lock within milliseconds of the death of the process. So a lock that is gone means that the worker
is dead; a lock without heartbeats means that it is paused, hangs or is cut off. The others read `pg_locks` and never
try to take the lock: a try that succeeded would look like a living worker. This needs no free slot, no job and no
leader. Two rescuers of one job meet at its row, and the fence (fencing.py) makes a mistaken rescue harmless."""

import os
import socket
from enum import Enum
from typing import Literal, NamedTuple

import asyncpg
import msgspec

from erp_service.db import locks
from erp_service.queue.attempts import JobAttempt

Reason = Literal["gone", "silent"]


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """When a worker counts as dead, in seconds. A job under which `deaths` workers have died fails."""

    heartbeat: float = 5
    stalled: float = 15
    # after so long without its lock a worker is dead: one that only lost its connection has it again by then
    absent: float = 0.5
    # after a restart of Postgres, which releases all locks at once, the others need so long to take theirs again
    reconnect_grace: float = 3
    # after a failover: from a host that is silent, a worker comes back only when an attempt to connect has ended
    failover_grace: float = 10
    # after so long without an answer a worker looks whether another server leads by now
    doubt: float = 2
    survey: float = 0.2
    deaths: int = 5


class Doing(NamedTuple):
    """A job with the status `doing`, and its worker: `gone` if its lock is not held, `silent` if its last heartbeat is
    too old."""

    run: JobAttempt
    worker_id: int | None
    gone: bool
    silent: bool


class Timelines(NamedTuple):
    """The number of the timeline on which the server leads, and that of its last checkpoint, which is an older one for
    the first moments after a promotion."""

    leading: int
    checkpointed: int

    @property
    def is_new(self) -> bool:
        return self.checkpointed < self.leading


class Ending(Enum):
    """What became of a job that was taken from its worker."""

    WAITS = "waits again"
    FAILED = "failed: too many workers died under it"
    ABORTED = "aborted, as was requested"


BEAT = """
WITH worker AS (
    -- with its own id: a worker that was pruned while it was paused goes on as the same
    INSERT INTO procrastinate_workers (id) OVERRIDING SYSTEM VALUE VALUES ($1)
    ON CONFLICT (id) DO UPDATE SET last_heartbeat = now()
    RETURNING id
)
INSERT INTO queue_workers (worker_id, host, pid, draining) SELECT id, $2, $3, $4 FROM worker
ON CONFLICT (worker_id) DO UPDATE SET draining = excluded.draining"""

# the first eight digits in the name of a WAL file are the timeline, hexadecimal
TIMELINES = """
SELECT ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer,
    (SELECT timeline_id FROM pg_control_checkpoint())"""

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
# as in fencing.RETRY: the deletion of its last worker must not lock a job that waits
FORGET_WORKER = "UPDATE procrastinate_jobs SET worker_id = NULL WHERE id = $1"
NOTIFY = """
SELECT pg_notify(channel, json_build_object('type', 'job_inserted', 'job_id', $1::bigint)::text)
FROM unnest(ARRAY['procrastinate_queue_v1#' || $2::text, 'procrastinate_any_queue_v1']) AS channel"""


async def beat(connection: asyncpg.Connection, worker_id: int, *, draining: bool) -> None:
    await connection.execute(BEAT, worker_id, socket.gethostname(), os.getpid(), draining)


async def timelines(connection: asyncpg.Connection) -> Timelines:
    """Raises asyncpg.PostgresError if the server does not lead."""
    return Timelines(*await connection.fetchrow(TIMELINES))


async def survey(connection: asyncpg.Connection, *, stalled: float) -> list[Doing]:
    """Every job in the cluster that a worker runs, and what Postgres knows about that worker."""
    rows = await connection.fetch(SURVEY, stalled)
    return [
        Doing(JobAttempt.of_row(id_, attempts), worker_id, gone, silent)
        for id_, attempts, worker_id, gone, silent in rows
    ]


async def put_back(
    connection: asyncpg.Connection, doing: Doing, *, reason: Reason | None, deaths: int
) -> Ending | None:
    """Take one job from its worker, in one transaction. None if it goes on elsewhere or another rescuer has it.

    With a reason it counts as a death, unless the worker was draining: a supervisor's SIGKILL is not the job's fault.
    """
    async with connection.transaction():
        job = await connection.fetchrow(CLAIM, doing.run.job_id, doing.run.attempts)
        if job is None:
            return None
        died = 0
        if reason and not job["draining"]:
            died = await connection.fetchval(DIED, doing.run.job_id, reason, doing.worker_id)
        # also for a job that ends here: another may wait for its lock
        await connection.execute(NOTIFY, doing.run.job_id, job["queue_name"])
        if job["abort_requested"]:
            await connection.execute(END, doing.run.job_id, "aborted")
            return Ending.ABORTED
        if died >= deaths or not await _waits_again(connection, doing.run.job_id):
            await connection.execute(END, doing.run.job_id, "failed")
            return Ending.FAILED
        return Ending.WAITS


async def _waits_again(connection: asyncpg.Connection, job_id: int) -> bool:
    """Put the job back. False if one with the same queueing lock waits (issue #1446): then this one is not needed."""
    try:
        async with connection.transaction():
            await connection.execute(RETRY, job_id)
            await connection.execute(FORGET_WORKER, job_id)
    except asyncpg.UniqueViolationError:
        return False
    return True
