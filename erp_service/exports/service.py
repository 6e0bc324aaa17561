"""What people do with exports: submit, cancel, try again, delete, fetch. Each in the caller's transaction."""

from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from sqlalchemy import func, insert, update
from uuid_utils.compat import uuid7

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.audit.record import record
from erp_service.db.sessions import Session, WriteSession
from erp_service.exports import admission, queries
from erp_service.exports.catalogue import DATASETS
from erp_service.exports.delivery.http_range import Part
from erp_service.exports.formats import archive, registry
from erp_service.exports.formats.base import Format
from erp_service.exports.formats.compression import COMPRESSIONS
from erp_service.exports.formats.registry import FORMATS
from erp_service.exports.models import OPEN, ExportJob, Status
from erp_service.exports.planning import estimates, row_limit
from erp_service.exports.planning.request import PlannedExport, read_request, reread_request
from erp_service.exports.problems import (
    ExportExpired,
    ExportFinal,
    ExportNotReady,
    ExportSucceeded,
    ExportUnfinished,
    TooManyExports,
)
from erp_service.exports.queries import VersionedExport
from erp_service.exports.schemas import DatasetColumn, DatasetFilter, DatasetOut, Estimate, ExportRequest, FormatOut
from erp_service.exports.storage.base import FileKey
from erp_service.observability import tracing
from erp_service.queue.connector import cancel as cancel_queue_job
from erp_service.queue.connector import is_doing
from erp_service.registry.datasets import kind_of
from erp_service.settings import Settings

WAIT_SECONDS = 30  # Retry-After while too many of one's exports wait


class File(NamedTuple):
    """A published file, as its row has it, and the least role for what is in it."""

    key: FileKey
    least: Role
    bytes: int
    sha256: str
    media_type: str
    filename: str


def catalogue(who: Principal) -> list[DatasetOut]:
    """Every dataset, also those that take a higher role: it says which."""
    written = [_described(known) for known in FORMATS.values()]
    return [
        DatasetOut(
            name=dataset.name,
            description=dataset.description,
            role=dataset.role,
            allowed=who.role.includes(dataset.role),
            columns=[DatasetColumn(c.name, c.type, c.description) for c in dataset.columns],
            filters=[DatasetFilter(f.name, kind_of(f.read), f.description) for f in dataset.filters],
            sorts=[both for name in dataset.sorts for both in (name, f"-{name}")],
            formats=[found.name for found in written if found.unavailable is None],
            compressions=["none", *COMPRESSIONS],
            format_details=written,
        )
        for dataset in DATASETS.values()
    ] + [_everything(written)]


def _everything(written: list[FormatOut]) -> DatasetOut:
    return DatasetOut(
        name=archive.NAME,
        description=archive.DESCRIPTION,
        role=archive.ROLE,
        allowed=True,
        columns=[],
        filters=[],
        sorts=[],
        formats=[found.name for found in written if found.unavailable is None],
        compressions=["none"],
        format_details=[msgspec.structs.replace(found, compressions=["none"]) for found in written],
    )


def _described(known: Format) -> FormatOut:
    return FormatOut(
        name=known.name,
        media_type=known.media_type,
        extension=known.extension,
        compressions=list(registry.compressions(known)),
        most_rows=known.most_rows,
        unavailable=registry.unavailable(known),
    )


async def submit(db: WriteSession, who: Principal, settings: Settings, request: ExportRequest) -> VersionedExport:
    """The row, and the queue's job if the owner runs few enough: both with the commit, or neither.

    Unless it is forced, asking again while the same request waits or runs gives that job.
    Raises errors.Forbidden, errors.Invalid, TooManyRows, TooManyExports."""
    wanted = read_request(who, settings, request)
    if (same := await _same(db, who, request, wanted)) is not None:
        return same
    # before what costs: who floods us must be refused without anything that others wait for
    await _demand_place(db, who, settings)
    await _possible(db, wanted)
    is_small = await admission.is_small(db, *wanted.queries)
    # first the lock: of two submissions at once, the second must see the first
    await admission.lock(db)
    if (same := await _same(db, who, request, wanted)) is not None:
        return same
    return await _insert(db, who, settings, wanted.values, is_small=is_small)


async def _same(
    db: WriteSession, who: Principal, request: ExportRequest, wanted: PlannedExport
) -> VersionedExport | None:
    return None if request.force_new else await queries.open_twin(db, who, wanted.values)


async def estimate(db: WriteSession, who: Principal, settings: Settings, request: ExportRequest) -> Estimate:
    """What `submit` would come to; takes no place among the exports that wait, and leaves no trace.

    Raises errors.Forbidden, errors.Invalid, TooManyRows, errors.Unavailable."""
    return await estimates.estimated(db, await _possible(db, read_request(who, settings, request)))


async def retry(db: WriteSession, who: Principal, settings: Settings, export_id: UUID) -> VersionedExport:
    """A new job for the same request; it belongs to whoever asks.

    Raises errors.NotFound, errors.Forbidden, ExportUnfinished, ExportSucceeded, FormatUnavailable, TooManyRows,
    TooManyExports."""
    row = await queries.lock_for_update(db, who, export_id)
    if row.status in OPEN:
        raise ExportUnfinished
    if row.status == Status.SUCCEEDED:
        raise ExportSucceeded
    await _demand_place(db, who, settings)
    wanted = await _possible(db, reread_request(who, settings, row))
    is_small = await admission.is_small(db, *wanted.queries)
    return await _insert(db, who, settings, {**wanted.values, "retry_of": export_id}, is_small=is_small)


