"""One attempt at one import, from the claim to the commit of its effect.

The effect, the state `succeeded` and the comparison with the fence are one transaction. So an attempt that was paused
and resumes after its rescuer has claimed the job takes back all that it has done, and a job loads exactly once."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from time import monotonic

import asyncpg
import msgspec
from sqlalchemy import text

from erp_service.db.outages import DISK_FULL, constraint_of, is_unavailable, sqlstate_of
from erp_service.db.sessions import WriteSession
from erp_service.errors import Refused, meaning_of
from erp_service.exports.admission import running_per_user
from erp_service.exports.context import ExportContext
from erp_service.exports.jobs import states
from erp_service.exports.jobs.states import CancelRequested, LostOwnership, Run
from erp_service.exports.run import store_failures
from erp_service.exports.run.watch import EVERY, while_watched
from erp_service.exports.storage.base import FileKey, Missing
from erp_service.imports.files.faults import Faults, ImportRefused
from erp_service.imports.jobs import lifecycle
from erp_service.imports.jobs.kind import PREFIX
from erp_service.imports.jobs.lifecycle import Claimed
from erp_service.imports.jobs.problems import FileRefused, ImportFailed, ImportLost, NoRoomToImport
from erp_service.imports.jobs.run import metrics, undo
from erp_service.imports.jobs.run.author import author, require_still
from erp_service.imports.jobs.run.report import Report
from erp_service.imports.jobs.run.source import NoRoom, dialect_of, fetched
from erp_service.imports.jobs.schemas import BadLine, Imported
from erp_service.imports.service import Loaded, importing, load_into
from erp_service.imports.spool import Spooled
from erp_service.observability import tracing
from erp_service.observability.telemetry import log
from erp_service.queue.worker import Stop

MOST_FAULTS = 1000
"""Those in the answer of the job; its report has all."""


class _Kept(Exception):
    """Ends the transaction of a dry run, which would have been complete."""

    def __init__(self, result: Imported) -> None:
        super().__init__()
        self.result = result


class Progress:
    """How far the work is, for the watcher: set from the event loop and from threads."""

    def __init__(self, passes: int) -> None:
        self._passes = passes
        self.phase, self.rows, self.total = "reading", 0, 0
        self.bytes = 0

    def show(self, done: int, total: int, phase: str) -> None:
        """As service.Progress. With two passes over the lines, each counts half."""
        self.phase = phase
        self.total = max(self.total, total)
        if self._passes == 1:
            self.rows = done
        else:
            self.rows = done // 2 if phase == "checking" else (self.total + done) // 2


async def perform(exports: ExportContext, run: Run) -> None:
    """Returns when the import has ended, in this attempt or in another one.

    Raises for the queue, which retries: what `is_unavailable` recognises, and StoreRetry. After a cancellation of the
    task the caller updates the row with `stop`."""
    began = monotonic()
    async with exports.database.write() as db:
        most_running = await running_per_user(db, run.kind)
        claimed = await lifecycle.claim(db, run, most_running=most_running)
    if claimed is None:
        log.info("import needs no run")
        return
    with Report() as report:
        faults, progress = Faults(MOST_FAULTS, report.add), Progress(_passes(claimed))
        try:
            await _end_predecessor(exports, run)
            with tracing.span("import the file", {"dataset": claimed.dataset}):
                work = _work(exports, run, claimed, faults, progress, most_running)
                result = await while_watched(work, _watch(exports, run, progress))
            log.info("import succeeded", rows=result.rows)
            metrics.count_success(claimed, result, seconds=monotonic() - began)
        except LostOwnership:
            log.warning("import is no longer ours")
        except CancelRequested:
            async with exports.database.write() as db:
                await states.cancel(db, run, most_running=most_running)
        except Exception as exc:
            # after an outage nobody knows whether the effect was committed: the next attempt finds out
            if is_unavailable(exc):
                raise
            await _end_failed(exports, run, claimed, exc, report)


def _passes(claimed: Claimed) -> int:
    """How often the file is read. The first reading of locations is the only one, and so is that of new items."""
    return 2 if claimed.dataset == "movements" or claimed.spec.mode != "create" else 1


async def stop(exports: ExportContext, run: Run, why: Stop) -> None:
    """Update the row after the task was cancelled from outside."""
    if why is Stop.TAKEN_OVER:
        return
    end = states.cancel if why is Stop.CANCELED else states.requeue
    async with exports.database.write() as db:
        await end(db, run, most_running=await running_per_user(db, run.kind))


async def _work(
    exports: ExportContext, run: Run, claimed: Claimed, faults: Faults, progress: Progress, most_running: int
) -> Imported:
    """Raises ImportRefused and errors.Refused for what is wrong."""
    who = msgspec.structs.replace(await author(exports, claimed), request_id=f"import {run.id}")
    spec = claimed.spec
    if spec.undo_of is not None:
        async with _transaction(exports, run) as db:
            count = await undo.undo(db, who, spec.undo_of, spec.reason or "", progress.show)
            result = Imported(rows=count, created=count)
            await require_still(exports, claimed, who)
            await lifecycle.succeed(db, run, claimed, result, spec.undo_of, most_running=most_running)
        return result
    try:
        async with _content(exports, claimed, progress) as content, _transaction(exports, run) as db:
            loaded = await load_into(
                db,
                claimed.dataset,
                content,
                who=who,
                dialect=dialect_of(spec),
                mode=spec.mode,
                progress=progress.show,
                faults=faults,
            )
            result = _imported(loaded)
            if spec.dry_run:
                raise _Kept(result)
            await require_still(exports, claimed, who)
            await lifecycle.succeed(db, run, claimed, result, loaded.import_id, most_running=most_running)
    except _Kept as dry:
        result = dry.result
        async with exports.database.write() as db:
            await lifecycle.succeed(db, run, claimed, result, None, most_running=most_running)
    return result


@contextlib.asynccontextmanager
async def _content(exports: ExportContext, claimed: Claimed, progress: Progress) -> AsyncIterator[Spooled]:
    """Raises ImportLost, StoreUnknown, NoRoom, ImportRefused; OSError of the store."""
    await store_failures.require_known_store(exports)
    if (key := FileKey.read(claimed.file_key or "")) is None:
        raise ImportLost

    def read(done: int) -> None:
        progress.bytes = done

    async with fetched(
        exports.store,
        key,
        claimed.file_bytes,
        claimed.filename,
        claimed.spec.encoding,
        most_bytes=exports.settings.import_bytes,
        progress=read,
    ) as content:
        yield content


def _name(run: Run) -> str:
    """Of the connection of a job's runs: no other has it."""
    return f"erp import {run.id}"


