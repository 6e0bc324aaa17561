"""Admission: only a few exports of each owner are in the queue at once, and the others wait in their rows.

So owners take turns, and the queue's fetch never walks a backlog. Small exports have a queue of their own, and each
worker keeps slots that large ones cannot take (QUEUES): small ones pass, however many large ones run and wait."""

from uuid import UUID

from msgspec import Struct
from sqlalchemy import text, update

from erp_service.db import locks
from erp_service.db.sessions import Session, WriteSession
from erp_service.exports.models import ExportJob
from erp_service.queue.connector import defer
from erp_service.registry.figures import FigureReader
from erp_service.registry.queues import QueueShare

TASK = "exports:run"
QUEUE = "exports"
SMALL_QUEUE = "exports-small"

# `turn` is how many exports its owner has admitted once this one is
_ADMISSIBLE = text("""
    with admitted as (
      select user_id, count(*) as running from export_jobs
      where status in ('queued', 'running', 'canceling') and queue_job_id is not null
      group by user_id
    ), ranked as (
      select waiting.id,
        coalesce(admitted.running, 0) + row_number() over (partition by waiting.user_id order by waiting.id) as turn
      from export_jobs waiting left join admitted on admitted.user_id = waiting.user_id
      where waiting.status = 'queued' and waiting.queue_job_id is null
    )
    select job.id, job.is_small from export_jobs job join ranked on ranked.id = job.id
    where ranked.turn <= :most and job.status = 'queued' and job.queue_job_id is null
    order by ranked.turn, job.id limit 100
    for update of job skip locked
""")


async def lock(db: WriteSession) -> None:
    """One admission at a time, until the transaction ends: two exports that end at once would else both fill one slot.

    Whoever holds this lock must not wait for the row of another export: its holder may be waiting for this lock."""
    await locks.take(db, locks.ADMISSION)


async def admit(db: WriteSession, most_running: int) -> int:
    """Give waiting exports to the queue while their owners run fewer than `most_running`; the owner with the fewest
    comes first.

    Whatever ends an export calls this in the same transaction. Returns how many were admitted."""
    await lock(db)
    # a locked row is just being canceled; that transaction calls this next
    admissible = (await db.execute(_ADMISSIBLE, {"most": most_running})).all()
    for export_id, is_small in admissible:
        job_id = await enqueue(db, export_id, is_small=is_small)
        await db.execute(update(ExportJob).where(ExportJob.id == export_id).values(queue_job_id=job_id))
    return len(admissible)


async def enqueue(db: WriteSession, export_id: UUID, *, is_small: bool) -> int:
    """Give one export to the queue, under the lock; returns the id of the queue's job, which belongs into its row."""
    queue = SMALL_QUEUE if is_small else QUEUE
    return await defer(db, TASK, queue=queue, arguments={"export_id": str(export_id)})


class Counts(Struct, frozen=True):
    """The exports of all owners: `running`, `waiting` for admission, and the age in seconds of the oldest that has not
    begun."""

    running: int
    waiting: int
    oldest: float | None


_COUNTS = text("""
    select count(*) filter (where status <> 'queued') as running,
      count(*) filter (where status = 'queued' and queue_job_id is null) as waiting,
      extract(epoch from now() - min(created_at) filter (where status = 'queued'))::float8 as oldest
    from export_jobs where status in ('queued', 'running', 'canceling')
""")


async def counts(db: Session) -> Counts:
    return Counts(**(await db.execute(_COUNTS)).mappings().one())


_GAUGES = {
    "erp_exports_running": "Exports in hand",
    "erp_exports_waiting": "Exports that wait for admission: their owners have their share",
    "erp_exports_oldest_waiting_seconds": "For how long the first export has not begun",
}


async def _figures(db: Session) -> dict[str, float]:
    now = await counts(db)
    return {
        "erp_exports_running": now.running,
        "erp_exports_waiting": now.waiting,
        "erp_exports_oldest_waiting_seconds": max(now.oldest or 0.0, 0.0),
    }


FIGURES = (FigureReader(_GAUGES, _figures),)
# a worker runs small exports in the slots that large ones must leave
QUEUES = (QueueShare(QUEUE, spare=2), QueueShare(SMALL_QUEUE))
