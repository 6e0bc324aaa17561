"""Lists of jobs: those that run or wait, and those that failed."""

from datetime import datetime

from sqlalchemy import BigInteger, Boolean, ColumnElement, DateTime, Integer, Text, Uuid, column, func, select, text

from erp_service.db import locks
from erp_service.db.pagination import SortKey, SortOrder, page
from erp_service.db.sessions import ReadSession
from erp_service.exports.admission import QUEUE, TASK
from erp_service.operations.jobs.schemas import FailedJob, FailedJobPage, OpenJob, OpenJobPage, OpenStatus

# what a job makes: an export, an import, or neither
_MAKES = """
    left join lateral (
      select 'export' as makes, id, dataset, user_id, rows_done, rows_total, error
      from export_jobs where queue_job_id = job.id
      union all
      select 'import', id, dataset, user_id, rows_done, rows_total, error from import_jobs where queue_job_id = job.id
      limit 1
    ) made on true
    left join users u on u.id = made.user_id
"""

_OPEN = text(f"""
    select job.id, job.queue_name as queue, job.task_name as task,
      case when job.status = 'doing' then 'running' when job.scheduled_at > now() then 'scheduled' else 'waiting' end
        as status,
      job.attempts + 1 as attempt, greatest(event.at, job.scheduled_at) as since, job.worker_id,
      job.abort_requested as cancel_asked,
      case when job.status <> 'doing' then null
        when worker.id is null or not {locks.is_held_for_worker("worker.id")} then 'gone'
        when worker.last_heartbeat < now() - make_interval(secs => :stalled) then 'silent' end as stalled,
      made.makes, made.id as makes_id, made.dataset, u.email as owner, made.rows_done, made.rows_total
    from procrastinate_jobs job
    left join procrastinate_workers worker on worker.id = job.worker_id
    left join lateral (
      select max(at) as at from procrastinate_events
      where job_id = job.id and type in ('deferred', 'started', 'deferred_for_retry')
    ) event on true
    {_MAKES}
    where job.status in ('todo', 'doing')
""")  # noqa: S608 constants of this module

_OPEN_COLUMNS = (
    column("id", BigInteger),
    column("queue", Text),
    column("task", Text),
    column("status", Text),
    column("attempt", Integer),
    column("since", DateTime(timezone=True)),
    column("worker_id", BigInteger),
    column("cancel_asked", Boolean),
    column("stalled", Text),
    column("makes", Text),
    column("makes_id", Uuid),
    column("dataset", Text),
    column("owner", Text),
    column("rows_done", BigInteger),
    column("rows_total", BigInteger),
)

# An export that was tried again, by whomever, is not listed: the new one tells how that went.
_FAILED = text(f"""
    select coalesce(case when made.makes = 'export' then made.id::text end, job.id::text) as job, job.id as number,
      job.queue_name as queue, job.task_name as task,
      coalesce((select max(at) from procrastinate_events where job_id = job.id and type = 'failed'), to_timestamp(0))
        as at,
      job.attempts, coalesce(death.deaths, 0) as deaths, made.makes, made.dataset, u.email as owner,
      made.error ->> 'type' as problem, coalesce(made.error ->> 'detail', made.error ->> 'title') as reason
    from procrastinate_jobs job left join queue_deaths death on death.job_id = job.id
    {_MAKES}
    where job.status = 'failed' and not exists (
      select from export_jobs again where made.makes = 'export' and again.retry_of = made.id)
    union all
    select export.id::text, null, '{QUEUE}', '{TASK}', export.finished_at, export.attempt, 0, 'export', export.dataset,
      u.email, export.error ->> 'type', coalesce(export.error ->> 'detail', export.error ->> 'title')
    from export_jobs export join users u on u.id = export.user_id
    where export.status = 'failed' and export.deleted_at is null and export.finished_at > now() - interval '7 days'
      and not exists (
        select from procrastinate_jobs job where job.id = export.queue_job_id and job.status = 'failed')
      and not exists (select from export_jobs again where again.retry_of = export.id)
""")  # noqa: S608 constants of this module

_FAILED_COLUMNS = (
    column("job", Text),
    column("number", BigInteger),
    column("queue", Text),
    column("task", Text),
    column("at", DateTime(timezone=True)),
    column("attempts", Integer),
    column("deaths", Integer),
    column("makes", Text),
    column("dataset", Text),
    column("owner", Text),
    column("problem", Text),
    column("reason", Text),
)


async def open_jobs(
    db: ReadSession,
    *,
    status: OpenStatus | None,
    queue: str | None,
    task: str | None,
    stalled: float,
    limit: int,
    cursor: str | None,
) -> OpenJobPage:
    """One page of the jobs that run or wait, the first to be put into the queue first."""
    jobs = _OPEN.bindparams(stalled=stalled).columns(*_OPEN_COLUMNS).subquery("jobs")
    order = SortOrder([SortKey(jobs.c.id, "id", int)])
    equal = ((jobs.c.status, status), (jobs.c.queue, queue), (jobs.c.task, task))
    statement = select(*jobs.c).where(*(known == value for known, value in equal if value is not None))
    return await page(db, statement, OpenJob, order, limit=limit, cursor=cursor, into=OpenJobPage)


async def failed_jobs(
    db: ReadSession,
    *,
    queue: str | None,
    task: str | None,
    words: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    cursor: str | None,
) -> FailedJobPage:
    """One page of the jobs that failed, newest first. `since` is inclusive, `until` exclusive."""
    jobs = _FAILED.columns(*_FAILED_COLUMNS).subquery("jobs")
    order = SortOrder([SortKey(jobs.c.at, "at", datetime), SortKey(jobs.c.job, "job", str)], descending=True)
    shown = func.lower(
        func.concat_ws(
            " ", *(jobs.c[name] for name in ("job", "number", "task", "dataset", "owner", "problem", "reason"))
        )
    )
    conditions: list[ColumnElement[bool]] = [
        *(known == value for known, value in ((jobs.c.queue, queue), (jobs.c.task, task)) if value is not None),
        *([func.strpos(shown, words.lower()) > 0] if words else []),
        *([jobs.c.at >= since] if since is not None else []),
        *([jobs.c.at < until] if until is not None else []),
    ]
    statement = select(*jobs.c).where(*conditions)
    return await page(db, statement, FailedJob, order, limit=limit, cursor=cursor, into=FailedJobPage)
