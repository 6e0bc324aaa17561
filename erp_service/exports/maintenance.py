"""Housekeeping of exports: expired and orphaned files, missed admissions, exports whose job has ended.

Each step works in small batches and transactions. It may be interrupted, repeated, or run twice at the same time."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import cache

from sqlalchemy import TextClause, select, text, update

from erp_service.db.base import among
from erp_service.db.engine import Database
from erp_service.db.outages import DATABASE_ERRORS
from erp_service.exports import admission, lifecycle
from erp_service.exports.admission import running_per_user
from erp_service.exports.context import ExportContext
from erp_service.exports.jobs.kinds import EXPORTS, JobKind
from erp_service.exports.models import ExportJob, Status
from erp_service.exports.run.pace import look
from erp_service.exports.storage.base import FileKey, Store, StoredFile
from erp_service.exports.storage.registry import store_fault
from erp_service.observability.telemetry import log
from erp_service.registry.background import BackgroundStep
from erp_service.registry.housekeeping import HousekeepingStep
from erp_service.registry.services import ServiceSet

BATCH = 500
GRACE = timedelta(hours=1)
"""A younger file that no row names may be about to be published."""

_EXPIRE = text("""
    update export_jobs set status = 'expired' where id in (
      select id from export_jobs where status = 'succeeded' and file_key is not null and expires_at < now()
      limit :batch for update skip locked)
""")

Named = Callable[[Database, list[StoredFile]], Awaitable[set[FileKey]]]
"""Those of the files that a row names, or that a run is writing."""


@cache
def _ended_in_queue(relation: str) -> TextClause:
    return text(f"""
    select queue_job_id from {relation} own
    where status in ('queued', 'running', 'canceling') and queue_job_id is not null
      and not exists (
        select from procrastinate_jobs job where job.id = own.queue_job_id and job.status in ('todo', 'doing'))
    limit :batch
""")  # noqa: S608 the name of a table


async def run(exports: ExportContext) -> None:
    """Everything, once."""
    await abandon_ended(exports)
    await admit_missed(exports.database)
    await expire(exports.database)
    async with exports.database.read() as db:
        fault = await store_fault(db, exports.database, exports.store)
    if fault is not None:
        log.error("the export store is left alone", fault=fault)
        return
    await remove_expired_files(exports.database, exports.store)
    await remove_orphans(exports.database, exports.store, older_than=datetime.now(UTC) - GRACE)


async def admit_missed(database: Database, kind: JobKind = EXPORTS) -> int:
    """Admissions that did not happen, because a row was locked or the setting has changed."""
    async with database.write() as db:
        return await admission.admit(db, await running_per_user(db, kind), kind)


async def abandon_ended(exports: ExportContext, kind: JobKind = EXPORTS) -> None:
    """End the jobs of a kind that the queue has ended while their row is still open."""
    async with exports.database.read() as db:
        ended = list(await db.scalars(_ended_in_queue(kind.relation), {"batch": BATCH}))
    for queue_job_id in ended:
        # one transaction each: whoever holds the admission lock must not wait for the row of another export
        async with exports.database.write() as db:
            most_running = await running_per_user(db, kind)
            if await lifecycle.abandon(db, queue_job_id, most_running=most_running, kind=kind):
                log.warning(f"{kind.name} ended, since its job has", job_id=queue_job_id)


async def expire(database: Database) -> None:
    """The rows stay with the status `expired`; `remove_expired_files` removes the files."""
    changed = BATCH
    while changed == BATCH:
        async with database.write() as db:
            changed = await db.row_count(_EXPIRE, {"batch": BATCH})


async def remove_expired_files(database: Database, store: Store) -> None:
    """Also those that a request to delete could not remove."""
    expired = select(ExportJob.id, ExportJob.file_key).where(
        ExportJob.status == Status.EXPIRED, ExportJob.file_key.is_not(None)
    )
    async with database.read() as db:
        rows = await db.execute(expired.order_by(ExportJob.expires_at).limit(BATCH))
    for export_id, name in rows:
        if name is not None and (key := FileKey.read(name)) is not None:
            await remove_file(database, store, key)
        else:
            log.error("export names a file that cannot be", export_id=str(export_id))


async def remove_file(database: Database, store: Store, key: FileKey) -> None:
    """Remove the file of an expired export; afterwards its row names none."""
    await store.delete(key)
    async with database.write() as db:
        its_row = update(ExportJob).where(ExportJob.id == key.export_id, ExportJob.file_key == str(key))
        await db.execute(its_row.where(ExportJob.status == Status.EXPIRED).values(file_key=None))


async def remove_deleted(database: Database, store: Store, key: FileKey) -> None:
    """Right after the answer was sent. If it fails, nobody can be notified: the next housekeeping removes the file."""
    try:
        await remove_file(database, store, key)
    except DATABASE_ERRORS as exc:
        log.warning("the file of a deleted export is still there", key=str(key), error=exc)


async def remove_orphans(database: Database, store: Store, *, older_than: datetime) -> int:
    """Remove complete and partial files of exports that no row names and no run is writing; returns how many."""
    return await remove_unnamed(database, store, _named, prefix="", older_than=older_than)


async def remove_unnamed(database: Database, store: Store, named: Named, *, prefix: str, older_than: datetime) -> int:
    """The same for the files of one kind of job, whose names begin with `prefix`."""
    removed = 0
    batch: list[StoredFile] = []
    async for file in store.list_files():
        if file.key.prefix == prefix and file.modified_at < older_than:
            batch.append(file)
        if len(batch) == BATCH:
            removed += await _remove_others(database, store, named, batch)
            batch = []
    return removed + await _remove_others(database, store, named, batch)


async def _remove_others(database: Database, store: Store, named: Named, batch: list[StoredFile]) -> int:
    kept = await named(database, batch)
    orphans = [file.key for file in batch if file.key not in kept]
    for key in orphans:
        await store.delete(key)
    return len(orphans)


async def _named(database: Database, batch: list[StoredFile]) -> set[FileKey]:
    job, ids = ExportJob, {file.key.export_id for file in batch}
    async with database.read() as db:
        statement = select(job.id, job.status, job.attempt, job.file_key).where(among(job.id, ids))
        rows = {row.id: row for row in await db.execute(statement)}
    named = set()
    for file in batch:
        row = rows.get(file.key.export_id)
        is_named = row is not None and file.whole and row.file_key == str(file.key)
        is_growing = (
            row is not None and row.status in (Status.RUNNING, Status.CANCELING) and row.attempt == file.key.attempt
        )
        if is_named or is_growing:
            named.add(file.key)
    return named


async def _abandon_ended(services: ServiceSet) -> None:
    await abandon_ended(services.find(ExportContext))


async def _run(services: ServiceSet) -> None:
    await run(services.find(ExportContext))


async def _look_whether_to_give_way(services: ServiceSet) -> None:
    exports = services.find(ExportContext)
    await look(exports.pace, exports.database)


BACKGROUND = (
    BackgroundStep("end exports whose job has ended", _abandon_ended),
    BackgroundStep("look whether exports give way", _look_whether_to_give_way),
)
HOUSEKEEPING = (HousekeepingStep("exports", _run),)
