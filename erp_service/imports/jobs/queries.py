"""Reads of import jobs."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import BigInteger, Boolean, Uuid, bindparam, column, func, null, or_, select, text
from sqlalchemy.dialects.postgresql import ARRAY

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.db.pagination import SortKey, SortOrder, page
from erp_service.db.sessions import Session
from erp_service.db.statements import Prepared
from erp_service.exports.eta import Pace, progress
from erp_service.exports.models import OPEN, Status
from erp_service.imports.jobs.schemas import BadLine, Imported, ImportJobOut, ImportJobPage, ImportLinks, ImportSpec
from erp_service.imports.models import Import, ImportJob
from erp_service.imports.stored import Kind

PATH = "/api/v1/imports/jobs"

_NEWEST_FIRST = SortOrder([SortKey(ImportJob.id, "id", UUID)], descending=True)


class ImportRow(msgspec.Struct, frozen=True):
    """A row of `import_jobs`: the columns that are read, in the order of COLUMNS."""

    id: UUID
    user_id: int
    dataset: Kind
    spec: dict[str, Any]
    status: Status
    attempt: int
    queue_job_id: int | None
    version: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None
    deleted_at: datetime | None
    rows_done: int
    bytes_done: int
    rows_total: int | None
    rows_total_is_estimate: bool
    percent: float
    recent_rows: float
    recent_seconds: float
    error: dict[str, Any] | None
    filename: str
    phase: str | None
    result: dict[str, Any] | None
    import_id: int | None
    report_key: str | None
    report_bytes: int | None
    undone: bool
    faults: list[dict[str, Any]] | None

    @classmethod
    def of(cls, *values: Any) -> "ImportRow":
        named = dict(zip(cls.__struct_fields__, values, strict=True))
        return cls(**{**named, "status": Status(named["status"])})

    @property
    def does(self) -> ImportSpec:
        return msgspec.convert(self.spec, ImportSpec)


_UNDONE = select(Import.undone_at.is_not(None)).where(Import.id == ImportJob.import_id).scalar_subquery()
_UNDONE_FLAG = func.coalesce(_UNDONE, False).label("undone")
_PLAIN = [ImportJob.__table__.c[name] for name in ImportRow.__struct_fields__[:-2]]
COLUMNS = [*_PLAIN, _UNDONE_FLAG, ImportJob.__table__.c.faults]
_WITHOUT_FAULTS = [*_PLAIN, _UNDONE_FLAG, null().label("faults")]


class VersionedImport(msgspec.Struct, frozen=True):
    """A job with the version that its ETag is made of."""

    job: ImportJobOut
    version: int

    @property
    def final(self) -> bool:
        return self.job.status not in OPEN


class OwnerLoad(msgspec.Struct, frozen=True):
    """One owner's imports that have not ended: how many wait for admission, and how many are admitted; and the bytes of
    the files that are kept of all."""

    waiting: int
    admitted: int
    bytes_kept: int


async def job(db: Session, who: Principal, job_id: UUID, *, include_deleted: bool = False) -> VersionedImport:
    """One's own, or anybody's for an ADMIN; raises errors.NotFound."""
    return versioned(await _one(db, _VISIBLE, who, job_id, include_deleted=include_deleted))


async def jobs(
    db: Session,
    who: Principal,
    *,
    mine: bool,
    status: Status | None,
    dataset: Kind | None,
    include_deleted: bool,
    limit: int,
    cursor: str | None,
) -> ImportJobPage:
    """One page, without the faults. Raises errors.Forbidden if anybody but an ADMIN asks for the jobs of others;
    errors.Invalid."""
    statement = select(*_WITHOUT_FAULTS)
    if mine:
        statement = statement.where(ImportJob.user_id == who.user_id)
    elif not who.role.includes(Role.ADMIN):
        raise errors.Forbidden("The imports of others are for the role ADMIN.")
    if status is not None:
        statement = statement.where(ImportJob.status == status)
    if dataset is not None:
        statement = statement.where(ImportJob.dataset == dataset)
    if not include_deleted:
        statement = statement.where(ImportJob.deleted_at.is_(None))
    return await page(db, statement, _represented, _NEWEST_FIRST, limit=limit, cursor=cursor, into=ImportJobPage)


_LOAD = Prepared(
    text("""
    select
      count(*) filter (where status = 'queued' and queue_job_id is null) as waiting,
      count(queue_job_id) filter (where status in ('queued', 'running', 'canceling')) as admitted,
      coalesce(sum(file_bytes) filter (where file_key is not null), 0)::bigint
        + coalesce(sum(report_bytes) filter (where report_key is not null), 0)::bigint as bytes_kept
    from import_jobs
    where user_id = :user_id
      and (file_key is not null or report_key is not null or status in ('queued', 'running', 'canceling'))
