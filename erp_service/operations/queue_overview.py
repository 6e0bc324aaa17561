"""The queue as operators see it: its jobs with their exports, and the exports that wait for admission."""

from datetime import datetime
from uuid import UUID

from msgspec import Struct
from sqlalchemy import select, text

from erp_service import errors
from erp_service.access.principals import Principal, command
from erp_service.audit.record import record
from erp_service.auth import queries as auth_queries
from erp_service.company.settings import company_settings
from erp_service.db.sessions import Session, WriteSession
from erp_service.exports import service
from erp_service.exports.models import ExportJob
from erp_service.queue import inspection as queue
from erp_service.settings import Settings

OPERATOR = "erp queue"
"""Whoever runs the command, in the audit log: they have access to the database, and are no user of the service."""


class ExportNow(Struct, frozen=True):
    """An export whose job is in the queue. `percent` of its rows are done; None if their number is not known."""

    id: UUID
    queue_job_id: int
    dataset: str
    owner: str
    status: str
    rows_done: int
    rows_total: int | None
    percent: float | None


class Owner(Struct, frozen=True):
    """How many exports of one owner are in the queue (`admitted`), and how many wait for admission (`waiting`). The
    first of these has waited for `oldest` seconds."""

    owner: str
    admitted: int
    waiting: int
    oldest: float | None


class FailedExport(Struct, frozen=True):
    """`problem` is the type of its problem, `reason` the detail for people."""

    id: UUID
    dataset: str
    owner: str
    at: datetime | None
    problem: str
    reason: str


class Overview(Struct, frozen=True):
    """Everything that `erp queue` shows. Ages are in seconds. Lists end after `queue.MOST` rows; counts count all."""

    workers: list[queue.WorkerNow]
    depths: list[queue.Depth]
    jobs: list[queue.JobNow]
    oldest_waiting: float | None
    exports: list[ExportNow]
    owners: list[Owner]
    failed_jobs: list[queue.Failed]
    failed_exports: list[FailedExport]
    deaths: list[queue.Deaths]


_EXPORTS = text("""
    select export.id, queue_job_id, dataset, u.email as owner, status, rows_done, rows_total,
      case when rows_total > 0 then least(100, round(100.0 * rows_done / rows_total, 1))::float8 end as percent
    from export_jobs export join users u on u.id = user_id
    where status in ('queued', 'running', 'canceling') and queue_job_id is not null order by queue_job_id limit :most
""")

_OWNERS = text("""
    select u.email as owner, count(queue_job_id) as admitted, count(*) - count(queue_job_id) as waiting,
      extract(epoch from now() - min(export.created_at) filter (where queue_job_id is null))::float8 as oldest
    from export_jobs export join users u on u.id = user_id
    where status in ('queued', 'running', 'canceling') group by u.email
    order by waiting desc, u.email collate "C" limit :most
""")

_FAILED = text("""
    select export.id, dataset, u.email as owner, finished_at as at, error ->> 'type' as problem,
      coalesce(error ->> 'detail', error ->> 'title', '') as reason
    from export_jobs export join users u on u.id = user_id
    where status = 'failed' and deleted_at is null and finished_at > now() - interval '7 days'
    order by export.id desc limit :most
""")


async def read_overview(db: Session, settings: Settings) -> Overview:
    most = {"most": queue.MOST}
    return Overview(
        workers=await queue.workers(db),
        depths=await queue.depths(db),
        jobs=await queue.jobs(db, stalled=settings.stalled_seconds),
        oldest_waiting=(await queue.waiting(db))[1],
        exports=[ExportNow(**row) for row in await db.execute(_EXPORTS, most)],
        owners=[Owner(**row) for row in await db.execute(_OWNERS, most)],
        failed_jobs=await queue.failed(db),
        failed_exports=[FailedExport(**row) for row in await db.execute(_FAILED, most)],
        deaths=await queue.deaths(db),
    )


async def retry_job(db: WriteSession, job: UUID | int) -> str:
    """Try again what failed: an export as a new export of the same owner, a job of another kind as it is.

    `job` is the id of an export, or the number of a job in the queue. Returns a sentence that says what was done.

    Raises errors.NotFound, errors.Forbidden, errors.Conflict, TooManyExports."""
    target = await _resolve(db, job)
    if isinstance(target, int):
        await queue.retry(db, target)
        await record(db, command(OPERATOR), "job.retried", target)
        return f"Job {target} waits again."
    owner = await _owner_as_principal(db, target)
    export = await service.retry(db, owner, await company_settings(db), target)
    await record(
        db,
        command(OPERATOR),
        "export.retried",
        target,
        after={"id": str(export.job.id)},
        on_behalf_of=owner.user_id,
    )
    return f"Export {export.job.id} tries {target} again."


async def cancel_job(db: WriteSession, job: UUID | int) -> str:
    """Cancel an export or another job. `job` and the result are as in `retry_job`.

    Raises errors.NotFound, errors.Conflict."""
    target = await _resolve(db, job)
    if isinstance(target, int):
        await queue.cancel(db, target)
        await record(db, command(OPERATOR), "job.canceled", target)
        return f"Job {target} is canceled, or stops within a second."
    export = await service.cancel(db, command(OPERATOR), target)
    return f"Export {target} is {export.job.status}."


async def _resolve(db: Session, job: UUID | int) -> UUID | int:
    """The id of the export that a job of the queue makes, or the job's own number if it makes none."""
    if isinstance(job, UUID):
        return job
    export_id: UUID | None = await db.scalar(select(ExportJob.id).where(ExportJob.queue_job_id == job))
    return export_id or job


async def _owner_as_principal(db: Session, export_id: UUID) -> Principal:
    """The principal that the new export runs for: its owner with the role that they have now, in a request of the
    operator's. Raises errors.NotFound, or errors.Forbidden if the owner is no longer active."""
    user_id = await db.scalar(select(ExportJob.user_id).where(ExportJob.id == export_id))
    if user_id is None:
        raise errors.NotFound(f"There is no export {export_id}.")
    authority = await auth_queries.authority(db, user_id)
    if authority is None or not authority.active:
        raise errors.Forbidden(f"The owner of export {export_id} is no longer active.")
    return Principal(user_id, authority.role, request_id=OPERATOR, actor=command(OPERATOR).actor)
