"""Who may run: a few exports of each owner are in the queue at once, and the others wait in their rows.

So owners take turns, and the queue's fetch never walks a backlog."""

from uuid import UUID

from sqlalchemy import select, text, update

from erp_service.db import Session, WriteSession
from erp_service.exports.models import ExportJob, Status
from erp_service.queue.connector import defer

TASK = "exports:run"
QUEUE = "exports"

_LOCK = text("select pg_advisory_xact_lock(727276)")

_ADMISSIBLE = text("""
    with admitted as (
      select user_id, count(*) as running from export_jobs
      where status in ('queued', 'running', 'canceling') and queue_job_id is not null
      group by user_id
    ), ranked as (
      select waiting.id,
        coalesce(admitted.running, 0) + row_number() over (partition by waiting.user_id order by waiting.id) as place
      from export_jobs waiting left join admitted on admitted.user_id = waiting.user_id
      where waiting.status = 'queued' and waiting.queue_job_id is null
    )
    select job.id from export_jobs job join ranked on ranked.id = job.id
    where ranked.place <= :most and job.status = 'queued' and job.queue_job_id is null
    order by ranked.place, job.id limit 100
    for update of job skip locked
""")


async def lock(db: WriteSession) -> None:
    """One admission at a time, until the transaction ends: two exports that end at once would else both fill a place.

    Whoever holds it must wait for no row of another export: that row's holder may be waiting for this lock."""
    await db.execute(_LOCK)


async def admit(db: WriteSession, most_running: int) -> int:
    """Give waiting exports to the queue while their owners run fewer than `most_running`: who runs the fewest, first.

    Whatever ends an export does it in the same transaction. Returns how many were admitted."""
    await lock(db)
    # a row that is locked is just being canceled; whoever does that comes here next
    admitted: list[UUID] = list(await db.scalars(_ADMISSIBLE, {"most": most_running}))
    for export_id in admitted:
        job_id = await defer(db, TASK, queue=QUEUE, arguments={"export_id": str(export_id)})
        await db.execute(update(ExportJob).where(ExportJob.id == export_id).values(queue_job_id=job_id))
    return len(admitted)


async def waiting(db: Session, user_id: int) -> int:
    """How many exports of the user wait for admission."""
    rows = select(ExportJob.id).where(
        ExportJob.user_id == user_id, ExportJob.status == Status.QUEUED, ExportJob.queue_job_id.is_(None)
    )
    return len((await db.scalars(rows)).all())
