"""What people do with exports: submit, cancel, try again, delete, fetch. Each in the caller's transaction."""

from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from sqlalchemy import func, insert, update
from uuid_utils.compat import uuid7

from erp_service import errors
from erp_service.audit.record import record
from erp_service.db import Session, WriteSession
from erp_service.errors import Fault
from erp_service.exports import admission, datasets, queries
from erp_service.exports.catalogue import DATASETS
from erp_service.exports.datasets import Dataset, Spec, kind_of
from erp_service.exports.download import Part
from erp_service.exports.formats import COMPRESSIONS, FORMATS
from erp_service.exports.models import (
    OPEN,
    ExportExpired,
    ExportFinal,
    ExportJob,
    ExportNotReady,
    ExportSucceeded,
    ExportUnfinished,
    Status,
    TooManyExports,
)
from erp_service.exports.queries import Shown
from erp_service.exports.schemas import DatasetColumn, DatasetFilter, DatasetOut, ExportRequest
from erp_service.exports.storage.base import Key
from erp_service.principals import Principal
from erp_service.queue.connector import cancel as cancel_queue_job
from erp_service.queue.connector import is_doing
from erp_service.settings import Settings

WAIT_SECONDS = 30  # Retry-After while too many of one's exports wait


class File(NamedTuple):
    """A published file, as its row has it."""

    key: Key
    bytes: int
    sha256: str
    media_type: str
    filename: str


def catalogue(who: Principal) -> list[DatasetOut]:
    """Every dataset, also those that take a higher role: it says which."""
    return [
        DatasetOut(
            name=dataset.name,
            description=dataset.description,
            role=dataset.role,
            allowed=who.role.includes(dataset.role),
            columns=[DatasetColumn(c.name, c.type, c.description) for c in dataset.columns],
            filters=[DatasetFilter(f.name, kind_of(f.read), f.description) for f in dataset.filters],
            sorts=[both for name in dataset.sorts for both in (name, f"-{name}")],
            formats=list(FORMATS),
            compressions=list(COMPRESSIONS),
        )
        for dataset in DATASETS.values()
    ]


async def submit(db: WriteSession, who: Principal, settings: Settings, request: ExportRequest) -> Shown:
    """The row, and the queue's job if the owner runs few enough: both with the commit, or neither.

    Unless it is forced, asking again while the same request waits or runs gives that job.
    Raises errors.Forbidden, errors.Invalid, TooManyExports."""
    values, query = checked(who, settings, request)
    is_small = await admission.is_small(db, query)
    # first the lock: of two submissions at once, the second must see the first
    await admission.lock(db)
    if not request.force_new and (same := await queries.open_twin(db, who, values)) is not None:
        return same
    return await _insert(db, who, settings, values, is_small=is_small)


def checked(who: Principal, settings: Settings, request: ExportRequest) -> tuple[dict[str, Any], datasets.Query]:
    """What the job's row says of the request, and what it reads. Raises errors.Forbidden, errors.Invalid."""
    spec = Spec(columns=request.columns, filter=request.filter or {}, sort=request.sort)
    hours = settings.export_retention_hours if request.retention_hours is None else request.retention_hours
    if hours > settings.export_retention_hours:
        most = settings.export_retention_hours
        raise errors.Invalid(None, Fault(f"must be at most {most} here", pointer="/retention_hours"))
    dataset = DATASETS[request.dataset]
    demand_role(who, dataset)
    # names every fault now, while there is somebody to tell
    query = datasets.query(dataset, spec)
    values = {
        "dataset": request.dataset,
        "format": request.format,
        "compression": request.compression,
        "spec": msgspec.to_builtins(spec),
        "retention_hours": hours,
    }
    return values, query


