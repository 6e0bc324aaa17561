"""One attempt at one export, from the claim to the published file."""

from datetime import datetime
from functools import partial
from time import monotonic

from sqlalchemy import select

from erp_service.auth import queries as auth_queries
from erp_service.company.settings import company_settings
from erp_service.db.outages import is_unavailable
from erp_service.errors import Refused
from erp_service.exports import filenames, lifecycle
from erp_service.exports.admission import running_per_user
from erp_service.exports.context import ExportContext
from erp_service.exports.delivery import http_range
from erp_service.exports.filenames import FilenameValues
from erp_service.exports.formats import archive, registry
from erp_service.exports.formats.archive import ArchiveMember
from erp_service.exports.formats.base import About, Kind, Write
from erp_service.exports.formats.compression import COMPRESSIONS
from erp_service.exports.formats.registry import FORMATS
from erp_service.exports.lifecycle import CancelRequested, Claimed, LostOwnership, Published, Run
from erp_service.exports.models import ExportJob
from erp_service.exports.planning.members import ALL, Member, members
from erp_service.exports.planning.rights import needed_for
from erp_service.exports.problems import ExportFailed, ExportForbidden, FormatUnavailable
from erp_service.exports.run import metrics, store_failures
from erp_service.exports.run.output import Output
from erp_service.exports.run.snapshot import Snapshot, open_snapshot
from erp_service.exports.run.watch import watch, while_watched
from erp_service.exports.storage.base import FileHeaders, FileKey
from erp_service.observability import tracing
from erp_service.observability.telemetry import log
from erp_service.queue.worker import Stop


async def perform(exports: ExportContext, run: Run) -> None:
    """Returns when the export has ended, in this attempt or in another one.

    Raises for the queue, which retries: what `is_unavailable` recognises, and StoreRetry. A cancellation of the task
    leaves no file; the caller then updates the row with `stop`."""
    began = monotonic()
    async with exports.database.write() as db:
        claimed = await lifecycle.claim(db, run, most_running=await running_per_user(db))
    if claimed is None:
        log.info("export needs no run")
        return
    key = FileKey(run.id, run.attempt, _kind(claimed).extension)
    try:
        await _check(exports, claimed)
        with tracing.span("write the file", {"dataset": claimed.dataset, "format": claimed.format}) as span:
            file = await _write(exports, run, claimed, key)
            span.set_attributes({"rows": file.rows, "bytes": file.bytes})
        async with exports.database.write() as db:
            settings = await company_settings(db)
            await lifecycle.publish(
                db,
                run,
                file,
                retention_hours=claimed.retention_hours,
                most_running=settings.exports_running_per_user,
                most_bytes=settings.export_bytes_per_user,
            )
        log.info("export succeeded", rows=file.rows, bytes=file.bytes)
        metrics.count_success(claimed, file, seconds=monotonic() - began)
    except LostOwnership:
        await _remove_own(exports, run, key)
        log.warning("export is no longer ours")
    except CancelRequested:
        await store_failures.remove(exports.store, key)
        async with exports.database.write() as db:
            await lifecycle.cancel(db, run, most_running=await running_per_user(db))
    except Exception as exc:
        # after an outage nobody knows whether the row was published: the next attempt, or housekeeping, finds out
        if is_unavailable(exc):
            raise
        await _end_failed(exports, run, claimed, key, exc)


async def _remove_own(exports: ExportContext, run: Run, key: FileKey) -> None:
    """The key contains the attempt, so the file is this attempt's own; unless a failover has lost the claim, and the
    attempt that got the number after it has published."""
    async with exports.database.read() as db:
        published = await db.scalar(select(ExportJob.file_key).where(ExportJob.id == run.id))
    if published != str(key):
        await store_failures.remove(exports.store, key)


async def _end_failed(exports: ExportContext, run: Run, claimed: Claimed, key: FileKey, exc: Exception) -> None:
    """Raises StoreRetry if the export waits for the store instead of failing."""
    why = store_failures.problem_of(exc) or exc
    if isinstance(why, Refused):
        await store_failures.requeue(exports, run, key, why)
    await store_failures.remove(exports.store, key)
    problem = why if isinstance(why, Refused) else ExportFailed()
    log.error("export failed", type=problem.slug, exc_info=None if isinstance(why, Refused) else why)
    async with exports.database.write() as db:
        await lifecycle.fail(db, run, problem, most_running=await running_per_user(db))
    metrics.count_failure(claimed)


async def trace_of(exports: ExportContext, run: Run) -> str | None:
    """The `traceparent` of the trace that the submission began."""
    async with exports.database.read() as db:
        trace: str | None = await db.scalar(select(ExportJob.trace).where(ExportJob.id == run.id))
    return trace


