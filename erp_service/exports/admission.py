"""Admission: only a few exports of each owner are in the queue at once, and the others wait in their rows. Nor may the
files of one owner take up more than a quota of bytes.

So owners take turns, and the queue's fetch never walks a backlog. Small exports have a queue of their own, and each
worker keeps slots that large ones cannot take (QUEUES): small ones pass, however many large ones run and wait."""

import math
from functools import cache
from uuid import UUID

from msgspec import Struct
from sqlalchemy import TextClause, text, update

from erp_service.company.settings import company_settings
from erp_service.db import locks
from erp_service.db.sessions import Session, WriteSession
from erp_service.exports.jobs.kinds import EXPORTS, JobKind
from erp_service.exports.problems import ExportQuota
from erp_service.queue.jobs import defer
from erp_service.registry.figures import FigureReader
from erp_service.registry.queues import QueueShare

TASK, QUEUE, SMALL_QUEUE = EXPORTS.task, EXPORTS.queue, EXPORTS.small_queue


# `turn` is how many exports its owner has admitted once this one is. Of each owner only as many are looked at as can be
# admitted, and the owners are found by steps along the index, so that ten thousand waiting ones do not delay the end of
# each export: all ends wait for each other here.
@cache
def _admissible(relation: str) -> TextClause:
    return text(f"""
    with recursive owners as (
      (select user_id from {relation} where status in ('queued', 'running', 'canceling') order by user_id limit 1)
      union all
      select (select job.user_id from {relation} job
        where job.status in ('queued', 'running', 'canceling') and job.user_id > owners.user_id
        order by job.user_id limit 1)
      from owners where owners.user_id is not null
    ), admitted as (
      select user_id, count(*) as running from {relation}
      where status in ('queued', 'running', 'canceling') and queue_job_id is not null
      group by user_id
    ), ranked as (
      select waiting.id, coalesce(admitted.running, 0) + waiting.place as turn
      from owners left join admitted on admitted.user_id = owners.user_id
      cross join lateral (
        select job.id, row_number() over (order by job.id) as place from {relation} job
        where job.user_id = owners.user_id and job.status = 'queued' and job.queue_job_id is null
          -- for the planner, which finds the index of open exports by it
          and job.status in ('queued', 'running', 'canceling')
        order by job.id limit :most
      ) waiting
    )
    select job.id, job.is_small from {relation} job join ranked on ranked.id = job.id
    where ranked.turn <= :most and job.status = 'queued' and job.queue_job_id is null
    order by ranked.turn, job.id limit 100
    for update of job skip locked
""")  # noqa: S608 the name of a table


async def lock(db: WriteSession) -> None:
    """One admission at a time, until the transaction ends: two exports that end at once would else both fill one slot.

    Whoever holds this lock must not wait for the row of another export: its holder may be waiting for this lock."""
    await locks.take(db, locks.ADMISSION)


async def running_per_user(db: Session, kind: JobKind = EXPORTS) -> int:
    """How many jobs of a kind one owner may have in the queue at this moment."""
    return kind.most_running(await company_settings(db))


async def admit(db: WriteSession, most_running: int, kind: JobKind = EXPORTS) -> int:
    """Give waiting jobs of a kind to the queue while their owners run fewer than `most_running`; the owner with the
    fewest comes first.

    Whatever ends a job calls this in the same transaction. Returns how many were admitted."""
    await lock(db)
    # a locked row is just being canceled; that transaction calls this next
    admissible = await db.execute(_admissible(kind.relation), {"most": most_running})
    for row_id, is_small in admissible:
        job_id = await enqueue(db, row_id, is_small=is_small, kind=kind)
        await db.execute(update(kind.table).where(kind.table.id == row_id).values(queue_job_id=job_id))
    return len(admissible)


async def enqueue(db: WriteSession, row_id: UUID, *, is_small: bool, kind: JobKind = EXPORTS) -> int:
    """Give one job to the queue, under the lock; returns the id of the queue's job, which belongs into its row."""
    queue = kind.small_queue if is_small else kind.queue
    return await defer(db, kind.task, queue=queue, arguments={f"{kind.name}_id": str(row_id)})


