"""One attempt at an export, from the claim to the published file."""

from datetime import datetime
from functools import partial
from time import monotonic

from sqlalchemy import select

from erp_service.auth import queries as auth_queries
from erp_service.db.outages import is_outage
from erp_service.errors import Refused
from erp_service.exports import filenames, lifecycle, queries
from erp_service.exports.context import ExportContext
from erp_service.exports.delivery import http_range
from erp_service.exports.formats import archive, registry
from erp_service.exports.formats import base as formats
from erp_service.exports.formats.archive import ArchiveMember
from erp_service.exports.formats.base import About, Write
from erp_service.exports.formats.compression import COMPRESSIONS
from erp_service.exports.formats.registry import FORMATS
from erp_service.exports.lifecycle import CancelAsked, Claimed, LostOwnership, Published, Run
from erp_service.exports.models import ExportJob
from erp_service.exports.planning.members import ALL, Member
from erp_service.exports.planning.members import members as members_of
from erp_service.exports.problems import ExportFailed, ExportForbidden, FormatUnavailable
from erp_service.exports.run import store_failures
from erp_service.exports.run import watch as progress
from erp_service.exports.run.output import Output
from erp_service.exports.run.snapshot import Snapshot, open_snapshot
from erp_service.exports.storage.base import Described, FileKey
from erp_service.observability import telemetry, tracing
from erp_service.observability.telemetry import log
from erp_service.queue.worker import Stop


async def perform(resources: ExportContext, run: Run) -> None:
    """Returns when the export has ended, here or elsewhere. Raises what `is_outage` knows, or StoreAway, for the queue.

    A cancellation leaves no file, and the row to `stopped`."""
    database = resources.database
    began = monotonic()
    async with database.write() as db:
        claimed = await lifecycle.claim(db, run, most_running=resources.most_running)
    if claimed is None:
        log.info("export needs no run")
        return
    key = FileKey(run.export_id, run.attempt, _kind(claimed).extension)
    try:
        await _check(resources, claimed)
        with tracing.span("write the file", {"dataset": claimed.dataset, "format": claimed.format}) as span:
            file = await _write(resources, run, claimed, key)
            tracing.note(span, {"rows": file.rows, "bytes": file.bytes})
        async with database.write() as db:
            await lifecycle.publish(
                db, run, file, retention_hours=claimed.retention_hours, most_running=resources.most_running
            )
        log.info("export succeeded", rows=file.rows, bytes=file.bytes)
        _count(claimed, file, seconds=monotonic() - began)
    except LostOwnership:
        # the key carries our attempt, so what we delete is ours
        await store_failures.remove(resources.store, key)
        log.warning("export is no longer ours")
    except CancelAsked:
        await store_failures.remove(resources.store, key)
        async with database.write() as db:
            await lifecycle.canceled(db, run, most_running=resources.most_running)
    except Exception as exc:
        # after an outage nobody knows whether the row was published: then the next attempt, or the upkeep, finds out
        if is_outage(exc):
            raise
        why = store_failures.fault_of(exc) or exc
        if isinstance(why, Refused):
            await store_failures.put_back(database, resources.store, run, key, why, most_running=resources.most_running)
        await store_failures.remove(resources.store, key)
        await _fail(resources, run, why)
        telemetry.exports_ended.labels(claimed.dataset, claimed.format, "failed").inc()


def _count(claimed: Claimed, file: Published, *, seconds: float) -> None:
    what = (claimed.dataset, claimed.format)
    telemetry.exports_ended.labels(*what, "succeeded").inc()
    telemetry.exported_rows.labels(*what).inc(file.rows)
    telemetry.exported_bytes.labels(*what).inc(file.bytes)
    telemetry.export_seconds.labels(*what).observe(seconds)


async def trace_of(resources: ExportContext, run: Run) -> str | None:
    """The trace that its submission began."""
    async with resources.database.read() as db:
        return await db.scalar(select(ExportJob.trace).where(ExportJob.id == run.export_id))


async def stopped(resources: ExportContext, run: Run, why: Stop) -> None:
    """The task was cancelled from outside. What it left in the store is the upkeep's, since it may be published."""
    if why is Stop.TAKEN_OVER:
        return
    end = lifecycle.canceled if why is Stop.CANCELED else lifecycle.requeue
    async with resources.database.write() as db:
        await end(db, run, most_running=resources.most_running)


