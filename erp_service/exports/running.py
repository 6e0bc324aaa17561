"""One attempt at an export, from the claim to the published file."""

import errno
from typing import NamedTuple

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from erp_service.auth import queries as auth_queries
from erp_service.db import Database
from erp_service.errors import Refused
from erp_service.exports import copy, datasets, lifecycle, progress
from erp_service.exports.catalogue import DATASETS
from erp_service.exports.formats import FORMATS
from erp_service.exports.lifecycle import CancelAsked, Claimed, LostOwnership, Published, Run
from erp_service.exports.models import ExportFailed, ExportForbidden, StoreFull, StoreUnknown
from erp_service.exports.storage.base import Key, Store
from erp_service.exports.storage.registry import store_fault
from erp_service.queue.hardened import Stop
from erp_service.settings import Settings
from erp_service.telemetry import log


class Resources(NamedTuple):
    """What the worker gives to every task, as `resources` in Procrastinate's additional context."""

    settings: Settings
    database: Database
    store: Store

    @property
    def most_running(self) -> int:
        return self.settings.exports_running_per_user


async def perform(resources: Resources, run: Run) -> None:
    """Returns when the export has ended, here or elsewhere. Raises what `is_outage` knows, for the queue to try again.

    A cancellation leaves no file, and the row to `stopped`."""
    database = resources.database
    async with database.write() as db:
        claimed = await lifecycle.claim(db, run, most_running=resources.most_running)
    if claimed is None:
        log.info("export needs no run")
        return
    key = Key(run.export_id, run.attempt, FORMATS[claimed.format].extension)
    try:
        await _check(resources, claimed)
        file = await _write(resources, run, claimed, key)
        async with database.write() as db:
            await lifecycle.publish(
                db, run, file, retention_hours=claimed.retention_hours, most_running=resources.most_running
            )
        log.info("export succeeded", rows=file.rows, bytes=file.bytes)
    except LostOwnership:
        # the key carries our attempt, so what we delete is ours
        await resources.store.delete(key)
        log.warning("export is no longer ours")
    except CancelAsked:
        await resources.store.delete(key)
        async with database.write() as db:
            await lifecycle.canceled(db, run, most_running=resources.most_running)
    except Exception as exc:
        # after an outage nobody knows whether the row was published: then the next attempt, or the upkeep, finds out
        if is_outage(exc):
            raise
        await resources.store.delete(key)
        await _fail(resources, run, exc)


async def stopped(resources: Resources, run: Run, why: Stop) -> None:
    """The task was cancelled from outside. What it left in the store is the upkeep's, since it may be published."""
    if why is Stop.TAKEN_OVER:
        return
    end = lifecycle.canceled if why is Stop.CANCELED else lifecycle.requeue
    async with resources.database.write() as db:
        await end(db, run, most_running=resources.most_running)


def is_outage(exc: BaseException) -> bool:
    """The database, or the way to it, was away: nothing is wrong with the export."""
    # the last of these is what asyncpg raises when it is cut off between two steps of one statement
    lost = PoolTimeout | ConnectionError | TimeoutError | asyncpg.InterfaceError | asyncpg.InternalClientError
    if isinstance(exc, lost):
        return True
    if isinstance(exc, DBAPIError):
        cause = getattr(exc.orig, "__cause__", None)
        return exc.connection_invalidated or (cause is not None and is_outage(cause))
    # 25P03: it was idle in a transaction for too long, as after a pause of the process
    state = (exc.sqlstate or "") if isinstance(exc, asyncpg.PostgresError) else ""
    return state[:2] in ("08", "53", "57", "40") or state == "25P03"


async def _check(resources: Resources, claimed: Claimed) -> None:
    """Rights are looked at again when the turn has come: it may have been days."""
    async with resources.database.read() as db:
        authority = await auth_queries.authority(db, claimed.user_id)
        fault = await store_fault(db, resources.database, resources.store)
    least = DATASETS[claimed.dataset].role
    if authority is None or not authority.active or not authority.role.includes(least):
        raise ExportForbidden(f"When its turn came, its owner was not an active {least}.")
    if fault is not None:
        raise StoreUnknown(fault)


async def _write(resources: Resources, run: Run, claimed: Claimed, key: Key) -> Published:
    query = datasets.query(DATASETS[claimed.dataset], claimed.spec)
    format_ = FORMATS[claimed.format]
    async with copy.snapshot(resources.settings.listen_url) as snapshot, resources.store.writing(key) as sink:
        total = await snapshot.total(query)
        async with resources.database.write() as db:
            await lifecycle.begin_copy(
                db, run, snapshot_at=snapshot.at, rows_total=total.rows, rows_total_is_estimate=total.is_estimate
            )
        output = copy.Output(sink)
        rows, digest = await progress.while_watched(
            _copied(snapshot, query, output),
            progress.watch(resources.database, run, backend=snapshot.backend, output=output),
        )
    return Published(
        key=key,
        rows=rows,
        bytes=output.bytes,
        sha256=digest,
        snapshot_at=snapshot.at,
        media_type=format_.media_type,
        filename=f"{claimed.dataset}-{snapshot.at:%Y%m%dT%H%M%SZ}.{format_.extension}",
    )


async def _copied(snapshot: copy.Snapshot, query: datasets.Query, output: copy.Output) -> tuple[int, str]:
    try:
        rows = await snapshot.copy_csv(query, output.write)
        return rows, await output.finish()
    finally:
        await output.abandon()


async def _fail(resources: Resources, run: Run, exc: Exception) -> None:
    why = exc if isinstance(exc, Refused) else ExportFailed()
    if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
        why = StoreFull()
    log.error("export failed", type=why.slug, exc_info=None if isinstance(exc, Refused) else exc)
    async with resources.database.write() as db:
        await lifecycle.fail(db, run, why, most_running=resources.most_running)