# an export that is being deleted counts no more, although its file is removed a moment later
_USAGE = text("""
    select coalesce((select bytes from export_usage where user_id = :user_id), 0)::bigint as kept,
      coalesce(sum(bytes_done), 0)::bigint as growing
    from export_jobs where user_id = :user_id and status in ('queued', 'running', 'canceling')
""")
_FIRST_EXPIRY = text("""
    select extract(epoch from min(expires_at) - now())::float8 from export_jobs
    where user_id = :user_id and status = 'succeeded'
""")
_EXPIRING = 60
"""Seconds within which an expired file counts no more; and the Retry-After if only running exports fill the quota."""


async def require_room_for_files(db: Session, user_id: int, most_bytes: int) -> None:
    """Raises ExportQuota if the files that the user keeps, and those that are being written, leave no room."""
    usage = (await db.execute(_USAGE, {"user_id": user_id})).one()
    taken = usage.kept + usage.growing
    if taken < most_bytes:
        return
    first = await db.scalar(_FIRST_EXPIRY, {"user_id": user_id})
    wait = _EXPIRING + max(0, math.ceil(first or 0))
    instead = "" if first is None else f", or wait until the first expires in {wait} seconds"
    raise ExportQuota(
        f"Your export files take up {taken:,} bytes, and one user may keep {most_bytes:,}. Delete some{instead}.",
        headers={"Retry-After": str(wait)},
        bytes_kept=taken,
        bytes_allowed=most_bytes,
    )


# of two exports that run at once, the later one makes way
_BESIDE = text("""
    select coalesce((select bytes from export_usage where user_id = own.user_id), 0)::bigint
      + coalesce((select sum(bytes_done) from export_jobs earlier
          where earlier.user_id = own.user_id and earlier.status in ('running', 'canceling')
            and earlier.id < own.id), 0)::bigint
    from export_jobs own where own.id = :export_id
""")


async def require_room_to_grow(db: Session, export_id: UUID, bytes_: int, most_bytes: int) -> None:
    """Raises ExportQuota if a file of so many bytes, which is being written, does not fit beside the others of its
    owner."""
    beside = await db.scalar(_BESIDE, {"export_id": export_id}) or 0
    if beside + bytes_ > most_bytes:
        raise _outgrown(bytes_, beside, most_bytes)


async def require_room_for_published(db: Session, user_id: int, bytes_: int, most_bytes: int) -> None:
    """The same for a file of so many bytes that this transaction has just published, and thereby counted. The trigger
    holds the user's count until the end of the transaction, so no other file can be published meanwhile."""
    usage = (await db.execute(_USAGE, {"user_id": user_id})).one()
    if usage.kept > most_bytes:
        raise _outgrown(bytes_, usage.kept - bytes_, most_bytes)


def _outgrown(bytes_: int, beside: int, most_bytes: int) -> ExportQuota:
    return ExportQuota(
        f"The file has {bytes_:,} bytes so far, your others have {beside:,}, and one user may keep {most_bytes:,}."
        " Delete some, or narrow the export, and retry."
    )


class Counts(Struct, frozen=True):
    """The jobs of one kind of all owners: `running`, `waiting` for admission, and the age in seconds of the oldest that
    has not begun."""

    running: int
    waiting: int
    oldest: float | None


@cache
def _counts(relation: str) -> TextClause:
    return text(f"""
    select count(*) filter (where status <> 'queued') as running,
      count(*) filter (where status = 'queued' and queue_job_id is null) as waiting,
      extract(epoch from now() - min(created_at) filter (where status = 'queued'))::float8 as oldest
    from {relation} where status in ('queued', 'running', 'canceling')
""")  # noqa: S608 the name of a table


async def counts(db: Session, kind: JobKind = EXPORTS) -> Counts:
    return Counts(**(await db.execute(_counts(kind.relation))).one())


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
