"""The queue as operators see it: its jobs with their exports, and the exports that wait for admission."""

from datetime import datetime
from uuid import UUID

from msgspec import Struct
from sqlalchemy import text

from erp_service.db.sessions import Session
from erp_service.queue import inspection as queue
from erp_service.settings import Settings


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
