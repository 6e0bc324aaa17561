"""Housekeeping of exports: expired and orphaned files, missed admissions, exports whose job has ended.

Each step works in small batches and transactions, and is safe to be cut short, repeated, or run twice at once."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import select, text, update

from erp_service.db.engine import Database
from erp_service.db.outages import DATABASE_ERRORS
from erp_service.exports import admission, lifecycle
from erp_service.exports.context import ExportContext
from erp_service.exports.models import ExportJob, Status
from erp_service.exports.storage.base import FileKey, Store, StoredFile
from erp_service.exports.storage.registry import store_fault
from erp_service.observability.telemetry import log
from erp_service.registry.background import BackgroundStep
from erp_service.registry.housekeeping import HousekeepingStep
from erp_service.registry.services import ServiceSet

BATCH = 500
GRACE = timedelta(hours=1)
"""A file that no row names may be on its way to be published; after so long it is not."""

_EXPIRE = text("""
    update export_jobs set status = 'expired' where id in (
      select id from export_jobs where status = 'succeeded' and file_key is not null and expires_at < now()
      limit :batch for update skip locked)
""")

_ENDED_IN_QUEUE = text("""
    select queue_job_id from export_jobs export
    where status in ('queued', 'running', 'canceling') and queue_job_id is not null
      and not exists (
        select from procrastinate_jobs job where job.id = export.queue_job_id and job.status in ('todo', 'doing'))
    limit :batch
""")


async def run(resources: ExportContext) -> None:
    """Everything, once."""
    await abandon_ended(resources)
    await admit_missed(resources.database, resources.most_running)
    await expire(resources.database)
    async with resources.database.read() as db:
        fault = await store_fault(db, resources.database, resources.store)
    if fault is not None:
        log.error("the export store is left alone", fault=fault)
        return
    await remove_expired_files(resources.database, resources.store)
    await remove_orphans(resources.database, resources.store, older_than=datetime.now(UTC) - GRACE)


async def admit_missed(database: Database, most_running: int) -> int:
    """Admissions that a crash, or a skipped row, left out."""
    async with database.write() as db:
        return await admission.admit(db, most_running)


async def abandon_ended(resources: ExportContext) -> None:
    """Exports whose job the queue has ended while their row has not."""
    async with resources.database.read() as db:
        ended = list(await db.scalars(_ENDED_IN_QUEUE, {"batch": BATCH}))
    for queue_job_id in ended:
        # a transaction each: whoever holds the admission lock must not wait for another's row
        async with resources.database.write() as db:
            if await lifecycle.abandoned(db, queue_job_id, most_running=resources.most_running):
                log.warning("export ended, since its job has", job_id=queue_job_id)


async def expire(database: Database) -> None:
    """The rows stay and say `expired`; the files go next."""
    removed = BATCH
    while removed == BATCH:
        async with database.write() as db:
            removed = (await db.execute(_EXPIRE, {"batch": BATCH})).rowcount


async def remove_expired_files(database: Database, store: Store) -> None:
    """Also what a request to delete could not remove."""
    expired = select(ExportJob.id, ExportJob.file_key).where(
        ExportJob.status == Status.EXPIRED, ExportJob.file_key.is_not(None)
    )
    async with database.read() as db:
        rows = (await db.execute(expired.order_by(ExportJob.expires_at).limit(BATCH))).all()
    for export_id, name in rows:
        if name is not None and (key := FileKey.read(name)) is not None:
            await remove_file(database, store, key)
        else:
            log.error("export names a file that cannot be", export_id=str(export_id))


async def remove_file(database: Database, store: Store, key: FileKey) -> None:
    """The file of an expired export; its row then names none."""
    await store.delete(key)
    async with database.write() as db:
        gone = update(ExportJob).where(ExportJob.id == key.export_id, ExportJob.file_key == str(key))
        await db.execute(gone.where(ExportJob.status == Status.EXPIRED).values(file_key=None))


async def remove_deleted(database: Database, store: Store, key: FileKey) -> None:
    """At once, after the answer; if that fails there is nobody to tell, and the next upkeep does it."""
    try:
        await remove_file(database, store, key)
    except DATABASE_ERRORS as exc:
        log.warning("the file of a deleted export is still there", key=str(key), error=repr(exc))


async def remove_orphans(database: Database, store: Store, *, older_than: datetime) -> int:
    """Files and parts that no row names and no run is writing; returns how many."""
    removed = 0
    batch: list[StoredFile] = []
    async for kept in store.kept():
        if kept.modified_at < older_than:
            batch.append(kept)
        if len(batch) == BATCH:
            removed += await _remove_unnamed(database, store, batch)
            batch = []
    return removed + await _remove_unnamed(database, store, batch)


async def _remove_unnamed(database: Database, store: Store, batch: list[StoredFile]) -> int:
    ids = {kept.key.export_id for kept in batch}
    job = ExportJob
    async with database.read() as db:
        found = select(job.id, job.status, job.attempt, job.file_key).where(job.id.in_(ids))
        rows = {row.id: row for row in await db.execute(found)}
    removed = 0
    for kept in batch:
        row = rows.get(kept.key.export_id)
        named = row is not None and kept.whole and row.file_key == str(kept.key)
        written = (
            row is not None and row.status in (Status.RUNNING, Status.CANCELING) and row.attempt == kept.key.attempt
        )
        if not named and not written:
            await store.delete(kept.key)
            removed += 1
    return removed


async def _abandon_ended(services: ServiceSet) -> None:
    await abandon_ended(services.find(ExportContext))


async def _run(services: ServiceSet) -> None:
    await run(services.find(ExportContext))


BACKGROUND = (BackgroundStep("end exports whose job has ended", _abandon_ended),)
HOUSEKEEPING = (HousekeepingStep("exports", _run),)
