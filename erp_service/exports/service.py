"""What people do with exports: submit, retry, cancel, delete, download. Each in the caller's transaction."""

from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
from sqlalchemy import func, insert, update
from uuid_utils.compat import uuid7

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.audit.record import record
from erp_service.company.queries import company_zone
from erp_service.company.settings import CompanySettings
from erp_service.db.sessions import Session, WriteSession
from erp_service.exports import admission, queries
from erp_service.exports.catalogue import DATASETS
from erp_service.exports.formats import registry
from erp_service.exports.formats.base import Format
from erp_service.exports.formats.compression import COMPRESSIONS
from erp_service.exports.formats.registry import FORMATS
from erp_service.exports.models import OPEN, ExportJob, Status
from erp_service.exports.planning import estimates, planner, rights
from erp_service.exports.planning.members import ALL, ALL_DESCRIPTION, ALL_ROLE, datasets_for, may_read
from erp_service.exports.planning.relative import Moment
from erp_service.exports.planning.request import PlannedExport, needs_zone, read_request, reread_request
from erp_service.exports.planning.rights import Needed
from erp_service.exports.problems import (
    ExportExpired,
    ExportFinal,
    ExportNotReady,
    ExportSucceeded,
    ExportUnfinished,
    TooManyExports,
)
from erp_service.exports.queries import ExportRow, OwnerLoad, VersionedExport
from erp_service.exports.schemas import DatasetColumn, DatasetFilter, DatasetOut, Estimate, ExportRequest, FormatOut
from erp_service.exports.storage.base import FileKey
from erp_service.observability import tracing
from erp_service.queue.jobs import cancel as cancel_queue_job
from erp_service.queue.jobs import is_doing
from erp_service.registry.datasets import choices_of, kind_of
from erp_service.timestamps import UTC_ZONE

WAIT_SECONDS = 30
"""The Retry-After while too many of the owner's exports wait."""


class File(NamedTuple):
    """A published file as its row describes it, whose it is, and what it takes to read it."""

    key: FileKey
    owner: int
    needed: Needed
    bytes: int
    sha256: str
    media_type: str
    filename: str


def catalogue(who: Principal) -> list[DatasetOut]:
    """Every dataset, with the least role for it, also those that `who` may not export."""
    formats = [_format_out(known) for known in FORMATS.values()]
    return [
        DatasetOut(
            name=dataset.name,
            description=dataset.description,
            role=dataset.role,
            scope=dataset.scope,
            allowed=may_read(who, dataset),
            columns=[DatasetColumn(c.name, c.type, c.description) for c in dataset.columns],
            filters=[
                DatasetFilter(f.name, kind_of(f.read), f.description, choices_of(f.read)) for f in dataset.filters
            ],
            sorts=[sort for name in dataset.sorts for sort in (name, f"-{name}")],
            formats=[known.name for known in formats if known.unavailable is None],
            compressions=["none", *COMPRESSIONS],
            format_details=formats,
        )
        for dataset in DATASETS.values()
    ] + [_all_out(who, formats)]


def _all_out(who: Principal, formats: list[FormatOut]) -> DatasetOut:
    return DatasetOut(
        name=ALL,
        description=ALL_DESCRIPTION,
        role=ALL_ROLE,
        scope=None,
        allowed=bool(datasets_for(who)),
        columns=[],
        filters=[],
        sorts=[],
        formats=[known.name for known in formats if known.unavailable is None],
        compressions=["none"],
        format_details=[msgspec.structs.replace(known, compressions=["none"]) for known in formats],
    )


def _format_out(known: Format) -> FormatOut:
    return FormatOut(
        name=known.name,
        media_type=known.media_type,
        extension=known.extension,
        compressions=list(registry.compressions(known)),
        most_rows=known.most_rows,
        unavailable=registry.unavailable(known),
    )


async def submit(
    db: WriteSession, who: Principal, settings: CompanySettings, request: ExportRequest, moment: Moment | None = None
) -> VersionedExport:
    """Write the job's row, and the queue's job if the owner runs few enough: both with the commit, or neither.

    If the same request waits or runs already, returns that job, unless the request has `force_new`. Relative times in
    it are those at `moment`, by default now. Raises errors.Forbidden, errors.Invalid, TooManyRows, TooManyExports."""
    planned = read_request(who, settings, request, moment, await _company_zone(db, request))
    return await _submit(db, who, settings, planned, joins_twin=not request.force_new)


