"""The states of an export, each change a compare-and-set that carries the fence.

A run is named by the export, its queue job and the attempt. Whoever holds an old one changes nothing, learns so from
the answer, and cleans up only what is its own. Each end admits the next export, in the same transaction."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, func, select, text, update

from erp_service import problems
from erp_service.access import principals
from erp_service.audit.record import record
from erp_service.db.sessions import WriteSession
from erp_service.errors import Refused
from erp_service.exports import admission
from erp_service.exports.eta import Pace, percent
from erp_service.exports.models import CHANNEL, ExportJob, Status
from erp_service.exports.planning.selection import Spec
from erp_service.exports.problems import ExportAbandoned
from erp_service.exports.storage.base import FileKey
from erp_service.queue.fencing import JobAttempt

WORKER = principals.system("erp worker")

_NOW = func.clock_timestamp()


class Run(msgspec.Struct, frozen=True):
    """One attempt at one export: the attempt at its job of the queue, which grows with every retry and rescue."""

    export_id: UUID
    job: JobAttempt

    @property
    def queue_job_id(self) -> int:
        return self.job.job_id

    @property
    def attempt(self) -> int:
        """Counts from 1."""
        return self.job.attempt

    def holds(self) -> list[ColumnElement[bool]]:
        """The row is this run's own."""
        return [
            ExportJob.id == self.export_id,
            ExportJob.queue_job_id == self.queue_job_id,
            ExportJob.attempt == self.attempt,
        ]


class Claimed(msgspec.Struct, frozen=True):
    user_id: int
    dataset: str
    format: str
    compression: str
    spec: Spec
    retention_hours: int


class Published(msgspec.Struct, frozen=True):
    """What lies in the store, whole and durable."""

    key: FileKey
    rows: int
    bytes: int
    sha256: str
    snapshot_at: datetime
    media_type: str
    filename: str


class LostOwnership(Exception):
    """Another attempt has the export, or it has ended: this run must write nothing more."""


class CancelAsked(Exception):
    """The row says `canceling`."""


async def claim(db: WriteSession, run: Run, *, most_running: int) -> Claimed | None:
    """Begin an attempt that is greater than all before it. None if there is nothing to do for it any more."""
    job = ExportJob
    later = [job.id == run.export_id, job.queue_job_id == run.queue_job_id, job.attempt < run.attempt]
    values: dict[str, Any] = {
        "status": Status.RUNNING,
        "attempt": run.attempt,
        "started_at": _NOW,
        "snapshot_at": None,
        "rows_done": 0,
        "bytes_done": 0,
        "rows_total": None,
        "rows_total_is_estimate": False,
        "progress_at": None,
        "percent": 0.0,
        "recent_rows": 0.0,
        "recent_seconds": 0.0,
    }
    begin = update(job).where(*later, job.status.in_((Status.QUEUED, Status.RUNNING))).values(values)
    row = (
        await db.execute(
            begin.returning(job.user_id, job.dataset, job.format, job.compression, job.spec, job.retention_hours)
        )
    ).one_or_none()
    if row is not None:
        spec = msgspec.convert(row.spec, Spec)
        return Claimed(row.user_id, row.dataset, row.format, row.compression, spec, row.retention_hours)
    # whoever should have answered the cancel died before it could
    if await _set(db, [*later, job.status == Status.CANCELING], status=Status.CANCELED, finished_at=_NOW):
        await admission.admit(db, most_running)
    return None


async def begin_copy(
    db: WriteSession, run: Run, *, snapshot_at: datetime, rows_total: int, rows_total_is_estimate: bool
) -> None:
    """Raises LostOwnership, CancelAsked."""
    values = {"snapshot_at": snapshot_at, "rows_total": rows_total, "rows_total_is_estimate": rows_total_is_estimate}
    if not await _set(db, [*run.holds(), ExportJob.status == Status.RUNNING], **values):
        await still_ours(db, run)
    await _tell(db, run)


async def advance(db: WriteSession, run: Run, *, rows: int, bytes_: int) -> None:
    """Note how far it is, and tell whoever listens; raises LostOwnership, CancelAsked.

    `rows` and `bytes_` are of the whole export, also where it is made in parts."""
    job = ExportJob
    held = select(
        job.status,
        job.rows_done,
        job.bytes_done,
        job.rows_total,
        job.rows_total_is_estimate,
        job.percent,
        job.recent_rows,
        job.recent_seconds,
        func.coalesce(func.extract("epoch", _NOW - job.progress_at), 0.0).label("seconds"),
    )
    row = (await db.execute(held.where(*run.holds()))).one_or_none()
    _demand_ours(None if row is None else row.status)
    if row is None or (rows <= row.rows_done and bytes_ <= row.bytes_done):
        return
    rows = max(rows, row.rows_done)
    values: dict[str, Any] = {"rows_done": rows, "bytes_done": max(bytes_, row.bytes_done), "progress_at": _NOW}
    if row.rows_done:
        # what passed before the first rows went into planning and sorting, and says nothing about the rest
        more, seconds = rows - row.rows_done, float(row.seconds)
        pace = Pace(row.recent_rows, row.recent_seconds).onward(rows=more, seconds=seconds)
        values |= {"recent_rows": pace.rows, "recent_seconds": pace.seconds}
    if row.rows_total is not None:
        now = percent(rows_done=rows, rows_total=row.rows_total, is_estimate=row.rows_total_is_estimate)
        # kept, and not computed when it is asked for: a total that grows must not take it back
        values["percent"] = max(row.percent, now)
    if await _set(db, [*run.holds(), job.status == Status.RUNNING], **values):
        await _tell(db, run)


