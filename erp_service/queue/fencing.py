"""The attempt number as a fence: a worker that has an old one cannot end the job.

Upstream ends a job by its id alone. So a worker that was paused and resumes would mark the job of its successor as
done and release its lock. `attempts` grows with every retry and rescue, so (id, attempts) identifies one run.

A failover to a standby that lacked the last transactions goes back in time: a number of an attempt, or even the id of a
job, is given out a second time. So the fence compares the worker as well, and the id of a worker is random instead of
the next of a sequence."""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from time import monotonic
from typing import Any, TypeVar

from procrastinate import exceptions, jobs, manager

from erp_service.observability import telemetry
from erp_service.queue.attempts import JobAttempt
from erp_service.queue.outages import is_unavailable

log = logging.getLogger(__name__)
T = TypeVar("T")

OUTAGE_SECONDS = 120.0
RETRY_SECONDS = 0.5


# Upstream notifies workers only when a job is inserted. A job that waited for this one's lock, or that goes back to the
# queue, would wait for the next poll. A notification without a job to fetch costs each worker one query.
# (A doing job names no worker if that one was pruned while it was paused.)
FINISH = """
WITH own AS (
    SELECT id, lock FROM procrastinate_jobs
    WHERE id = %(job_id)s AND status = 'doing' AND attempts = %(attempts)s
        AND coalesce(worker_id, %(worker_id)s) = %(worker_id)s
    FOR UPDATE
)
SELECT procrastinate_finish_job_v1(id, %(status)s, %(delete_job)s)::text,
    CASE WHEN lock IS NOT NULL THEN
        pg_notify('procrastinate_any_queue_v1', json_build_object('type', 'job_inserted', 'job_id', id)::text)::text
    END
FROM own"""

# If the job was canceled while it went back to the queue, the cancel wins; upstream would mark it failed.
# The row must not name its last worker. When that worker's row is deleted, as at the end of a drain, the foreign key
# locks the job to set the column to null; workers that are notified at that moment skip the job as locked.
RETRY = """
WITH own AS (
    UPDATE procrastinate_jobs SET worker_id = NULL
    WHERE id = %(job_id)s AND status = 'doing' AND attempts = %(attempts)s
        AND coalesce(worker_id, %(worker_id)s) = %(worker_id)s
    RETURNING id, queue_name, abort_requested
), back AS MATERIALIZED (
    SELECT coalesce(%(queue)s::varchar, queue_name) AS queue_name,
        json_build_object('type', 'job_inserted', 'job_id', id)::text AS payload,
        CASE WHEN abort_requested THEN procrastinate_finish_job_v1(id, 'aborted', false)::text
            ELSE procrastinate_retry_job_v2(id, coalesce(%(retry_at)s::timestamptz, now()),
                %(priority)s::integer, %(queue)s::varchar, %(lock)s::varchar)::text
        END AS done
    FROM own
)
SELECT pg_notify('procrastinate_queue_v1#' || queue_name, payload)::text,
    pg_notify('procrastinate_any_queue_v1', payload)::text, done
FROM back"""


# The lock of a worker has 31 bits for the id.
REGISTER = """
INSERT INTO procrastinate_workers (id) OVERRIDING SYSTEM VALUE VALUES (%(worker_id)s)
ON CONFLICT (id) DO NOTHING RETURNING id"""
GREATEST_WORKER_ID = 2**31 - 1


class FencedJobManager(manager.JobManager):
    """Ends a run only while the job has not gone on to another; else the result is logged and dropped."""

    async def finish_job(self, job: jobs.Job, status: jobs.Status, delete_job: bool) -> None:
        """Upstream ends any run that the job has by now."""
        await self._end(job, FINISH, status=status.value, delete_job=delete_job)

    async def retry_job(
        self,
        job: jobs.Job,
        retry_at: datetime | None = None,
        priority: int | None = None,
        queue: str | None = None,
        lock: str | None = None,
    ) -> None:
        """Without `retry_at` the job waits again from now on, by the clock of the database and not of this host."""
        try:
            await self._end(job, RETRY, retry_at=retry_at, priority=priority, queue=queue, lock=lock)
        except exceptions.UniqueViolation:
            # issue #1446: two jobs with one queueing lock cannot both wait, and this one would stay `doing` for ever
            log.warning("job %s cannot wait again: another with its queueing lock does", job.id)
            await self.finish_job(job, jobs.Status.FAILED, delete_job=False)

    async def prune_stalled_workers(self, seconds_since_heartbeat: float) -> list[int]:
        """The first query of a worker: a server that restarts at that moment must not end the worker."""
        prune = super().prune_stalled_workers
        return await _through_outages(lambda: prune(seconds_since_heartbeat), "workers are not pruned")

    async def register_worker(self) -> int:
        """Registers twice if the first answer was lost: a row without heartbeats is pruned later.

        Upstream takes the next id of a sequence. After a failover that lost transactions, a worker that starts would
        get the id of one that runs, and each would take the other's jobs for its own."""
        while True:
            worker_id = 1 + secrets.randbelow(GREATEST_WORKER_ID)
            register = partial(self.connector.execute_query_all_async, REGISTER, worker_id=worker_id)
            if await _through_outages(register, "this worker is not registered"):
                return worker_id

    async def _end(self, job: jobs.Job, query: str, **arguments: Any) -> None:
        run = JobAttempt.of(job)
        values = {"job_id": run.job_id, "attempts": run.attempts, "worker_id": job.worker_id, **arguments}
        # safe to repeat: behind the fence the statement takes effect once
        end = partial(self.connector.execute_query_all_async, query, **values)
        if not await _through_outages(end, f"the end of job {run.job_id} is not written"):
            telemetry.fenced.labels("result dropped").inc()
            log.warning("job %s, attempt %s, is no longer ours: its result is dropped", run.job_id, run.attempt)


async def _through_outages(query: Callable[[], Awaitable[T]], not_done: str, *, pause: float = RETRY_SECONDS) -> T:
    """Repeat a query until an outage is over; `not_done` is for the log. Raises after OUTAGE_SECONDS."""
    deadline = monotonic() + OUTAGE_SECONDS
    while True:
        try:
            return await query()
        except exceptions.ConnectorException as exc:
            if not is_unavailable(exc) or monotonic() > deadline:
                raise
            log.warning("%s yet: %r", not_done, exc.__cause__)
        await asyncio.sleep(pause)