async def _possible(db: WriteSession, wanted: PlannedExport) -> PlannedExport:
    for query in wanted.queries:
        await row_limit.demand_few_rows(db, query, wanted.format)
    return wanted


async def _insert(
    db: WriteSession, who: Principal, settings: Settings, values: dict[str, Any], *, is_small: bool
) -> VersionedExport:
    await admission.lock(db)
    await _demand_place(db, who, settings)
    export_id = uuid7()
    own = {"id": export_id, "user_id": who.user_id, "is_small": is_small, "trace": tracing.carrier()}
    await db.execute(insert(ExportJob).values(**own, **values))
    await admission.admit(db, settings.exports_running_per_user)
    shown = await queries.job(db, who, export_id)
    await record(db, who, "export.submitted", export_id, after=values)
    return shown


async def _demand_place(db: WriteSession, who: Principal, settings: Settings) -> None:
    """Raises errors.Forbidden, TooManyExports."""
    if who.user_id is None:
        raise errors.Forbidden("An export belongs to a person.")
    if await admission.waiting(db, who.user_id) >= settings.exports_waiting_per_user:
        detail = f"{settings.exports_waiting_per_user} of your exports are waiting; no more can."
        raise TooManyExports(detail, headers={"Retry-After": str(WAIT_SECONDS)})


async def cancel(db: WriteSession, who: Principal, settings: Settings, export_id: UUID) -> VersionedExport:
    """At once while it waits; a run is stopped within a second of the commit. Again changes nothing.

    Raises errors.NotFound, ExportFinal."""
    row = await queries.lock_for_update(db, who, export_id)
    if row.status in (Status.SUCCEEDED, Status.FAILED, Status.EXPIRED):
        raise ExportFinal(f"The export has ended: it is {row.status}.")
    if row.status in (Status.QUEUED, Status.RUNNING):
        if row.queue_job_id is not None:
            await cancel_queue_job(db, row.queue_job_id)
        it = update(ExportJob).where(ExportJob.id == export_id)
        if row.status == Status.RUNNING:
            await db.execute(it.values(status=Status.CANCELING))
        await record(db, who, "export.canceled", export_id, before={"status": row.status})
        # a run that was rescued, or tries again after an outage, waits in the queue: nobody would answer
        if row.status == Status.QUEUED or not await is_doing(db, row.queue_job_id):
            await db.execute(it.values(status=Status.CANCELED, finished_at=func.clock_timestamp()))
            await admission.admit(db, settings.exports_running_per_user)
    return await queries.job(db, who, export_id)


async def delete(db: WriteSession, who: Principal, export_id: UUID) -> FileKey | None:
    """The job is gone for its owner, and its row stays. Returns the file to remove once that is committed.

    Raises errors.NotFound, ExportUnfinished."""
    row = await queries.lock_for_update(db, who, export_id)
    if row.status in OPEN:
        raise ExportUnfinished(f"The export is {row.status}.")
    status = Status.EXPIRED if row.status == Status.SUCCEEDED else row.status
    gone = update(ExportJob).where(ExportJob.id == export_id)
    await db.execute(gone.values(status=status, deleted_at=func.now()))
    await record(db, who, "export.deleted", export_id, before={"status": row.status})
    return FileKey.read(row.file_key) if row.file_key else None


async def address_given(db: WriteSession, who: Principal, export_id: UUID) -> None:
    """Somebody asks for an address that others can use in their name.

    Raises errors.NotFound, errors.Forbidden, ExportExpired."""
    row = await queries.readable(db, who, export_id)
    demand_least(who, queries.least_role(row.dataset, row.spec))
    _demand_kept(row)
    await record(db, who, "export.address_given", export_id)


async def file(db: Session, who: Principal, export_id: UUID) -> File:
    """What may be downloaded; the present role counts, not the one at submission.

    Raises errors.NotFound, errors.Forbidden, ExportNotReady, ExportExpired."""
    row = await queries.readable(db, who, export_id)
    least = queries.least_role(row.dataset, row.spec)
    demand_least(who, least)
    _demand_kept(row)
    if row.status != Status.SUCCEEDED:
        headers = {"Retry-After": "1"} if row.status in OPEN else {}
        raise ExportNotReady(f"The export is {row.status}.", headers=headers)
    key = FileKey.read(row.file_key)
    if key is None:
        raise ValueError(row.file_key)
    return File(key, least, row.result_bytes, row.sha256, row.media_type, row.filename)


def _demand_kept(row: Any) -> None:
    if row.deleted_at is not None:
        raise ExportExpired("The export was deleted.")
    if row.status == Status.EXPIRED or (row.expires_at is not None and row.expires_at <= datetime.now(UTC)):
        raise ExportExpired("The time of the file is over.")


def demand_least(who: Principal, least: Role) -> None:
    """Raises errors.Forbidden."""
    if not who.role.includes(least):
        raise errors.Forbidden(f"What is in this export needs the role {least} or a higher one; yours is {who.role}.")


async def downloaded(db: WriteSession, who: Principal, export_id: UUID, part: Part | None) -> None:
    """Each time bytes leave the house, and which."""
    await record(db, who, "export.downloaded", export_id, after=None if part is None else {"range": part.content_range})
