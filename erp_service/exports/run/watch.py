"""How far a running export is, read from Postgres while the COPY runs, and how the run learns that it must stop."""

import asyncio
from collections.abc import Awaitable
from time import monotonic
from typing import TypeVar

from sqlalchemy import text

from erp_service.company.settings import company_settings
from erp_service.db.engine import Database
from erp_service.exports import admission, lifecycle
from erp_service.exports.lifecycle import Run
from erp_service.exports.run.output import Output
from erp_service.exports.run.snapshot import Snapshot

T = TypeVar("T")

EVERY = 0.5
"""Seconds between two looks, and so between two notifications of one job."""

SILENT = 10.0
"""Seconds for which Postgres may wait for us while we wait for Postgres. Then the connection is considered lost."""

_BACKENDS = text("""
    select coalesce(sum(copy.tuples_processed), 0)::bigint as tuples,
      bool_and(coalesce(backend.wait_event in ('ClientWrite', 'ClientRead'), false)) as all_wait_for_us
    from pg_stat_activity backend left join pg_stat_progress_copy copy on copy.pid = backend.pid
    where backend.pid = any(cast(:backends as int[]))
""")


async def watch(
    database: Database,
    run: Run,
    *,
    snapshot: Snapshot,
    output: Output,
    every: float = EVERY,
    silent: float = SILENT,
) -> None:
    """Record the progress for ever; raises LostOwnership or CancelRequested as soon as the row says so, and ExportQuota
    as soon as the file does not fit beside the owner's other files.

    The rows are the server's count: counting lines in the bytes would be wrong, since values contain line ends.

    Raises ConnectionError when no bytes arrive although the server has sent them, as then the COPY would never end.
    Where several connections copy, all but one may wait for their turn, and so for us; if all of them do, the one whose
    turn it is hangs."""
    rows, received, received_at = 0, -1, monotonic()
    while True:
        # read before the look: a COPY that ends meanwhile must not count twice
        ended = snapshot.rows
        # only the server that copies knows its progress
        async with database.on_replica() if snapshot.on_replica else database.read() as db:
            backends = (await db.execute(_BACKENDS, {"backends": snapshot.backends})).one()
        async with database.write() as db:
            rows = max(rows, ended + backends.tuples)
            await lifecycle.advance(db, run, rows=rows, bytes_=output.bytes)
            most_bytes = (await company_settings(db)).export_bytes_per_user
            await admission.require_room_to_grow(db, run.id, output.bytes, most_bytes)
        expecting = snapshot.expecting and output.idle
        if snapshot.received != received or not expecting or backends.all_wait_for_us is False:
            received, received_at = snapshot.received, monotonic()
        elif monotonic() - received_at > silent:
            raise ConnectionError("the connection of the COPY hangs")
        await asyncio.sleep(every)


async def while_watched(work: Awaitable[T], watching: Awaitable[None]) -> T:
    """The result of `work`. The first of the two that fails stops the other, and its error is raised."""
    worker, watcher = asyncio.ensure_future(work), asyncio.ensure_future(watching)
    try:
        await asyncio.wait([worker, watcher], return_when=asyncio.FIRST_COMPLETED)
        if watcher.done():
            watcher.result()
        return await worker
    finally:
        worker.cancel()
        watcher.cancel()
        await asyncio.gather(worker, watcher, return_exceptions=True)