async def stop(exports: ExportContext, run: Run, why: Stop) -> None:
    """Update the row after the task was cancelled from outside. Housekeeping removes what is left in the store, since
    the file may have been published."""
    if why is Stop.TAKEN_OVER:
        return
    end = lifecycle.cancel if why is Stop.CANCELED else lifecycle.requeue
    async with exports.database.write() as db:
        await end(db, run, most_running=await running_per_user(db))


def _kind(claimed: Claimed) -> Kind:
    if claimed.dataset == ALL:
        return archive.KIND
    return registry.kind(FORMATS[claimed.format], claimed.compression, claimed.spec.options)


async def _check(exports: ExportContext, claimed: Claimed) -> None:
    """Check the owner's rights again: days may have passed since the submission."""
    async with exports.database.read() as db:
        authority = await auth_queries.authority(db, claimed.user_id)
    least = needed_for(claimed.dataset, claimed.spec.datasets).role
    if authority is None or not authority.active or not authority.role.includes(least):
        raise ExportForbidden(f"When its turn came, its owner was not an active {least}.")
    await store_failures.require_known_store(exports)
    if (why := registry.unavailable(FORMATS[claimed.format])) is not None:
        raise FormatUnavailable(why)


async def _write(exports: ExportContext, run: Run, claimed: Claimed, key: FileKey) -> Published:
    contents = members(claimed.dataset, claimed.spec, FORMATS[claimed.format].select)
    # what the replica did not finish, such as a COPY that its replay had to end, is read from the primary
    replica_of = exports.database if run.attempt == 1 else None
    async with open_snapshot(
        exports.settings.listen_url,
        most_parts=exports.settings.export_parts,
        splitting=exports.splitting,
        replica_of=replica_of,
        pace=exports.pace,
    ) as snapshot:
        media_type, filename = _kind(claimed).media_type, _filename(run, claimed, snapshot.at)
        # for a store that hands out the file itself
        headers = FileHeaders(media_type, http_range.disposition(filename))
        async with exports.store.writing(key, headers) as sink:
            await _begin_copy(exports, run, snapshot, contents)
            compression = COMPRESSIONS.get(claimed.compression)
            output = Output(sink, compression and compression.compressor())
            rows, digest = await while_watched(
                _copy_all(snapshot, run, claimed, contents, output),
                watch(exports.database, run, snapshot=snapshot, output=output),
            )
    return Published(
        key=key,
        rows=rows,
        bytes=output.bytes,
        sha256=digest,
        snapshot_at=snapshot.at,
        media_type=media_type,
        filename=filename,
    )


async def _begin_copy(exports: ExportContext, run: Run, snapshot: Snapshot, contents: list[Member]) -> None:
    totals = [await snapshot.total(member.query) for member in contents]
    async with exports.database.write() as db:
        await lifecycle.begin_copy(
            db,
            run,
            snapshot_at=snapshot.at,
            rows_total=sum(total.rows for total in totals),
            rows_total_is_estimate=any(total.is_estimate for total in totals),
        )


def _filename(run: Run, claimed: Claimed, at: datetime) -> str:
    timezone = claimed.spec.timezone or claimed.spec.filename_timezone or "UTC"
    values = FilenameValues(claimed.dataset, claimed.format, _kind(claimed).extension, at, run.id, timezone)
    return filenames.fill_in(claimed.spec.filename, values)


async def _copy_all(
    snapshot: Snapshot, run: Run, claimed: Claimed, contents: list[Member], output: Output
) -> tuple[int, str]:
    """Returns the number of rows in the file, and the file's digest."""
    format_, options = FORMATS[claimed.format], claimed.spec.options

    async def copy(member: Member, sink: Write) -> int:
        about = About(member.dataset.name, member.dataset.description, snapshot.at)
        encoder = format_.encoder(member.query.columns, options, sink, about)
        await encoder.begin()
        rows = await snapshot.copy(member.query, encoder.write, format_.copy(options))
        await encoder.finish(rows)
        return rows

    try:
        if claimed.dataset == ALL:
            manifest = archive.empty_manifest(
                run.id, claimed.user_id, snapshot.at, format_, claimed.spec.csv, options.times.timezone
            )
            files = [ArchiveMember(m.dataset.name, m.query.columns, partial(copy, m)) for m in contents]
            await archive.write(files, format_, output.write, manifest)
        else:
            await copy(contents[0], output.write)
        return snapshot.rows, await output.finish()
    finally:
        await output.abandon()
