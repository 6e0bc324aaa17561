"""The states of a job of any kind. Each change is a compare-and-set that contains the fence.

A run is identified by the job's row, its queue job and the attempt. A run with an old attempt changes nothing, learns
so from the result, and cleans up only what it made itself. Each end admits the next job in the same transaction."""

from typing import Any, Literal
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, bindparam, func, select, text, update
from sqlalchemy.sql.dml import Update

from erp_service.access import principals
from erp_service.audit.record import record
from erp_service.db.base import among
from erp_service.db.sessions import WriteSession
from erp_service.errors import Refused
from erp_service.exports import admission
from erp_service.exports.eta import Pace, percent
from erp_service.exports.jobs.kinds import EXPORTS, JobKind
from erp_service.exports.models import JobColumns, Status
from erp_service.exports.problems import stored_problem
from erp_service.queue.attempts import JobAttempt

WORKER = principals.system("erp worker")

NOW = func.clock_timestamp()


class Run(msgspec.Struct, frozen=True):
    """One attempt at one job. Its number is that of the queue's job, which grows with every retry and rescue."""

    id: UUID
    job: JobAttempt
    kind: JobKind = EXPORTS

    @property
    def queue_job_id(self) -> int:
        return self.job.job_id

    @property
    def attempt(self) -> int:
        """Counts from 1."""
        return self.job.attempt

    def holds(self, *statuses: Status) -> list[ColumnElement[bool]]:
        """The conditions under which the row belongs to this run, in one of these statuses if any are given."""
        job = self.kind.table
        held = [job.id == self.id, job.queue_job_id == self.queue_job_id, job.attempt == self.attempt]
        return [*held, among(job.status, statuses)] if statuses else held


class LostOwnership(Exception):
    """Another attempt has the job, or the job has ended: this run must write nothing more."""


class CancelRequested(Exception):
    """The row says `canceling`."""


def claiming(job: type[JobColumns], **more: object) -> Update:
    """The statement by which a run claims its job, which the kind lets return what it needs; parameters: `id`, `job_id`
    and `number`, the attempt. `more` are columns of the kind that begin anew with each attempt."""
    return (
        update(job)
        .where(
            job.id == bindparam("job_row_id"),
            job.queue_job_id == bindparam("job_id"),
            job.attempt < bindparam("number"),
            text("status in ('queued', 'running')"),
        )
        .values(
            status=Status.RUNNING,
            attempt=bindparam("number"),
            started_at=NOW,
            rows_done=0,
            bytes_done=0,
            rows_total=None,
            rows_total_is_estimate=False,
            progress_at=None,
            percent=0.0,
            recent_rows=0.0,
            recent_seconds=0.0,
            **more,
        )
    )


def claim_parameters(run: Run) -> dict[str, object]:
    return {"job_row_id": run.id, "job_id": run.queue_job_id, "number": run.attempt}


async def end_unclaimed(db: WriteSession, run: Run, *, most_running: int) -> None:
    """For a run that could claim nothing: the worker that should have answered the cancel may have died before."""
    job = run.kind.table
    later = [job.id == run.id, job.queue_job_id == run.queue_job_id, job.attempt < run.attempt]
    if await change(db, run.kind, [*later, job.status == Status.CANCELING], status=Status.CANCELED, finished_at=NOW):
        await admission.admit(db, most_running, run.kind)


async def advance(db: WriteSession, run: Run, *, rows: int, bytes_: int, **more: object) -> None:
    """Record the progress and notify listeners; raises LostOwnership, CancelRequested.

    `rows` and `bytes_` are of the whole job, also where it is done in ranges; `more` are further columns."""
    job = run.kind.table
    statement = select(
        job.status,
        job.rows_done,
        job.bytes_done,
        job.rows_total,
        job.rows_total_is_estimate,
        job.percent,
        job.recent_rows,
        job.recent_seconds,
        func.coalesce(func.extract("epoch", NOW - job.progress_at), 0.0).label("seconds"),
    )
    row = (await db.execute(statement.where(*run.holds()))).one_or_none()
    _require_ours(None if row is None else row.status)
    if row is None or (rows <= row.rows_done and bytes_ <= row.bytes_done):
        return
    rows = max(rows, row.rows_done)
    values: dict[str, Any] = {"rows_done": rows, "bytes_done": max(bytes_, row.bytes_done), "progress_at": NOW, **more}
    if row.rows_done:
        # the time before the first rows went into planning and sorting, and says nothing about the rest
        more_rows, seconds = rows - row.rows_done, float(row.seconds)
        pace = Pace(row.recent_rows, row.recent_seconds).onward(rows=more_rows, seconds=seconds)
        values |= {"recent_rows": pace.rows, "recent_seconds": pace.seconds}
    if row.rows_total is not None:
        now = percent(rows_done=rows, rows_total=row.rows_total, is_estimate=row.rows_total_is_estimate)
        # stored, and not computed on each read: a total that grows must not make it smaller
        values["percent"] = max(row.percent, now)
    if await change(db, run.kind, run.holds(Status.RUNNING), **values):
        await notify(db, run)