async def retry(db: WriteSession, who: Principal, settings: Settings, export_id: UUID) -> Shown:
    """A new job for the same request; it belongs to whoever asks.

    Raises errors.NotFound, errors.Forbidden, ExportUnfinished, ExportSucceeded, TooManyExports."""
    row = await queries.locked(db, who, export_id)
    if row.status in OPEN:
        raise ExportUnfinished
    if row.status == Status.SUCCEEDED:
        raise ExportSucceeded
    demand_role(who, DATASETS[row.dataset])
    same = {name: getattr(row, name) for name in ("dataset", "format", "compression", "spec", "retention_hours")}
    query = datasets.query(DATASETS[row.dataset], msgspec.convert(row.spec, Spec))
    is_small = await admission.is_small(db, query)
    return await _insert(db, who, settings, {**same, "retry_of": export_id}, is_small=is_small)


async def _insert(
    db: WriteSession, who: Principal, settings: Settings, values: dict[str, Any], *, is_small: bool
) -> Shown:
    if who.user_id is None:
        raise errors.Forbidden("An export belongs to a person.")
    await admission.lock(db)
    if await admission.waiting(db, who.user_id) >= settings.exports_waiting_per_user:
        detail = f"{settings.exports_waiting_per_user} of your exports are waiting; no more can."
        raise TooManyExports(detail, headers={"Retry-After": str(WAIT_SECONDS)})
    export_id = uuid7()
    await db.execute(insert(ExportJob).values(id=export_id, user_id=who.user_id, is_small=is_small, **values))
    await admission.admit(db, settings.exports_running_per_user)
    shown = await queries.job(db, who, export_id)
    await record(db, who, "export.submitted", export_id, after=values)
    return shown


async def cancel(db: WriteSession, who: Principal, settings: Settings, export_id: UUID) -> Shown:
    """At once while it waits; a run is stopped within a second of the commit. Again changes nothing.

    Raises errors.NotFound, ExportFinal."""
    row = await queries.locked(db, who, export_id)
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


async def delete(db: WriteSession, who: Principal, export_id: UUID) -> Key | None:
    """The job is gone for its owner, and its row stays. Returns the file to remove once that is committed.

    Raises errors.NotFound, ExportUnfinished."""
    row = await queries.locked(db, who, export_id)
    if row.status in OPEN:
        raise ExportUnfinished(f"The export is {row.status}.")
    status = Status.EXPIRED if row.status == Status.SUCCEEDED else row.status
    gone = update(ExportJob).where(ExportJob.id == export_id)
    await db.execute(gone.values(status=status, deleted_at=func.now()))
    await record(db, who, "export.deleted", export_id, before={"status": row.status})
    return Key.read(row.file_key) if row.file_key else None


async def file(db: Session, who: Principal, export_id: UUID) -> File:
    """What may be downloaded; the present role counts, not the one at submission.

    Raises errors.NotFound, errors.Forbidden, ExportNotReady, ExportExpired."""
    row = await queries.readable(db, who, export_id)
    demand_role(who, DATASETS[row.dataset])
    if row.deleted_at is not None:
        raise ExportExpired("The export was deleted.")
    if row.status == Status.EXPIRED or (row.expires_at is not None and row.expires_at <= datetime.now(UTC)):
        raise ExportExpired("The time of the file is over.")
    if row.status != Status.SUCCEEDED:
        headers = {"Retry-After": "1"} if row.status in OPEN else {}
        raise ExportNotReady(f"The export is {row.status}.", headers=headers)
    key = Key.read(row.file_key)
    if key is None:
        raise ValueError(row.file_key)
    return File(key, row.result_bytes, row.sha256, row.media_type, row.filename)


def demand_role(who: Principal, dataset: Dataset) -> None:
    """Raises errors.Forbidden."""
    if not who.role.includes(dataset.role):
        raise errors.Forbidden(
            f"Exporting {dataset.name} needs the role {dataset.role} or a higher one; yours is {who.role}."
        )


async def downloaded(db: WriteSession, who: Principal, export_id: UUID, part: Part | None) -> None:
    """Each time bytes leave the house, and which."""
    await record(db, who, "export.downloaded", export_id, after=None if part is None else {"range": part.content_range})
