"""Submitting, canceling, deleting and undoing imports, in the caller's transaction."""

from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import func, select, update
from uuid_utils.compat import uuid7

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.audit.record import record
from erp_service.company.settings import company_settings
from erp_service.db.sessions import Session, WriteSession
from erp_service.exports import admission
from erp_service.exports.models import OPEN, Status
from erp_service.imports.jobs import lifecycle, queries
from erp_service.imports.jobs.kind import IMPORTS, SMALL
from erp_service.imports.jobs.problems import (
    ImportFinal,
    ImportQuota,
    ImportUndone,
    ImportUnfinished,
    NothingToUndo,
    TooManyImports,
)
from erp_service.imports.jobs.queries import OwnerLoad, VersionedImport
from erp_service.imports.jobs.schemas import ImportSpec
from erp_service.imports.jobs.upload import Upload
from erp_service.imports.models import Import, ImportJob
from erp_service.imports.stored import Kind
from erp_service.observability import tracing
from erp_service.queue.jobs import cancel as cancel_queue_job
from erp_service.queue.jobs import is_doing

WAIT_SECONDS = 30
"""The Retry-After while too many of the owner's imports wait."""

LEAST: dict[Kind, tuple[Role, Scope]] = {
    "items": (Role.ADMIN, Scope.ITEMS_WRITE),
    "locations": (Role.ADMIN, Scope.LOCATIONS_WRITE),
    "movements": (Role.STAFF, Scope.STOCK_WRITE),
}
"""As for the same by single requests. Of movements, adjustments are for the role ADMIN (bulk_posting.py)."""


def require_right(who: Principal, dataset: Kind) -> None:
    """Raises errors.Forbidden."""
    role, scope = LEAST[dataset]
    if not who.role.includes(role):
        raise errors.Forbidden(f"To import {dataset} needs the role {role} or a higher one; yours is {who.role}.")
    if not who.has_scope(scope):
        raise errors.Forbidden(f"To import {dataset}, the API key needs the scope {scope} as well.")


def require_fits(who: Principal, dataset: Kind, spec: ImportSpec) -> None:
    """Raises errors.Forbidden, errors.Invalid."""
    if spec.history and not who.role.includes(Role.ADMIN):
        raise errors.Forbidden("history is for the role ADMIN.")
    if dataset == "movements" and spec.mode != "create":
        fault = errors.Fault("movements are only created: what happened is not updated", parameter="mode")
        raise errors.Invalid(None, fault)


async def require_room(db: Session, who: Principal) -> OwnerLoad:
    """Raises errors.Forbidden, TooManyImports, ImportQuota."""
    if who.user_id is None:
        raise errors.Forbidden("An import belongs to a person.")
    load, settings = await queries.owner_load(db, who.user_id), await company_settings(db)
    headers = {"Retry-After": str(WAIT_SECONDS)}
    if load.waiting >= settings.imports_waiting_per_user:
        raise TooManyImports(f"{load.waiting} of your imports are waiting; no more can.", headers=headers)
    if load.bytes_kept >= settings.import_bytes_per_user:
        raise ImportQuota(
            f"The files of your imports take up {load.bytes_kept:,} bytes, and one user may keep"
            f" {settings.import_bytes_per_user:,}.",
            headers=headers,
        )
    return load


async def submit(
    db: WriteSession,
    who: Principal,
    dataset: Kind,
    spec: ImportSpec,
    filename: str,
    file: Upload,
) -> VersionedImport:
    """Write the job of a file that is in the store, and the queue's job if the owner runs few enough: both with the
    commit, or neither. Raises errors.Forbidden, TooManyImports, ImportQuota."""
    require_right(who, dataset)
    values = {"filename": filename, "file_bytes": file.bytes, "file_sha256": file.sha256, "file_key": str(file.key)}
    return await _submit(db, who, dataset, spec, file.key.export_id, is_small=file.bytes <= SMALL, **values)