""")
)


async def owner_load(db: Session, user_id: int) -> OwnerLoad:
    return OwnerLoad(*(await db.execute(_LOAD, {"user_id": user_id})).one())


async def newer(db: Session, known: Mapping[UUID, int]) -> list[VersionedImport]:
    """Those of these imports whose version is not the known one. One statement, however many."""
    ids = bindparam("ids", list(known), ARRAY(Uuid))
    versions = bindparam("versions", list(known.values()), ARRAY(BigInteger))
    pairs = func.unnest(ids, versions).table_valued(column("id", Uuid), column("version", BigInteger))
    wanted = pairs.render_derived(name="known")
    statement = select(*COLUMNS).select_from(wanted.join(ImportJob.__table__, ImportJob.id == wanted.c.id))
    rows = await db.execute(statement.where(ImportJob.version != wanted.c.version))
    return [versioned(ImportRow.of(*row)) for row in rows]


def not_found(job_id: UUID) -> errors.NotFound:
    return errors.NotFound(f"You have no import {job_id}.")


async def lock_for_update(db: Session, who: Principal, job_id: UUID) -> ImportRow:
    """The row, which nobody else changes until the transaction ends; raises errors.NotFound."""
    return await _one(db, _LOCKED, who, job_id, include_deleted=False)


async def readable(db: Session, who: Principal, job_id: UUID) -> ImportRow:
    """Raises errors.NotFound."""
    return await _one(db, _VISIBLE, who, job_id, include_deleted=False)


_ONE = select(*COLUMNS).where(
    ImportJob.id == bindparam("id"),
    or_(bindparam("of_all", type_=Boolean), ImportJob.user_id == bindparam("user_id")),
    or_(bindparam("include_deleted", type_=Boolean), ImportJob.deleted_at.is_(None)),
)
_VISIBLE, _LOCKED = Prepared(_ONE), Prepared(_ONE.with_for_update(of=ImportJob))


async def _one(db: Session, statement: Prepared, who: Principal, job_id: UUID, *, include_deleted: bool) -> ImportRow:
    sees_all = who.role.includes(Role.ADMIN)
    parameters = {"id": job_id, "user_id": who.user_id, "of_all": sees_all, "include_deleted": include_deleted}
    row = (await db.execute(statement, parameters)).one_or_none()
    if row is None:
        raise not_found(job_id)
    return ImportRow.of(*row)


def versioned(row: ImportRow) -> VersionedImport:
    return VersionedImport(represented(row), row.version)


def _represented(*values: Any) -> ImportJobOut:
    return represented(ImportRow.of(*values))


def may_be_undone(row: ImportRow) -> bool:
    """Whether it has imported movements that are not undone."""
    succeeded = row.status in (Status.SUCCEEDED, Status.EXPIRED)
    return (
        succeeded and row.import_id is not None and row.dataset == "movements"
        and row.does.undo_of is None and not row.undone
    )  # fmt: skip


def represented(row: ImportRow) -> ImportJobOut:
    """The job as clients get it."""
    here, does = f"{PATH}/{row.id}", row.does
    faults = [msgspec.convert(fault, BadLine) for fault in row.faults or ()]
    return ImportJobOut(
        id=row.id,
        dataset=row.dataset,
        mode=does.mode,
        dry_run=does.dry_run,
        filename=row.filename,
        status=row.status,
        attempt=row.attempt,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        expires_at=row.expires_at,
        phase=row.phase if row.status in OPEN else None,
        progress=progress(
            rows_done=row.rows_done,
            rows_total=row.rows_total,
            is_estimate=row.rows_total_is_estimate,
            bytes_done=row.bytes_done,
            percent=row.percent,
            pace=Pace(row.recent_rows, row.recent_seconds),
            is_running=row.status == Status.RUNNING,
            is_published=row.status in (Status.SUCCEEDED, Status.EXPIRED),
        ),
        result=None if row.result is None else msgspec.convert(row.result, Imported),
        error=row.error,
        undo_of=does.undo_of_job,
        created_by=row.user_id,
        links=ImportLinks(
            self=here,
            cancel=f"{here}/cancel" if row.status in (Status.QUEUED, Status.RUNNING) else None,
            report=f"{here}/report" if row.report_key is not None else None,
            undo=f"{here}/undo" if may_be_undone(row) else None,
        ),
        faults=faults or msgspec.UNSET,
    )