async def require_ours(db: WriteSession, run: Run) -> None:
    """Raises LostOwnership, CancelRequested."""
    _require_ours(await db.scalar(select(run.kind.table.status).where(*run.holds())))


def _require_ours(status: str | None) -> None:
    if status == Status.CANCELING:
        raise CancelRequested
    if status != Status.RUNNING:
        raise LostOwnership


async def notify(db: WriteSession, run: Run) -> None:
    await db.execute(text("select pg_notify(:channel, :id)"), {"channel": run.kind.channel, "id": str(run.id)})


async def succeed(db: WriteSession, run: Run, **values: object) -> int:
    """The job succeeds here and nowhere else, in the transaction of its effect. Returns its owner.

    The caller records it and then admits the next. Raises LostOwnership, CancelRequested."""
    values = {"status": Status.SUCCEEDED, "finished_at": NOW, "progress_at": NOW, **values}
    owner = await change(db, run.kind, run.holds(Status.RUNNING), **values)
    if owner is None:
        await require_ours(db, run)
        raise LostOwnership
    return owner


async def fail(db: WriteSession, run: Run, why: Refused, *, most_running: int, **more: object) -> bool:
    """False if the job was not this run's any more. A job that is `canceling` ends canceled instead. `more` are columns
    of the kind that say more of the failure."""
    if await cancel(db, run, most_running=most_running, only_requested=True):
        return True
    return await _fail(db, run.kind, run.holds(Status.RUNNING), run.id, why, most_running, **more)


async def cancel(db: WriteSession, run: Run, *, most_running: int, only_requested: bool = False) -> bool:
    """End a run as canceled. False if the job was not this run's any more, or, with `only_requested`, if its row does
    not say `canceling`."""
    if not only_requested:
        owner = await change(db, run.kind, run.holds(Status.RUNNING), status=Status.CANCELING)
        if owner is not None:
            # the queue's job was canceled without the API, which would have recorded by whom
            await _record(db, run.kind.name, "canceled", run.id, owner)
    if not await change(db, run.kind, run.holds(Status.CANCELING), status=Status.CANCELED, finished_at=NOW):
        return False
    await admission.admit(db, most_running, run.kind)
    return True


async def requeue(db: WriteSession, run: Run, *, most_running: int) -> bool:
    """The queue's job waits again, as when the worker shuts down; so does the job, which stays admitted."""
    if await cancel(db, run, most_running=most_running, only_requested=True):
        return True
    return await change(db, run.kind, run.holds(Status.RUNNING), status=Status.QUEUED, started_at=None) is not None


async def abandon(db: WriteSession, queue_job_id: int, *, most_running: int, kind: JobKind = EXPORTS) -> bool:
    """End a job that the queue has ended for good: nobody will run it, so it must not look alive. False if it has ended
    already."""
    job = kind.table
    row_id = await db.scalar(select(job.id).where(job.queue_job_id == queue_job_id))
    if row_id is None:
        return False
    admitted = [job.id == row_id, job.queue_job_id == queue_job_id]
    if await change(db, kind, [*admitted, job.status == Status.CANCELING], status=Status.CANCELED, finished_at=NOW):
        await admission.admit(db, most_running, kind)
        return True
    where = [*admitted, among(job.status, (Status.QUEUED, Status.RUNNING))]
    return await _fail(db, kind, where, row_id, kind.abandoned(), most_running)


async def _fail(
    db: WriteSession,
    kind: JobKind,
    where: list[ColumnElement[bool]],
    row_id: UUID,
    why: Refused,
    most_running: int,
    **more: object,
) -> bool:
    problem = stored_problem(why)
    owner = await change(db, kind, where, status=Status.FAILED, finished_at=NOW, error=problem, **more)
    if owner is None:
        return False
    await _record(db, kind.name, "failed", row_id, owner, after={"type": problem["type"]})
    await admission.admit(db, most_running, kind)
    return True


async def change(db: WriteSession, kind: JobKind, where: list[ColumnElement[bool]], **values: object) -> int | None:
    """The owner of the job; None if no row meets the conditions."""
    job = kind.table
    owner: int | None = await db.scalar(update(job).where(*where).values(values).returning(job.user_id))
    return owner


async def _record(
    db: WriteSession,
    name: Literal["export", "import"],
    verb: Literal["canceled", "failed"],
    row_id: UUID,
    owner: int,
    after: dict[str, Any] | None = None,
) -> None:
    await record(db, WORKER, f"{name}.{verb}", row_id, after=after, on_behalf_of=owner)
