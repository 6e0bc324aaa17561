"""What the queue does at this moment, for operators; and retry and cancel of its jobs."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct
from sqlalchemy import text

from erp_service import errors
from erp_service.db import locks
from erp_service.db.sessions import Session, WriteSession
from erp_service.queue.jobs import cancel as cancel_job
from erp_service.registry.figures import FigureReader
from erp_service.registry.housekeeping import Pruning

MOST = 100
"""Entries of each list. Counts are not limited."""


class WorkerNow(Struct, frozen=True):
    """A registered worker. `heartbeat_age` is in seconds; `holds_lock` says whether its connection is alive."""

    id: Annotated[int, Meta(description="the id of its registration")]
    host: Annotated[str | None, Meta(description="where it runs; null if it is not known")]
    pid: Annotated[int | None, Meta(description="its process id; null if it is not known")]
    heartbeat_age: Annotated[float, Meta(description="seconds since its last heartbeat")]
    draining: Annotated[bool, Meta(description="true: it takes no new jobs")]
    holds_lock: Annotated[bool, Meta(description="whether its connection is alive")]
    running: Annotated[int, Meta(description="the number of its jobs")]


class Depth(Struct, frozen=True):
    """How many jobs of a queue have this status. A job that succeeds is deleted at once."""

    queue: Annotated[str, Meta(description="the name of the queue")]
    status: Annotated[str, Meta(description="of these jobs: `todo`, `doing`, `failed`, `cancelled` or `aborted`")]
    jobs: Annotated[int, Meta(description="how many there are")]


class JobNow(Struct, frozen=True):
    """A job that runs, or one that could. `attempt` counts from 1; `seconds` is the time since it began, or since it
    could have.

    `stalled` says why the job will be taken from its worker: the worker is `gone`, or `silent` for too long."""

    id: int
    queue: str
    task: str
    status: str
    attempt: int
    worker_id: int | None
    seconds: float
    cancel_asked: bool
    stalled: Literal["gone", "silent"] | None


class Failed(Struct, frozen=True):
    """A job that failed for good; `deaths` is how many workers died while they ran it."""

    id: int
    queue: str
    task: str
    attempts: int
    at: datetime | None
    deaths: int


class Deaths(Struct, frozen=True):
    """A job that has not succeeded, and how many workers died or fell silent while they ran it."""

    job_id: int
    status: str
    deaths: int
    last_reason: str
    last_worker_id: int | None
    last_at: datetime


_ALIVE = locks.is_held_for_worker("worker.id")

_WORKERS = text(f"""
    select worker.id, process.host, process.pid, coalesce(process.draining, false) as draining, {_ALIVE} as holds_lock,
      extract(epoch from now() - worker.last_heartbeat)::float8 as heartbeat_age,
      (select count(*) from procrastinate_jobs job where job.worker_id = worker.id and job.status = 'doing') as running
    from procrastinate_workers worker left join queue_workers process on process.worker_id = worker.id
    order by worker.id limit :most
""")  # noqa: S608 a constant of this module

_DEPTHS = text("""
    select queue_name as queue, status::text, count(*) as jobs from procrastinate_jobs group by 1, 2 order by 1, 2
""")

_JOBS = text(f"""
    select job.id, job.queue_name as queue, job.task_name as task, job.status::text, job.attempts + 1 as attempt,
      job.worker_id, job.abort_requested as cancel_asked,
      coalesce(extract(epoch from now() - greatest(event.at, job.scheduled_at)), 0)::float8 as seconds,
      case when job.status <> 'doing' then null when worker.id is null or not {_ALIVE} then 'gone'
        when worker.last_heartbeat < now() - make_interval(secs => :stalled) then 'silent' end as stalled
    from procrastinate_jobs job
    left join procrastinate_workers worker on worker.id = job.worker_id
    left join lateral (
      select max(at) as at from procrastinate_events
      where job_id = job.id and type in ('deferred', 'started', 'deferred_for_retry')
    ) event on true
    where job.status in ('todo', 'doing') and (job.scheduled_at is null or job.scheduled_at <= now())
    order by job.status desc, job.priority desc, job.id limit :most
""")  # noqa: S608 a constant of this module

_FAILED = text("""
    select job.id, job.queue_name as queue, job.task_name as task, job.attempts,
      (select max(at) from procrastinate_events where job_id = job.id and type = 'failed') as at,
      coalesce(death.deaths, 0) as deaths
    from procrastinate_jobs job left join queue_deaths death on death.job_id = job.id
    where job.status = 'failed' order by job.id desc limit :most
""")

_DEATHS = text("""
    select job_id, job.status::text, deaths, last_reason, last_worker_id, last_at
    from queue_deaths join procrastinate_jobs job on job.id = job_id order by last_at desc limit :most
""")

_WAITING = text("""
    select count(distinct job.id), extract(epoch from now() - min(greatest(event.at, job.scheduled_at)))::float8
    from procrastinate_jobs job
    left join procrastinate_events event on event.job_id = job.id and event.type = 'deferred'
    where job.status = 'todo' and (job.scheduled_at is null or job.scheduled_at <= now())
""")

_NOTIFY = text("""
    select pg_notify(channel, json_build_object('type', 'job_inserted', 'job_id', id)::text)
    from procrastinate_jobs job,
      unnest(array['procrastinate_queue_v1#' || job.queue_name, 'procrastinate_any_queue_v1']) channel
    where id = :id
