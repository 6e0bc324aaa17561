"""Who may run: a few exports of each owner are in the queue at once, and the others wait in their rows.

So owners take turns, and the queue's fetch never walks a backlog. Small exports have a queue of their own, and each
worker keeps slots that large ones cannot take (QUEUES): so they pass, however many large ones run and wait."""

import json
from collections.abc import Iterable
from typing import NamedTuple

from msgspec import Struct
from sqlalchemy import select, text, update
from sqlalchemy.exc import DBAPIError

from erp_service.db import locks
from erp_service.db.sessions import Session, WriteSession
from erp_service.exports.models import ExportJob, Status
from erp_service.exports.planning.selection import Query
from erp_service.queue.connector import defer
from erp_service.registry.figures import FigureReader
from erp_service.registry.queues import QueueShare

TASK = "exports:run"
QUEUE = "exports"
SMALL_QUEUE = "exports-small"

SMALL_ROWS = 10_000
# in the planner's units: about half a second of reading, such as of some million rows to find a few
SMALL_COST = 100_000

_BRIEFLY = text("set local lock_timeout to '100ms'")
_AS_EVER = text("set local lock_timeout to default")

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
    select job.id, job.is_small from export_jobs job join ranked on ranked.id = job.id
    where ranked.place <= :most and job.status = 'queued' and job.queue_job_id is null
    order by ranked.place, job.id limit 100
    for update of job skip locked
""")


async def lock(db: WriteSession) -> None:
    """One admission at a time, until the transaction ends: two exports that end at once would else both fill a place.

    Whoever holds it must wait for no row of another export: that row's holder may be waiting for this lock."""
    await locks.take(db, locks.ADMISSION)


async def admit(db: WriteSession, most_running: int) -> int:
    """Give waiting exports to the queue while their owners run fewer than `most_running`: who runs the fewest, first.

    Whatever ends an export does it in the same transaction. Returns how many were admitted."""
    await lock(db)
    # a row that is locked is just being canceled; whoever does that comes here next
    admitted = (await db.execute(_ADMISSIBLE, {"most": most_running})).all()
    for export_id, is_small in admitted:
        queue = SMALL_QUEUE if is_small else QUEUE
        job_id = await defer(db, TASK, queue=queue, arguments={"export_id": str(export_id)})
        await db.execute(update(ExportJob).where(ExportJob.id == export_id).values(queue_job_id=job_id))
    return len(admitted)


async def waiting(db: Session, user_id: int) -> int:
    """How many exports of the user wait for admission."""
    rows = select(ExportJob.id).where(
        ExportJob.user_id == user_id, ExportJob.status == Status.QUEUED, ExportJob.queue_job_id.is_(None)
    )
    return len((await db.scalars(rows)).all())


class Counts(Struct, frozen=True):
    """`running` exports of all owners, those `waiting` for admission, and for how long the first has not begun."""

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
    found = await counts(db)
    return {
        "erp_exports_running": found.running,
        "erp_exports_waiting": found.waiting,
        "erp_exports_oldest_waiting_seconds": max(found.oldest or 0.0, 0.0),
    }


FIGURES = (FigureReader(_GAUGES, _figures),)
# so that small exports pass, large ones leave a slot to them
QUEUES = (QueueShare(QUEUE, spare=2), QueueShare(SMALL_QUEUE))


class Plan(NamedTuple):
    """What the planner thinks of a query. `width` is that of a row in bytes, `cost` is in its own units."""

    rows: int
    width: int
    cost: float


async def is_small(db: WriteSession, *queries: Query) -> bool:
    """What the planner thinks of all of them; without an answer they are taken for large. Ask before `lock`."""
    plans = await planned(db, queries)
    return plans is not None and small(plans)


def small(plans: Iterable[Plan]) -> bool:
    rows, _, cost = map(sum, zip(*plans, strict=True))
    return rows <= SMALL_ROWS and cost <= SMALL_COST


async def planned(db: WriteSession, queries: Iterable[Query]) -> list[Plan] | None:
    """In about a millisecond each; None if the planner cannot say at once."""
    try:
        async with db.begin_nested():
            # a table that is just being altered must not hold up the submission
            await db.execute(_BRIEFLY)
            said = [
                (await db.exec_driver_sql(f"explain (format json) {query.sql}", query.arguments)).scalar_one()
                for query in queries
            ]
            await db.execute(_AS_EVER)
    except DBAPIError as exc:
        if exc.connection_invalidated:
            raise
        return None
    tops = [(json.loads(one) if isinstance(one, str) else one)[0]["Plan"] for one in said]
    return [Plan(top["Plan Rows"], top["Plan Width"], top["Total Cost"]) for top in tops]
