"""The states of an export. Each change is a compare-and-set that contains the fence.

A run is identified by the export, its queue job and the attempt. A run with an old attempt changes nothing, learns so
from the result, and cleans up only what it made itself. Each end admits the next export in the same transaction."""

from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, bindparam, func, select, text, update

from erp_service.access import principals
from erp_service.audit.record import record
from erp_service.db.base import among
from erp_service.db.sessions import WriteSession
from erp_service.db.statements import Prepared
from erp_service.errors import Refused
from erp_service.exports import admission
from erp_service.exports.eta import Pace, percent
from erp_service.exports.models import CHANNEL, ExportJob, Status
from erp_service.exports.planning.selection import Spec
from erp_service.exports.problems import ExportAbandoned, stored_problem
from erp_service.exports.storage.base import FileKey
from erp_service.queue.attempts import JobAttempt

WORKER = principals.system("erp worker")

_NOW = func.clock_timestamp()


class Run(msgspec.Struct, frozen=True):
    """One attempt at one export. Its number is that of the queue's job, which grows with every retry and rescue."""

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
        """The conditions under which the row belongs to this run."""
        return [
            ExportJob.id == self.export_id,
            ExportJob.queue_job_id == self.queue_job_id,
            ExportJob.attempt == self.attempt,
        ]


class Claimed(msgspec.Struct, frozen=True):
    """What a run needs to know of the export that it has claimed."""

    user_id: int
    dataset: str
    format: str
    compression: str
    spec: Spec
    retention_hours: int


class Published(msgspec.Struct, frozen=True):
    """A file that is complete and durable in the store."""

    key: FileKey
    rows: int
    bytes: int
    sha256: str
    snapshot_at: datetime
    media_type: str
    filename: str


class LostOwnership(Exception):
    """Another attempt has the export, or the export has ended: this run must write nothing more."""


class CancelRequested(Exception):
    """The row says `canceling`."""


# built once: a worker runs it between the queue's notification and the first row
_CLAIM = Prepared(
    update(ExportJob)
    .where(
        ExportJob.id == bindparam("export_id"),
        ExportJob.queue_job_id == bindparam("job_id"),
        ExportJob.attempt < bindparam("number"),
        text("status in ('queued', 'running')"),
    )
    .values(
        status=Status.RUNNING,
        attempt=bindparam("number"),
        started_at=_NOW,
        snapshot_at=None,
        rows_done=0,
        bytes_done=0,
        rows_total=None,
        rows_total_is_estimate=False,
        progress_at=None,
        percent=0.0,
        recent_rows=0.0,
        recent_seconds=0.0,
    )
    .returning(
        ExportJob.user_id,
        ExportJob.dataset,
        ExportJob.format,
        ExportJob.compression,
        ExportJob.spec,
        ExportJob.retention_hours,
    )
)


async def claim(db: WriteSession, run: Run, *, most_running: int) -> Claimed | None:
    """Begin an attempt, whose number must be greater than all before it. None if nothing is left to do."""
    its_run = {"export_id": run.export_id, "job_id": run.queue_job_id, "number": run.attempt}
    row = (await db.execute(_CLAIM, its_run)).one_or_none()
    if row is not None:
        spec = msgspec.convert(row.spec, Spec)
        return Claimed(row.user_id, row.dataset, row.format, row.compression, spec, row.retention_hours)
    job = ExportJob
    later = [job.id == run.export_id, job.queue_job_id == run.queue_job_id, job.attempt < run.attempt]
    # the worker that should have answered the cancel died before it could
    if await _set(db, [*later, job.status == Status.CANCELING], status=Status.CANCELED, finished_at=_NOW):
        await admission.admit(db, most_running)
    return None


async def begin_copy(
    db: WriteSession, run: Run, *, snapshot_at: datetime, rows_total: int, rows_total_is_estimate: bool
) -> None:
    """Raises LostOwnership, CancelRequested."""
    values = {"snapshot_at": snapshot_at, "rows_total": rows_total, "rows_total_is_estimate": rows_total_is_estimate}
    if not await _set(db, [*run.holds(), ExportJob.status == Status.RUNNING], **values):
        await require_ours(db, run)
    await _notify(db, run)


