"""Reads of export jobs."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import BigInteger, Boolean, Uuid, bindparam, column, func, or_, select, text, true
from sqlalchemy.dialects.postgresql import ARRAY

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.db.pagination import SortKey, SortOrder, page
from erp_service.db.sessions import Session
from erp_service.db.statements import Prepared
from erp_service.exports.eta import Pace, progress
from erp_service.exports.formats.base import FormatName
from erp_service.exports.formats.compression import CompressionName
from erp_service.exports.models import OPEN, ExportJob, Status
from erp_service.exports.planning.rights import Needed, needed_for
from erp_service.exports.schemas import ExportJobOut, ExportJobPage, ExportLinks, Result

PATH = "/api/v1/exports/jobs"

_NEWEST_FIRST = SortOrder([SortKey(ExportJob.id, "id", UUID)], descending=True)
_RETRIABLE = (Status.FAILED, Status.CANCELED, Status.EXPIRED)


class ExportRow(msgspec.Struct, frozen=True):
    """A row of `export_jobs`: the columns that are read, in the order of EXPORT_COLUMNS."""

    id: UUID
    user_id: int
    dataset: str
    format: FormatName
    compression: CompressionName
    spec: dict[str, Any]
    retention_hours: int
    retry_of: UUID | None
    status: Status
    attempt: int
    queue_job_id: int | None
    version: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None
    deleted_at: datetime | None
    snapshot_at: datetime | None
    rows_done: int
    bytes_done: int
    rows_total: int | None
    rows_total_is_estimate: bool
    percent: float
    recent_rows: float
    recent_seconds: float
    result_rows: int | None
    result_bytes: int | None
    sha256: str | None
    media_type: str | None
    filename: str | None
    file_key: str | None
    error: dict[str, Any] | None

    @classmethod
    def of(cls, *values: Any) -> "ExportRow":
        """Of the values of EXPORT_COLUMNS."""
        named = dict(zip(cls.__struct_fields__, values, strict=True))
        return cls(**{**named, "status": Status(named["status"])})

    @property
    def result(self) -> Result | None:
        """The published file, also once it has expired; None if no attempt has published one."""
        if (
            self.result_rows is None
            or self.result_bytes is None
            or self.sha256 is None
            or self.media_type is None
            or self.filename is None
        ):
            return None
        return Result(self.result_rows, self.result_bytes, self.sha256, self.media_type, self.filename)

    @property
    def needed(self) -> Needed:
        """What it takes to read the file."""
        return needed_for(self.dataset, msgspec.convert(self.spec.get("datasets"), list[str] | None))


EXPORT_COLUMNS = [ExportJob.__table__.c[name] for name in ExportRow.__struct_fields__]


class VersionedExport(msgspec.Struct, frozen=True):
    """A job with the version that its ETag is made of, and what it takes to read its file."""

    job: ExportJobOut
    version: int
    needed: Needed

    @property
    def final(self) -> bool:
        return self.job.status not in OPEN


class OwnerLoad(msgspec.Struct, frozen=True):
    """One owner's exports that have not ended: how many wait for admission, and how many are admitted. `twin` is the
    oldest of them with the same request, unless it is `canceling`."""

    waiting: int
    admitted: int
    twin: VersionedExport | None = None


async def job(db: Session, who: Principal, export_id: UUID, *, include_deleted: bool = False) -> VersionedExport:
    """One's own, or anybody's for an ADMIN; raises errors.NotFound."""
    return versioned(await _one(db, _VISIBLE, who, export_id, include_deleted=include_deleted))


async def jobs(
    db: Session,
    who: Principal,
    *,
    mine: bool,
    status: Status | None,
    dataset: str | None,
    include_deleted: bool,
    limit: int,
    cursor: str | None,
) -> ExportJobPage:
    """One page. Raises errors.Forbidden if anybody but an ADMIN asks for the jobs of others; errors.Invalid."""
    statement = select(*EXPORT_COLUMNS)
    if mine:
        statement = statement.where(ExportJob.user_id == who.user_id)
    elif not who.role.includes(Role.ADMIN):
        raise errors.Forbidden("The exports of others are for the role ADMIN.")
    if status is not None:
        statement = statement.where(ExportJob.status == status)
    if dataset is not None:
        statement = statement.where(ExportJob.dataset == dataset)
    if not include_deleted:
        statement = statement.where(ExportJob.deleted_at.is_(None))
    return await page(db, statement, _represented, _NEWEST_FIRST, limit=limit, cursor=cursor, into=ExportJobPage)


# Built once, and one statement: every submission runs it twice. The states are constants of the text, so that the
# planner always knows that the index of open exports has all of them.
_OPEN_OF_OWNER = (ExportJob.user_id == bindparam("user_id"), text("status in ('queued', 'running', 'canceling')"))
_COUNTS = (
    select(
        func.count().filter(text("status = 'queued' and queue_job_id is null")).label("waiting"),
        func.count(ExportJob.queue_job_id).label("admitted"),
    )
    .where(*_OPEN_OF_OWNER)
    .subquery("counts")
)
_TWIN = (
    select(*EXPORT_COLUMNS)
    .where(
        *_OPEN_OF_OWNER,
        ExportJob.status != Status.CANCELING,
        ExportJob.dataset == bindparam("dataset"),
        ExportJob.format == bindparam("format"),
        ExportJob.compression == bindparam("compression"),
        ExportJob.spec == bindparam("spec"),
        ExportJob.retention_hours == bindparam("retention_hours"),
    )
    .order_by(ExportJob.id)
    .limit(1)
    .subquery("twin")
)
_LOAD = Prepared(select(_COUNTS.c.waiting, _COUNTS.c.admitted))
_LOAD_AND_TWIN = Prepared(
    select(_COUNTS.c.waiting, _COUNTS.c.admitted, *_TWIN.c).select_from(_COUNTS.outerjoin(_TWIN, true()))
)


async def owner_load(db: Session, user_id: int, *, twin_of: Mapping[str, object] | None) -> OwnerLoad:
    """`twin_of` are the columns of a job's row that hold its request (`PlannedExport.row_values`); None looks for no
    twin."""
    if twin_of is None:
        return OwnerLoad(*(await db.execute(_LOAD, {"user_id": user_id})).one())
    waiting, admitted, *values = (await db.execute(_LOAD_AND_TWIN, {"user_id": user_id, **twin_of})).one()
    if values[0] is None:
        return OwnerLoad(waiting, admitted)
    twin = versioned(ExportRow.of(*values))
    deduplicated = msgspec.structs.replace(twin.job, deduplicated=True)
    return OwnerLoad(waiting, admitted, msgspec.structs.replace(twin, job=deduplicated))


async def newer(db: Session, known: Mapping[UUID, int]) -> list[VersionedExport]:
    """Those of these exports whose version is not the known one. One statement, however many exports."""
    ids = bindparam("ids", list(known), ARRAY(Uuid))
    versions = bindparam("versions", list(known.values()), ARRAY(BigInteger))
    pairs = func.unnest(ids, versions).table_valued(column("id", Uuid), column("version", BigInteger))
    wanted = pairs.render_derived(name="known")
    statement = select(*EXPORT_COLUMNS).join_from(wanted, ExportJob, ExportJob.id == wanted.c.id)
    rows = await db.execute(statement.where(ExportJob.version != wanted.c.version))
    return [versioned(ExportRow.of(*row)) for row in rows]


def not_found(export_id: UUID) -> errors.NotFound:
    return errors.NotFound(f"You have no export {export_id}.")


async def lock_for_update(db: Session, who: Principal, export_id: UUID) -> ExportRow:
    """The row, which nobody else changes until the transaction ends; raises errors.NotFound."""
    return await _one(db, _LOCKED, who, export_id, include_deleted=False)


async def readable(db: Session, who: Principal, export_id: UUID) -> ExportRow:
    """The row, also of a deleted job; raises errors.NotFound."""
    return await _one(db, _VISIBLE, who, export_id, include_deleted=True)


_ONE = select(*EXPORT_COLUMNS).where(
    ExportJob.id == bindparam("id"),
    or_(bindparam("of_all", type_=Boolean), ExportJob.user_id == bindparam("user_id")),
    or_(bindparam("include_deleted", type_=Boolean), ExportJob.deleted_at.is_(None)),
)
_VISIBLE, _LOCKED = Prepared(_ONE), Prepared(_ONE.with_for_update())


async def _one(
    db: Session, statement: Prepared, who: Principal, export_id: UUID, *, include_deleted: bool
) -> ExportRow:
    sees_all = who.role.includes(Role.ADMIN)
    parameters = {"id": export_id, "user_id": who.user_id, "of_all": sees_all, "include_deleted": include_deleted}
    row = (await db.execute(statement, parameters)).one_or_none()
    if row is None:
        raise not_found(export_id)
    return ExportRow.of(*row)


def versioned(row: ExportRow) -> VersionedExport:
    return VersionedExport(represented(row), row.version, row.needed)


def _represented(*values: Any) -> ExportJobOut:
    return represented(ExportRow.of(*values))


def represented(row: ExportRow) -> ExportJobOut:
    """The job as clients get it."""
    here = f"{PATH}/{row.id}"
    is_published = row.status in (Status.SUCCEEDED, Status.EXPIRED)
    return ExportJobOut(
        id=row.id,
        dataset=row.dataset,
        format=row.format,
        compression=row.compression,
        status=row.status,
        attempt=row.attempt,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        expires_at=row.expires_at,
        snapshot_at=row.snapshot_at,
        progress=progress(
            rows_done=row.rows_done,
            rows_total=row.rows_total,
            is_estimate=row.rows_total_is_estimate,
            bytes_done=row.bytes_done,
            percent=row.percent,
            pace=Pace(row.recent_rows, row.recent_seconds),
            is_running=row.status == Status.RUNNING,
            is_published=is_published,
        ),
        result=row.result if is_published else None,
        # an earlier version stored some without a detail
        error=None if row.error is None else {"detail": row.error.get("title"), **row.error},
        created_by=row.user_id,
        retry_of=row.retry_of,
        deduplicated=False,
        links=ExportLinks(
            self=here,
            download=f"{here}/download" if row.status == Status.SUCCEEDED else None,
            cancel=f"{here}/cancel" if row.status in (Status.QUEUED, Status.RUNNING) else None,
            retry=f"{here}/retry" if row.status in _RETRIABLE and row.deleted_at is None else None,
        ),
        filter=row.spec.get("filter") or msgspec.UNSET,
    )
