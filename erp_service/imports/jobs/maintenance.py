"""Housekeeping of imports: what has expired, files that no row names, missed admissions, jobs ended by the queue."""

from datetime import UTC, datetime

from sqlalchemy import select, text

from erp_service.db.base import among
from erp_service.db.engine import Database
from erp_service.exports import maintenance
from erp_service.exports.context import ExportContext
from erp_service.exports.maintenance import BATCH, GRACE
from erp_service.exports.storage.base import FileKey, StoredFile
from erp_service.exports.storage.registry import store_fault
from erp_service.imports.jobs.kind import IMPORTS, PREFIX
from erp_service.imports.models import ImportJob
from erp_service.registry.background import BackgroundStep
from erp_service.registry.housekeeping import HousekeepingStep
from erp_service.registry.services import ServiceSet

# The file itself goes as one that no row names. What was imported stays as it is.
_EXPIRE = text("""
    update import_jobs set file_key = null, report_key = null,
      status = case when status = 'succeeded' then 'expired' else status end
    where id in (
      select id from import_jobs
      where (file_key is not null or report_key is not null)
        and status in ('succeeded', 'failed', 'canceled', 'expired')
        and (expires_at < now() or status = 'canceled' or deleted_at is not null)
      limit :batch for update skip locked)
""")


async def run(exports: ExportContext) -> None:
    """Everything, once."""
    await maintenance.abandon_ended(exports, IMPORTS)
    await maintenance.admit_missed(exports.database, IMPORTS)
    await expire(exports.database)
    async with exports.database.read() as db:
        if await store_fault(db, exports.database, exports.store) is not None:
            return  # the housekeeping of exports says so
    await remove_unnamed(exports, older_than=datetime.now(UTC) - GRACE)


async def expire(database: Database) -> None:
    changed = BATCH
    while changed == BATCH:
        async with database.write() as db:
            changed = await db.row_count(_EXPIRE, {"batch": BATCH})


async def remove_unnamed(exports: ExportContext, *, older_than: datetime) -> int:
    """Files of imports that no row names, and of uploads that broke off; returns how many."""
    return await maintenance.remove_unnamed(
        exports.database, exports.store, _named, prefix=PREFIX, older_than=older_than
    )


async def _named(database: Database, batch: list[StoredFile]) -> set[FileKey]:
    job = ImportJob
    async with database.read() as db:
        statement = select(job.file_key, job.report_key).where(among(job.id, {file.key.export_id for file in batch}))
        names = {name for row in await db.execute(statement) for name in row}
    return {file.key for file in batch if str(file.key) in names}


async def _abandon_ended(services: ServiceSet) -> None:
    await maintenance.abandon_ended(services.find(ExportContext), IMPORTS)


async def _run(services: ServiceSet) -> None:
    await run(services.find(ExportContext))


BACKGROUND = (BackgroundStep("end imports whose job has ended", _abandon_ended),)
HOUSEKEEPING = (HousekeepingStep("imports", _run),)