async def _company_zone(db: WriteSession, request: ExportRequest) -> ZoneInfo:
    return await company_zone(db) if needs_zone(request) else UTC_ZONE


async def retry(db: WriteSession, who: Principal, settings: CompanySettings, export_id: UUID) -> VersionedExport:
    """Submit the request of a job again, as a new job that belongs to `who`.

    Raises errors.NotFound, errors.Forbidden, ExportUnfinished, ExportSucceeded, FormatUnavailable, TooManyRows,
    TooManyExports."""
    row = await queries.lock_for_update(db, who, export_id)
    if row.status in OPEN:
        raise ExportUnfinished
    if row.status == Status.SUCCEEDED:
        raise ExportSucceeded
    planned = reread_request(who, settings, row)
    return await _submit(db, who, settings, planned, joins_twin=False, retry_of=row)


async def _submit(
    db: WriteSession,
    who: Principal,
    settings: CompanySettings,
    planned: PlannedExport,
    *,
    joins_twin: bool,
    retry_of: ExportRow | None = None,
) -> VersionedExport:
    if who.user_id is None:
        raise errors.Forbidden("An export belongs to a person.")
    twin_of = planned.row_values() if joins_twin else None
    # before anything expensive, and before the lock that others wait for: a flood must be refused cheaply
    load = await queries.owner_load(db, who.user_id, twin_of=twin_of)
    if load.twin is not None:
        return load.twin
    _require_room(load, settings)
    await planner.require_zone(db, planned.spec.timezone)
    await admission.require_room_for_files(db, who.user_id, settings.export_bytes_per_user)
    plans = await planner.plans(db, planned.queries)
    await planner.require_rows_fit(db, planned.format, planned.queries, plans)
    await admission.lock(db)
    # again under the lock: of two submissions at once, the second must see the first
    load = await queries.owner_load(db, who.user_id, twin_of=twin_of)
    if load.twin is not None:
        return load.twin
    _require_room(load, settings)
    return await _insert(
        db, who, settings, planned.row_values(), load, is_small=planner.is_small(plans), retry_of=retry_of
    )


async def _insert(
    db: WriteSession,
    who: Principal,
    settings: CompanySettings,
    values: dict[str, object],
    load: OwnerLoad,
    *,
    is_small: bool,
    retry_of: ExportRow | None,
) -> VersionedExport:
    """Called under the admission lock, under which `load` was read."""
    export_id, most_running = uuid7(), settings.exports_running_per_user
    if retry_of is not None:
        values = {**values, "retry_of": retry_of.id}
    has_turn = load.admitted < most_running
    # an earlier export of the owner that waits goes first
    job_id = await admission.enqueue(db, export_id, is_small=is_small) if has_turn and not load.waiting else None
    own = {"id": export_id, "user_id": who.user_id, "is_small": is_small, "queue_job_id": job_id}
    statement = insert(ExportJob).values(**own, trace=tracing.carrier(), **values).returning(*queries.EXPORT_COLUMNS)
    row = ExportRow.of(*(await db.execute(statement)).one())
    first_owner = None if retry_of is None else retry_of.user_id
    await record(db, who, "export.submitted", export_id, after=values, on_behalf_of=first_owner)
    if has_turn and load.waiting:
        # an admission was missed, such as after a change of the setting: made good here too
        await admission.admit(db, most_running)
        return await queries.job(db, who, export_id)
    return queries.versioned(row)


def _require_room(load: OwnerLoad, settings: CompanySettings) -> None:
    """Raises TooManyExports."""
    if load.waiting >= settings.exports_waiting_per_user:
        detail = f"{settings.exports_waiting_per_user} of your exports are waiting; no more can."
        raise TooManyExports(detail, headers={"Retry-After": str(WAIT_SECONDS)})