async def _submit(
    db: WriteSession,
    who: Principal,
    dataset: Kind,
    spec: ImportSpec,
    job_id: UUID,
    *,
    is_small: bool,
    **values: Any,
) -> VersionedImport:
    await admission.lock(db)
    load, settings = await require_room(db, who), await company_settings(db)
    stored = msgspec.to_builtins(spec)
    await lifecycle.insert_job(
        db,
        who,
        job_id,
        # an earlier import of the owner that waits goes first
        has_turn=load.admitted < settings.imports_running_per_user and not load.waiting,
        is_small=is_small,
        dataset=dataset,
        spec=stored,
        retention_hours=settings.export_retention_hours,
        trace=tracing.carrier(),
        **values,
    )
    after = {"dataset": dataset, **stored, "filename": values["filename"], "sha256": values.get("file_sha256")}
    await record(db, who, "import.submitted", job_id, after=after)
    return await queries.job(db, who, job_id)


async def cancel(db: WriteSession, who: Principal, job_id: UUID) -> VersionedImport:
    """A waiting import ends at once; a run stops within a second of the commit. Repeating it changes nothing.

    Raises errors.NotFound, ImportFinal."""
    row = await queries.lock_for_update(db, who, job_id)
    if row.status in (Status.SUCCEEDED, Status.FAILED, Status.EXPIRED):
        raise ImportFinal(f"The import has ended: it is {row.status}.")
    if row.status in (Status.QUEUED, Status.RUNNING):
        if row.queue_job_id is not None:
            await cancel_queue_job(db, row.queue_job_id)
        its_row = update(ImportJob).where(ImportJob.id == job_id)
        if row.status == Status.RUNNING:
            await db.execute(its_row.values(status=Status.CANCELING))
        before = {"status": row.status}
        await record(db, who, "import.canceled", job_id, before=before, on_behalf_of=row.user_id)
        # a run that was rescued, or is retried after an outage, waits in the queue: no worker would answer
        if row.status == Status.QUEUED or row.queue_job_id is None or not await is_doing(db, row.queue_job_id):
            await db.execute(its_row.values(status=Status.CANCELED, finished_at=func.clock_timestamp()))
            await admission.admit(db, await admission.running_per_user(db, IMPORTS), IMPORTS)
    return await queries.job(db, who, job_id)


async def delete(db: WriteSession, who: Principal, job_id: UUID) -> None:
    """Hide the job from its owner; its row stays, and so does what was imported. Housekeeping removes its files.

    Raises errors.NotFound, ImportUnfinished."""
    row = await queries.lock_for_update(db, who, job_id)
    if row.status in OPEN:
        raise ImportUnfinished(f"The import is {row.status}.")
    status = Status.EXPIRED if row.status == Status.SUCCEEDED else row.status
    values = {"status": status, "deleted_at": func.now(), "file_key": None, "report_key": None}
    await db.execute(update(ImportJob).where(ImportJob.id == job_id).values(values))
    await record(db, who, "import.deleted", job_id, before={"status": row.status}, on_behalf_of=row.user_id)


async def undo(db: WriteSession, who: Principal, job_id: UUID, reason: str) -> VersionedImport:
    """Submit the undo of an import of movements, as a job that belongs to `who`.

    Raises errors.NotFound, errors.Forbidden, NothingToUndo, ImportUndone, TooManyImports, ImportQuota."""
    row = await queries.lock_for_update(db, who, job_id)
    require_right(who, row.dataset)
    if row.undone:
        raise ImportUndone
    if not queries.may_be_undone(row) or row.import_id is None:
        raise NothingToUndo(_why_nothing(row))
    imported = await db.scalar(select(Import.row_count).where(Import.id == row.import_id))
    spec = ImportSpec(undo_of=row.import_id, undo_of_job=row.id, reason=reason)
    small = (imported or 0) <= 1000
    return await _submit(db, who, row.dataset, spec, uuid7(), is_small=small, filename=row.filename, file_bytes=0)


def _why_nothing(row: queries.ImportRow) -> str:
    if row.status not in (Status.SUCCEEDED, Status.EXPIRED):
        return f"The import is {row.status}."
    if row.does.dry_run:
        return "The import was a dry run, which kept nothing."
    if row.does.undo_of is not None:
        return "This job is an undo: import the file again instead."
    return (
        f"This import was of {row.dataset}, which others may have used since: change or delete them one by one, or"
        " import a corrected file with mode=update."
    )