def _kind(claimed: Claimed) -> formats.Kind:
    if claimed.dataset == ALL:
        return archive.KIND
    return registry.kind(FORMATS[claimed.format], claimed.compression, claimed.spec.options)


async def _check(resources: ExportContext, claimed: Claimed) -> None:
    """Rights are looked at again when the turn has come: it may have been days."""
    async with resources.database.read() as db:
        authority = await auth_queries.authority(db, claimed.user_id)
    least = queries.least_role(claimed.dataset, claimed.spec.datasets)
    if authority is None or not authority.active or not authority.role.includes(least):
        raise ExportForbidden(f"When its turn came, its owner was not an active {least}.")
    await store_failures.check(resources.database, resources.store)
    if (why := registry.unavailable(FORMATS[claimed.format])) is not None:
        raise FormatUnavailable(why)


async def _write(resources: ExportContext, run: Run, claimed: Claimed, key: FileKey) -> Published:
    format_ = FORMATS[claimed.format]
    members = members_of(claimed.dataset, claimed.spec, format_.select)
    kind = _kind(claimed)
    # what the replica did not finish, such as a COPY that its replay had to end, the primary does
    replica_of = resources.database if run.attempt == 1 else None
    url, most_parts = resources.settings.listen_url, resources.settings.export_parts
    async with (
        open_snapshot(url, most_parts=most_parts, replica_of=replica_of) as snapshot,
        resources.store.writing(key, _described(run, claimed, snapshot.at)) as sink,
    ):
        totals = [await snapshot.total(query) for _, query in members]
        async with resources.database.write() as db:
            await lifecycle.begin_copy(
                db,
                run,
                snapshot_at=snapshot.at,
                rows_total=sum(total.rows for total in totals),
                rows_total_is_estimate=any(total.is_estimate for total in totals),
            )
        compression = COMPRESSIONS.get(claimed.compression)
        output = Output(sink, compression and compression.compressor())
        rows, digest = await progress.while_watched(
            _copied(snapshot, run, claimed, members, output),
            progress.watch(resources.database, run, snapshot=snapshot, output=output),
        )
    return Published(
        key=key,
        rows=rows,
        bytes=output.bytes,
        sha256=digest,
        snapshot_at=snapshot.at,
        media_type=kind.media_type,
        filename=_filename(run, claimed, snapshot.at),
    )


def _filename(run: Run, claimed: Claimed, at: datetime) -> str:
    named = filenames.Named(claimed.dataset, claimed.format, _kind(claimed).extension, at, run.export_id)
    return filenames.filled_in(claimed.spec.filename, named)


def _described(run: Run, claimed: Claimed, at: datetime) -> Described:
    """For a store that may hand out the file by itself one day."""
    return Described(_kind(claimed).media_type, http_range.disposition(_filename(run, claimed, at)))


async def _copied(
    snapshot: Snapshot, run: Run, claimed: Claimed, members: list[Member], output: Output
) -> tuple[int, str]:
    """All rows that were written, and the digest of the file."""
    format_, options = FORMATS[claimed.format], claimed.spec.options

    async def copied(member: Member, sink: Write) -> int:
        about = About(member.dataset.name, member.dataset.description, snapshot.at)
        encoder = format_.encoder(member.query.columns, options, sink, about)
        await encoder.begin()
        rows = await snapshot.copy(member.query, encoder.write, format_.copy(options))
        await encoder.finish(rows)
        return rows

    try:
        if claimed.dataset == ALL:
            manifest = archive.empty_manifest(run.export_id, claimed.user_id, snapshot.at, format_, claimed.spec.csv)
            files = [ArchiveMember(m.dataset.name, m.query.columns, partial(copied, m)) for m in members]
            await archive.write(files, format_, output.write, manifest)
        else:
            await copied(members[0], output.write)
        return snapshot.rows, await output.finish()
    finally:
        await output.abandon()


async def _fail(resources: ExportContext, run: Run, exc: Exception) -> None:
    why = exc if isinstance(exc, Refused) else ExportFailed()
    log.error("export failed", type=why.slug, exc_info=None if isinstance(exc, Refused) else exc)
    async with resources.database.write() as db:
        await lifecycle.fail(db, run, why, most_running=resources.most_running)