async def advance(db: WriteSession, run: Run, *, rows: int, bytes_: int) -> None:
    """Record the progress and notify listeners; raises LostOwnership, CancelRequested.

    `rows` and `bytes_` are of the whole export, also where it is copied in ranges."""
    job = ExportJob
    statement = select(
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
    row = (await db.execute(statement.where(*run.holds()))).one_or_none()
    _require_ours(None if row is None else row.status)
    if row is None or (rows <= row.rows_done and bytes_ <= row.bytes_done):
        return
    rows = max(rows, row.rows_done)
    values: dict[str, object] = {"rows_done": rows, "bytes_done": max(bytes_, row.bytes_done), "progress_at": _NOW}
    if row.rows_done:
        # the time before the first rows went into planning and sorting, and says nothing about the rest
        more, seconds = rows - row.rows_done, float(row.seconds)
        pace = Pace(row.recent_rows, row.recent_seconds).onward(rows=more, seconds=seconds)
        values |= {"recent_rows": pace.rows, "recent_seconds": pace.seconds}
    if row.rows_total is not None:
        now = percent(rows_done=rows, rows_total=row.rows_total, is_estimate=row.rows_total_is_estimate)
        # stored, and not computed on each read: a total that grows must not make it smaller
        values["percent"] = max(row.percent, now)
    if await _set(db, [*run.holds(), job.status == Status.RUNNING], **values):
        await _notify(db, run)


async def require_ours(db: WriteSession, run: Run) -> None:
    """Raises LostOwnership, CancelRequested."""
    _require_ours(await db.scalar(select(ExportJob.status).where(*run.holds())))


def _require_ours(status: str | None) -> None:
    if status == Status.CANCELING:
        raise CancelRequested
    if status != Status.RUNNING:
        raise LostOwnership


async def _notify(db: WriteSession, run: Run) -> None:
    await db.execute(text("select pg_notify(:channel, :id)"), {"channel": CHANNEL, "id": str(run.export_id)})


async def publish(
    db: WriteSession, run: Run, file: Published, *, retention_hours: int, most_running: int, most_bytes: int
) -> None:
    """The export succeeds here and nowhere else; its file must be durable.

    Raises LostOwnership, CancelRequested; and ExportQuota, after which the transaction must be rolled back."""
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
    owner = await _set(db, [*run.holds(), ExportJob.status == Status.RUNNING], **values)
    if owner is None:
        await require_ours(db, run)
        raise LostOwnership
    await admission.require_room_for_published(db, owner, file.bytes, most_bytes)
    after = {"rows": file.rows, "bytes": file.bytes, "sha256": file.sha256}
    await record(db, WORKER, "export.succeeded", run.export_id, after=after, on_behalf_of=owner)
    await admission.admit(db, most_running)


async def fail(db: WriteSession, run: Run, why: Refused, *, most_running: int) -> bool:
    """False if the export was not this run's any more. An export that is `canceling` ends canceled instead."""
    if await cancel(db, run, most_running=most_running, only_requested=True):
        return True
    where = [*run.holds(), ExportJob.status == Status.RUNNING]
    return await _fail(db, where, run.export_id, why, most_running)


async def cancel(db: WriteSession, run: Run, *, most_running: int, only_requested: bool = False) -> bool:
    """End a run as canceled. False if the export was not this run's any more, or, with `only_requested`, if its row
    does not say `canceling`."""
    running = [*run.holds(), ExportJob.status == Status.RUNNING]
    if not only_requested and (owner := await _set(db, running, status=Status.CANCELING)) is not None:
        # the queue's job was canceled without the API, which would have recorded by whom
        await record(db, WORKER, "export.canceled", run.export_id, on_behalf_of=owner)
    where = [*run.holds(), ExportJob.status == Status.CANCELING]
    if not await _set(db, where, status=Status.CANCELED, finished_at=_NOW):
        return False
    await admission.admit(db, most_running)
    return True


async def requeue(db: WriteSession, run: Run, *, most_running: int) -> bool:
    """The queue's job waits again, as when the worker shuts down; so does the export, which stays admitted."""
    if await cancel(db, run, most_running=most_running, only_requested=True):
        return True
    where = [*run.holds(), ExportJob.status == Status.RUNNING]
    return await _set(db, where, status=Status.QUEUED, started_at=None) is not None


async def abandon(db: WriteSession, queue_job_id: int, *, most_running: int) -> bool:
    """End an export whose job the queue has ended for good: nobody will run it, so it must not look alive. False if the
    export has ended already."""
    job = ExportJob
    export_id = await db.scalar(select(job.id).where(job.queue_job_id == queue_job_id))
    if export_id is None:
        return False
    admitted = [job.id == export_id, job.queue_job_id == queue_job_id]
    if await _set(db, [*admitted, job.status == Status.CANCELING], status=Status.CANCELED, finished_at=_NOW):
        await admission.admit(db, most_running)
        return True
    where = [*admitted, among(job.status, (Status.QUEUED, Status.RUNNING))]
    return await _fail(db, where, export_id, ExportAbandoned(), most_running)


async def _fail(
    db: WriteSession, where: list[ColumnElement[bool]], export_id: UUID, why: Refused, most_running: int
) -> bool:
    problem = stored_problem(why)
    owner = await _set(db, where, status=Status.FAILED, finished_at=_NOW, error=problem)
    if owner is None:
        return False
    await record(db, WORKER, "export.failed", export_id, after={"type": problem["type"]}, on_behalf_of=owner)
    await admission.admit(db, most_running)
    return True


async def _set(db: WriteSession, where: list[ColumnElement[bool]], **values: object) -> int | None:
    """The owner of the export; None if no row meets the conditions."""
    owner: int | None = await db.scalar(update(ExportJob).where(*where).values(values).returning(ExportJob.user_id))
    return owner