async def still_ours(db: WriteSession, run: Run) -> None:
    """Raises LostOwnership, CancelAsked."""
    _demand_ours(await db.scalar(select(ExportJob.status).where(*run.holds())))


def _demand_ours(status: str | None) -> None:
    if status == Status.CANCELING:
        raise CancelAsked
    if status != Status.RUNNING:
        raise LostOwnership


async def _tell(db: WriteSession, run: Run) -> None:
    await db.execute(text("select pg_notify(:channel, :id)"), {"channel": CHANNEL, "id": str(run.export_id)})


async def publish(db: WriteSession, run: Run, file: Published, *, retention_hours: int, most_running: int) -> None:
    """The one moment in which the export succeeds; the file is durable by now. Raises LostOwnership, CancelAsked."""
    values = {
        "status": Status.SUCCEEDED,
        "finished_at": _NOW,
        "expires_at": _NOW + timedelta(hours=retention_hours),
        "rows_done": file.rows,
        "bytes_done": file.bytes,
        "rows_total": file.rows,
        "rows_total_is_estimate": False,
        "progress_at": _NOW,
        "result_rows": file.rows,
        "result_bytes": file.bytes,
        "sha256": file.sha256,
        "snapshot_at": file.snapshot_at,
        "media_type": file.media_type,
        "filename": file.filename,
        "file_key": str(file.key),
    }
    if not await _set(db, [*run.holds(), ExportJob.status == Status.RUNNING], **values):
        await still_ours(db, run)
        raise LostOwnership
    after = {"rows": file.rows, "bytes": file.bytes, "sha256": file.sha256}
    await record(db, WORKER, "export.succeeded", run.export_id, after=after)
    await admission.admit(db, most_running)


async def fail(db: WriteSession, run: Run, why: Refused, *, most_running: int) -> bool:
    """False if the run was not ours any more. An export that was being canceled ends canceled."""
    if await canceled(db, run, most_running=most_running, asked=True):
        return True
    where = [*run.holds(), ExportJob.status == Status.RUNNING]
    return await _fail(db, where, run.export_id, why, most_running)


async def canceled(db: WriteSession, run: Run, *, most_running: int, asked: bool = False) -> bool:
    """False if the run was not ours any more. With `asked`, only if the row says that somebody wants it."""
    running = [*run.holds(), ExportJob.status == Status.RUNNING]
    if not asked and await _set(db, running, status=Status.CANCELING):
        # the queue was told by somebody who did not come through the API, where who it was would be on record
        await record(db, WORKER, "export.canceled", run.export_id)
    where = [*run.holds(), ExportJob.status == Status.CANCELING]
    if not await _set(db, where, status=Status.CANCELED, finished_at=_NOW):
        return False
    await admission.admit(db, most_running)
    return True


async def requeue(db: WriteSession, run: Run, *, most_running: int) -> bool:
    """The worker shuts down, and the queue's job waits again: so does the export, with its place kept."""
    if await canceled(db, run, most_running=most_running, asked=True):
        return True
    where = [*run.holds(), ExportJob.status == Status.RUNNING]
    return await _set(db, where, status=Status.QUEUED, started_at=None)


async def abandoned(db: WriteSession, queue_job_id: int, *, most_running: int) -> bool:
    """The queue ended its job for good and nobody will run it any more, so the export must not look alive."""
    job = ExportJob
    export_id = await db.scalar(select(job.id).where(job.queue_job_id == queue_job_id))
    if export_id is None:
        return False
    its_own = [job.id == export_id, job.queue_job_id == queue_job_id]
    if await _set(db, [*its_own, job.status == Status.CANCELING], status=Status.CANCELED, finished_at=_NOW):
        await admission.admit(db, most_running)
        return True
    where = [*its_own, job.status.in_((Status.QUEUED, Status.RUNNING))]
    return await _fail(db, where, export_id, ExportAbandoned(), most_running)


async def _fail(
    db: WriteSession, where: list[ColumnElement[bool]], export_id: UUID, why: Refused, most_running: int
) -> bool:
    problem = problems.as_problem(why, None)
    if not await _set(db, where, status=Status.FAILED, finished_at=_NOW, error=problem):
        return False
    await record(db, WORKER, "export.failed", export_id, after={"type": problem["type"]})
    await admission.admit(db, most_running)
    return True


async def _set(db: WriteSession, where: list[ColumnElement[bool]], **values: Any) -> bool:
    result = await db.execute(update(ExportJob).where(*where).values(values))
    return result.rowcount == 1