async def estimate(db: WriteSession, who: Principal, settings: CompanySettings, request: ExportRequest) -> Estimate:
    """What the export would be if it were submitted. Takes no slot among the exports that wait, and leaves no trace.

    Raises errors.Forbidden, errors.Invalid, TooManyRows; errors.Unavailable while the tables are being altered."""
    planned = read_request(who, settings, request, company=await _company_zone(db, request))
    await planner.require_zone(db, planned.spec.timezone)
    plans = await planner.plans(db, planned.queries)
    if plans is None:
        raise errors.Unavailable("The tables cannot be looked at now.", headers={"Retry-After": "5"})
    await planner.require_rows_fit(db, planned.format, planned.queries, plans)
    return await estimates.estimate(db, planned, plans)


async def cancel(db: WriteSession, who: Principal, export_id: UUID) -> VersionedExport:
    """A waiting export ends at once; a run stops within a second of the commit. Repeating it changes nothing.

    Raises errors.NotFound, ExportFinal."""
    row = await queries.lock_for_update(db, who, export_id)
    if row.status in (Status.SUCCEEDED, Status.FAILED, Status.EXPIRED):
        raise ExportFinal(f"The export has ended: it is {row.status}.")
    if row.status in (Status.QUEUED, Status.RUNNING):
        if row.queue_job_id is not None:
            await cancel_queue_job(db, row.queue_job_id)
        its_row = update(ExportJob).where(ExportJob.id == export_id)
        if row.status == Status.RUNNING:
            await db.execute(its_row.values(status=Status.CANCELING))
        before = {"status": row.status}
        await record(db, who, "export.canceled", export_id, before=before, on_behalf_of=row.user_id)
        # a run that was rescued, or is retried after an outage, waits in the queue: no worker would answer
        if row.status == Status.QUEUED or row.queue_job_id is None or not await is_doing(db, row.queue_job_id):
            await db.execute(its_row.values(status=Status.CANCELED, finished_at=func.clock_timestamp()))
            await admission.admit(db, await admission.running_per_user(db))
    return await queries.job(db, who, export_id)


async def delete(db: WriteSession, who: Principal, export_id: UUID) -> FileKey | None:
    """Hide the job from its owner; its row stays. Returns the file to remove after the commit.

    Raises errors.NotFound, ExportUnfinished."""
    row = await queries.lock_for_update(db, who, export_id)
    if row.status in OPEN:
        raise ExportUnfinished(f"The export is {row.status}.")
    status = Status.EXPIRED if row.status == Status.SUCCEEDED else row.status
    deleted = update(ExportJob).where(ExportJob.id == export_id)
    await db.execute(deleted.values(status=status, deleted_at=func.now()))
    await record(db, who, "export.deleted", export_id, before={"status": row.status}, on_behalf_of=row.user_id)
    return FileKey.read(row.file_key) if row.file_key else None


async def record_signed_address(db: WriteSession, who: Principal, export_id: UUID) -> None:
    """Put on record that somebody gets an address that others can use in their name.

    Raises errors.NotFound, errors.Forbidden, errors.KeyScopeMissing, ExportExpired."""
    row = await queries.readable(db, who, export_id)
    rights.require(who, row.needed)
    _require_unexpired(row)
    await record(db, who, "export.address_given", export_id, on_behalf_of=row.user_id)


async def file(db: Session, who: Principal, export_id: UUID) -> File:
    """What may be downloaded. The present role decides, not the one at submission.

    Raises errors.NotFound, errors.Forbidden, errors.KeyScopeMissing, ExportNotReady, ExportExpired."""
    row = await queries.readable(db, who, export_id)
    rights.require(who, row.needed)
    _require_unexpired(row)
    if row.status != Status.SUCCEEDED:
        headers = {"Retry-After": "1"} if row.status in OPEN else {}
        raise ExportNotReady(f"The export is {row.status}.", headers=headers)
    key, result = FileKey.read(row.file_key or ""), row.result
    if key is None or result is None:
        raise ValueError(row.file_key)
    return File(key, row.user_id, row.needed, result.bytes, result.sha256, result.media_type, result.filename)


def _require_unexpired(row: ExportRow) -> None:
    if row.deleted_at is not None:
        raise ExportExpired("The export was deleted.")
    if row.status == Status.EXPIRED or (row.expires_at is not None and row.expires_at <= datetime.now(UTC)):
        raise ExportExpired("The time of the file is over.")