def _transaction(exports: ExportContext, run: Run) -> AbstractAsyncContextManager[WriteSession]:
    return importing(exports.settings.listen_url, _name(run))


async def _end_predecessor(exports: ExportContext, run: Run) -> None:
    """End the transaction of an earlier attempt, whose worker may be paused or cut off: it holds rows that this one
    needs, and could not succeed any more."""
    if run.attempt > 1:
        async with exports.database.write() as db:
            await db.execute(_TERMINATE, {"name": _name(run)})


_TERMINATE = text(
    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = :name and usename = current_user"
)


async def _watch(exports: ExportContext, run: Run, progress: Progress, *, every: float = EVERY) -> None:
    """Record the progress for ever; raises LostOwnership or CancelRequested as soon as the row says so."""
    while True:
        more: dict[str, object] = {"phase": progress.phase}
        if progress.total:
            more |= {"rows_total": progress.total, "rows_total_is_estimate": True}
        async with exports.database.write() as db:
            await states.advance(db, run, rows=progress.rows, bytes_=progress.bytes, **more)
        await asyncio.sleep(every)


def _imported(loaded: Loaded) -> Imported:
    return Imported(
        rows=loaded.rows,
        created=loaded.created,
        updated=loaded.updated,
        unchanged=loaded.unchanged,
        blank_rows=loaded.blank_rows,
        sha256=loaded.sha256,
        warnings=list(loaded.warnings),
    )


async def _end_failed(exports: ExportContext, run: Run, claimed: Claimed, exc: Exception, report: Report) -> None:
    """Raises StoreRetry if the import waits for the store instead of failing."""
    key = FileKey(run.id, run.attempt, "report.csv", PREFIX)
    why = store_failures.problem_of(exc)
    if why is not None:
        await store_failures.requeue(exports, run, key, why)
    problem = why or problem_of(exc)
    refused = problem.status < 500
    if refused:
        log.info("import refused", type=problem.slug)
    else:
        log.error("import failed", type=problem.slug, exc_info=exc if isinstance(problem, ImportFailed) else None)
    values: dict[str, object] = {"expires_at": states.NOW + timedelta(hours=claimed.retention_hours)}
    if isinstance(exc, ImportRefused):
        if not report.count:
            for fault in exc.faults:
                report.add(fault)
        bad = [BadLine(fault.line, fault.column, fault.value, fault.detail) for fault in exc.faults[:MOST_FAULTS]]
        values |= {"faults": msgspec.to_builtins(bad)} | await _stored(exports, key, report)
    async with exports.database.write() as db:
        await states.fail(db, run, problem, most_running=await running_per_user(db, run.kind), **values)
    metrics.count_failure(claimed, refused=refused)


async def _stored(exports: ExportContext, key: FileKey, report: Report) -> dict[str, object]:
    """The columns that name the report. Without it the job has its first faults nevertheless."""
    try:
        async with exports.store.writing(key) as sink:
            for piece in report.pieces():
                await sink(piece)
    except OSError as exc:
        log.warning("the report of an import is not stored", error=exc)
        return {}
    return {"report_key": str(key), "report_bytes": report.bytes}


def problem_of(exc: Exception) -> Refused:
    """The problem with which an import ends."""
    if isinstance(exc, ImportRefused):
        first = str(exc.faults[0]) if exc.faults else None
        more = f" And {exc.total - 1:,} more." if exc.total > 1 else ""
        return FileRefused(f"{first}{more}", total=exc.total)
    if isinstance(exc, Refused):
        return exc
    if isinstance(exc, Missing):
        return ImportLost()
    if isinstance(exc, NoRoom):
        return NoRoomToImport("The worker's disk for temporary files is full.")
    if isinstance(exc, asyncpg.PostgresError):
        if sqlstate_of(exc) == DISK_FULL:
            return NoRoomToImport("The database's disk is full.")
        if (refusal := meaning_of(constraint_of(exc))) is not None:
            return refusal
    return ImportFailed()
