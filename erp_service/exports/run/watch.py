"""How far a running export is, read off Postgres while the COPY runs, and how it hears that it must stop."""

import asyncio
from collections.abc import Awaitable
from time import monotonic
from typing import TypeVar

from sqlalchemy import text

from erp_service.db.engine import Database
from erp_service.exports import lifecycle
from erp_service.exports.lifecycle import Run
from erp_service.exports.run.output import Output
from erp_service.exports.run.snapshot import Snapshot

T = TypeVar("T")

EVERY = 0.5
"""Seconds between two looks, and so between two notices of one job."""

SILENT = 10.0
"""Seconds for which Postgres may wait for us while we wait for it: then the connection between is lost, and hangs."""

_BACKENDS = text("""
    select coalesce(sum(copy.tuples_processed), 0)::bigint as tuples,
      bool_and(coalesce(backend.wait_event in ('ClientWrite', 'ClientRead'), false)) as all_wait_for_us
    from pg_stat_activity backend left join pg_stat_progress_copy copy on copy.pid = backend.pid
    where backend.pid = any(cast(:backends as int[]))
""")


async def watch(database: Database, run: Run, *, snapshot: Snapshot, output: Output) -> None:
    """Note the progress for ever; raises LostOwnership or CancelAsked as soon as the row says so.

    Counting rows in the bytes would be wrong, since values hold line ends; the server knows. It knows too if a COPY
    will never go on: raises ConnectionError when no bytes come though they have been sent. Where several connections
    copy, all but one may be waiting for their turn, and so for us; if all do, the one whose turn it is hangs."""
    rows, received, heard_at = 0, -1, monotonic()
    while True:
        # before the look: a COPY that ends meanwhile must not count twice
        ended = snapshot.rows
        # only the server that copies knows how far it is
        async with database.on_replica() if snapshot.on_replica else database.read() as db:
            found = (await db.execute(_BACKENDS, {"backends": snapshot.backends})).one()
        async with database.write() as db:
            rows = max(rows, ended + found.tuples)
            await lifecycle.advance(db, run, rows=rows, bytes_=output.bytes)
        expecting = snapshot.expecting and output.idle
        if snapshot.received != received or not expecting or found.all_wait_for_us is False:
            received, heard_at = snapshot.received, monotonic()
        elif monotonic() - heard_at > SILENT:
            raise ConnectionError("the connection of the COPY hangs")
        await asyncio.sleep(EVERY)


async def while_watched(work: Awaitable[T], watching: Awaitable[None]) -> T:
    """What `work` gives; whichever of the two fails first stops the other, and is raised."""
    working, watcher = asyncio.ensure_future(work), asyncio.ensure_future(watching)
    try:
        await asyncio.wait([working, watcher], return_when=asyncio.FIRST_COMPLETED)
        if watcher.done():
            watcher.result()
        return await working
    finally:
        working.cancel()
        watcher.cancel()
        await asyncio.gather(working, watcher, return_exceptions=True)
