"""Reads of export jobs."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import BigInteger, Select, Uuid, bindparam, column, func, select
from sqlalchemy.dialects.postgresql import ARRAY

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.db.pagination import SortKey, SortOrder, page
from erp_service.db.sessions import Session
from erp_service.exports.catalogue import DATASETS
from erp_service.exports.eta import Pace
from erp_service.exports.models import OPEN, ExportJob, Status
from erp_service.exports.run.watch import said
from erp_service.exports.schemas import ExportJobOut, ExportJobPage, ExportLinks, Result

PATH = "/api/v1/exports/jobs"

_NEWEST_FIRST = SortOrder([SortKey(ExportJob.id, "id", UUID)], descending=True)
_COLUMNS = ExportJob.__table__.c
_RETRIABLE = (Status.FAILED, Status.CANCELED, Status.EXPIRED)


class VersionedExport(msgspec.Struct, frozen=True):
    """A job with the version that its ETag is made of, and the least role for what is in its file."""

    job: ExportJobOut
    version: int
    least: Role

    @property
    def final(self) -> bool:
        return self.job.status not in OPEN


async def job(db: Session, who: Principal, export_id: UUID, *, include_deleted: bool = False) -> VersionedExport:
    """One's own, or anybody's for an ADMIN; raises errors.NotFound."""
    found = _visible(who, export_id)
    if not include_deleted:
        found = found.where(ExportJob.deleted_at.is_(None))
    row = (await db.execute(found)).one_or_none()
    if row is None:
        raise missing(export_id)
    return _shown(row)


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
    """One page. Raises errors.Forbidden if another's jobs are asked for by anybody but an ADMIN; errors.Invalid."""
    found = select(*_COLUMNS)
    if mine:
        found = found.where(ExportJob.user_id == who.user_id)
    elif not who.role.includes(Role.ADMIN):
        raise errors.Forbidden("The exports of others are for the role ADMIN.")
    if status is not None:
        found = found.where(ExportJob.status == status)
    if dataset is not None:
        found = found.where(ExportJob.dataset == dataset)
    if not include_deleted:
        found = found.where(ExportJob.deleted_at.is_(None))
    return await page(db, found, represented, _NEWEST_FIRST, limit=limit, cursor=cursor, into=ExportJobPage)


async def open_twin(db: Session, who: Principal, values: Mapping[str, Any]) -> VersionedExport | None:
    """The user's own job with these values that still waits or runs."""
    found = select(*_COLUMNS).where(
        ExportJob.user_id == who.user_id,
        ExportJob.status.in_((Status.QUEUED, Status.RUNNING)),
        *(_COLUMNS[name] == value for name, value in values.items()),
    )
    row = (await db.execute(found.order_by(ExportJob.id).limit(1))).one_or_none()
    if row is None:
        return None
    twin = _shown(row)
    return msgspec.structs.replace(twin, job=msgspec.structs.replace(twin.job, deduplicated=True))


def _shown(row: Any) -> VersionedExport:
    return VersionedExport(represented(*row), row.version, least_role(row.dataset, row.spec))


def least_role(dataset: str, spec: Mapping[str, Any]) -> Role:
    """Of a job by its row; one that holds several datasets names them in its spec."""
    held = [DATASETS.get(name) for name in spec.get("datasets") or [dataset]]
    # what this code does not know, it gives to nobody who may not have everything
    return max((Role.SUPER_ADMIN if one is None else one.role for one in held), key=lambda role: role.rank)


async def newer(db: Session, known: Mapping[UUID, int]) -> list[VersionedExport]:
    """Of these exports, those whose version is another than the one that is known, by one query for however many."""
    ids = bindparam("ids", list(known), ARRAY(Uuid))
    versions = bindparam("versions", list(known.values()), ARRAY(BigInteger))
    pairs = func.unnest(ids, versions).table_valued(column("id", Uuid), column("version", BigInteger))
    wanted = pairs.render_derived(name="known")
    found = select(*_COLUMNS).join_from(wanted, ExportJob, ExportJob.id == wanted.c.id)
    rows = await db.execute(found.where(ExportJob.version != wanted.c.version))
    return [_shown(row) for row in rows]


def missing(export_id: UUID) -> errors.NotFound:
    return errors.NotFound(f"You have no export {export_id}.")


def _visible(who: Principal, export_id: UUID) -> Select[Any]:
    found = select(*_COLUMNS).where(ExportJob.id == export_id)
    return found if who.role.includes(Role.ADMIN) else found.where(ExportJob.user_id == who.user_id)


async def lock_for_update(db: Session, who: Principal, export_id: UUID) -> Any:
    """The row, which nobody changes until the transaction ends; raises errors.NotFound."""
    found = _visible(who, export_id).where(ExportJob.deleted_at.is_(None)).with_for_update()
    row = (await db.execute(found)).one_or_none()
    if row is None:
        raise missing(export_id)
    return row


async def readable(db: Session, who: Principal, export_id: UUID) -> Any:
    """The row, of a deleted job too; raises errors.NotFound."""
    row = (await db.execute(_visible(who, export_id))).one_or_none()
    if row is None:
        raise missing(export_id)
    return row


def represented(*values: Any) -> ExportJobOut:
    """The contract's job of a row's columns, in their order."""
    row = dict(zip(_COLUMNS.keys(), values, strict=True))
    status = Status(row["status"])
    here = f"{PATH}/{row['id']}"
    published = status in (Status.SUCCEEDED, Status.EXPIRED)
    return ExportJobOut(
        id=row["id"],
        dataset=row["dataset"],
        format=row["format"],
        compression=row["compression"],
        status=status,
        attempt=row["attempt"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        expires_at=row["expires_at"],
        snapshot_at=row["snapshot_at"],
        progress=said(
            rows_done=row["rows_done"],
            rows_total=row["rows_total"],
            is_estimate=row["rows_total_is_estimate"],
            bytes_done=row["bytes_done"],
            percent=row["percent"],
            pace=Pace(row["recent_rows"], row["recent_seconds"]),
            running=status == Status.RUNNING,
            finished=published,
        ),
        result=Result(row["result_rows"], row["result_bytes"], row["sha256"], row["media_type"], row["filename"])
        if published
        else None,
        error=row["error"],
        created_by=row["user_id"],
        retry_of=row["retry_of"],
        deduplicated=False,
        links=ExportLinks(
            self=here,
            download=f"{here}/download" if status == Status.SUCCEEDED else None,
            cancel=f"{here}/cancel" if status in (Status.QUEUED, Status.RUNNING) else None,
            retry=f"{here}/retry" if status in _RETRIABLE and row["deleted_at"] is None else None,
        ),
    )