""")

_RETRY = text("select procrastinate_retry_job_v2(:id, now(), null, null, null)")
_STATUS = text("select status::text from procrastinate_jobs where id = :id for update")


class Unknown(errors.NotFound):
    """The queue has no job with this id: it has succeeded, was deleted some time after it ended, or never existed."""

    slug, title = "unknown-job", "There is no such job"


class NotFailed(errors.Conflict):
    """Only a job that failed can be tried again."""

    slug, title = "job-not-failed", "The job has not failed"


class Ended(errors.Conflict):
    """The job has ended, so there is nothing to cancel."""

    slug, title = "job-ended", "The job has ended"


class TwinWaits(errors.Conflict):
    """Of this kind of job, at most one waits at a time, and one waits already: it will do the same."""

    slug, title = "same-job-waits", "The same job waits already"


errors.constraint("procrastinate_jobs_queueing_lock_idx_v1", TwinWaits)


async def workers(db: Session) -> list[WorkerNow]:
    rows = await db.execute(_WORKERS, {"most": MOST})
    return [WorkerNow(**row) for row in rows]


async def depths(db: Session) -> list[Depth]:
    return [Depth(**row) for row in await db.execute(_DEPTHS)]


async def jobs(db: Session, *, stalled: float) -> list[JobNow]:
    """First those that run, then those that could, in the order in which they will begin."""
    rows = await db.execute(_JOBS, {"stalled": stalled, "most": MOST})
    return [JobNow(**row) for row in rows]


async def waiting(db: Session) -> tuple[int, float | None]:
    """How many jobs could begin, and for how many seconds the first of them has waited; None if there is none."""
    count, oldest = (await db.execute(_WAITING)).one()
    return count, None if oldest is None else max(0.0, oldest)


async def failed(db: Session) -> list[Failed]:
    return [Failed(**row) for row in await db.execute(_FAILED, {"most": MOST})]


async def deaths(db: Session) -> list[Deaths]:
    return [Deaths(**row) for row in await db.execute(_DEATHS, {"most": MOST})]


async def retry(db: WriteSession, job_id: int) -> None:
    """Put a job that failed back into the queue, and notify the workers. Raises Unknown, NotFailed."""
    status = await _status(db, job_id)
    if status != "failed":
        raise NotFailed(f"Job {job_id} is {status}; only one that failed can be tried again.")
    await db.execute(_RETRY, {"id": job_id})
    # upstream notifies workers only of jobs that are inserted
    await db.execute(_NOTIFY, {"id": job_id})


async def cancel(db: WriteSession, job_id: int) -> None:
    """A job that waits is canceled at once; the worker of one that runs is requested to stop. Raises Unknown, Ended."""
    status = await _status(db, job_id)
    if not await cancel_job(db, job_id):
        raise Ended(f"Job {job_id} has ended: it is {status}.")


async def _status(db: WriteSession, job_id: int) -> str:
    status: str | None = await db.scalar(_STATUS, {"id": job_id})
    if status is None:
        raise Unknown(f"The queue has no job {job_id}; those that succeed leave it at once.")
    return status


_GAUGES = {
    "erp_workers": "Workers that hold their lock",
    "erp_workers_draining": "Workers that hold their lock and take no new job",
    "erp_queue_jobs_waiting": "Jobs that could begin if a worker had a free slot",
    "erp_queue_oldest_waiting_seconds": "For how long the first of these has waited",
    "erp_queue_jobs_failed": "Jobs that failed in the last seven days",
}


async def _figures(db: Session) -> dict[str, float]:
    alive = [worker for worker in await workers(db) if worker.holds_lock]
    ready, oldest = await waiting(db)
    return {
        "erp_workers": len(alive),
        "erp_workers_draining": sum(worker.draining for worker in alive),
        "erp_queue_jobs_waiting": ready,
        "erp_queue_oldest_waiting_seconds": oldest or 0.0,
        "erp_queue_jobs_failed": sum(depth.jobs for depth in await depths(db) if depth.status == "failed"),
    }


FIGURES = (FigureReader(_GAUGES, _figures),)

HOUSEKEEPING = (
    # The record of an export is its own row. A failed job is kept for longer, so that operators see why.
    Pruning(
        "jobs that ended",
        text("""
        delete from procrastinate_jobs where id in (
          select job.id from procrastinate_events event join procrastinate_jobs job on job.id = event.job_id
          where event.type in ('succeeded', 'cancelled', 'aborted') and event.at < now() - interval '1 hour'
            and job.status in ('succeeded', 'cancelled', 'aborted')
          limit :batch for update of job skip locked)
        """),
    ),
    Pruning(
        "jobs that failed",
        text("""
        delete from procrastinate_jobs where id in (
          select job.id from procrastinate_events event join procrastinate_jobs job on job.id = event.job_id
          where event.type = 'failed' and event.at < now() - interval '7 days' and job.status = 'failed'
          limit :batch for update of job skip locked)
        """),
    ),
    # one that was only cut off registers again under its id
    Pruning(
        "workers that are gone",
        text("""
        delete from procrastinate_workers where id in (
          select id from procrastinate_workers where last_heartbeat < now() - interval '1 hour'
          limit :batch for update skip locked)
        """),
    ),
)
