"""What is particular to the states of an export: its claim, its snapshot and its published file. The rest is the same
for every kind of job: jobs/states.py, which this module passes on."""

from datetime import datetime, timedelta

import msgspec

from erp_service.audit.record import record
from erp_service.db.sessions import WriteSession
from erp_service.db.statements import Prepared
from erp_service.exports import admission
from erp_service.exports.jobs import states
from erp_service.exports.jobs.states import WORKER
from erp_service.exports.jobs.states import CancelRequested as CancelRequested
from erp_service.exports.jobs.states import LostOwnership as LostOwnership
from erp_service.exports.jobs.states import Run as Run
from erp_service.exports.jobs.states import abandon as abandon
from erp_service.exports.jobs.states import advance as advance
from erp_service.exports.jobs.states import cancel as cancel
from erp_service.exports.jobs.states import fail as fail
from erp_service.exports.jobs.states import requeue as requeue
from erp_service.exports.jobs.states import require_ours as require_ours
from erp_service.exports.models import ExportJob, Status
from erp_service.exports.planning.selection import Spec
from erp_service.exports.storage.base import FileKey


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


# built once: a worker runs it between the queue's notification and the first row
_CLAIM = Prepared(
    states.claiming(ExportJob, snapshot_at=None).returning(
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
    row = (await db.execute(_CLAIM, states.claim_parameters(run))).one_or_none()
    if row is None:
        await states.end_unclaimed(db, run, most_running=most_running)
        return None
    spec = msgspec.convert(row.spec, Spec)
    return Claimed(row.user_id, row.dataset, row.format, row.compression, spec, row.retention_hours)


async def begin_copy(
    db: WriteSession, run: Run, *, snapshot_at: datetime, rows_total: int, rows_total_is_estimate: bool
) -> None:
    """Raises LostOwnership, CancelRequested."""
    values = {"snapshot_at": snapshot_at, "rows_total": rows_total, "rows_total_is_estimate": rows_total_is_estimate}
    if not await states.change(db, run.kind, run.holds(Status.RUNNING), **values):
        await require_ours(db, run)
    await states.notify(db, run)


async def publish(
    db: WriteSession, run: Run, file: Published, *, retention_hours: int, most_running: int, most_bytes: int
) -> None:
    """The export succeeds here and nowhere else; its file must be durable.

    Raises LostOwnership, CancelRequested; and ExportQuota, after which the transaction must be rolled back."""
    owner = await states.succeed(
        db,
        run,
        expires_at=states.NOW + timedelta(hours=retention_hours),
        rows_done=file.rows,
        bytes_done=file.bytes,
        rows_total=file.rows,
        rows_total_is_estimate=False,
        result_rows=file.rows,
        result_bytes=file.bytes,
        sha256=file.sha256,
        snapshot_at=file.snapshot_at,
        media_type=file.media_type,
        filename=file.filename,
        file_key=str(file.key),
    )
    await admission.require_room_for_published(db, owner, file.bytes, most_bytes)
    after = {"rows": file.rows, "bytes": file.bytes, "sha256": file.sha256}
    await record(db, WORKER, "export.succeeded", run.id, after=after, on_behalf_of=owner)
    await admission.admit(db, most_running)
