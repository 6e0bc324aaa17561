"""How far a running export is, read off Postgres while the COPY runs, and how it hears that it must stop."""

import asyncio
from collections.abc import Awaitable
from time import monotonic
from typing import TypeVar

import msgspec
from sqlalchemy import text

from erp_service.db.engine import Database
from erp_service.exports import lifecycle
from erp_service.exports.eta import Pace, eta_seconds
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


class Progress(msgspec.Struct):
    """`percent` never goes back within an attempt, and is 100 only at the end; null while nothing can be said."""

    rows_done: int
    rows_total: int | None
    rows_total_is_estimate: bool
    bytes: int
    percent: float | None
    eta_seconds: int | None


async def watch(
    database: Database,
    run: Run,
    *,
    snapshot: Snapshot,
    output: Output,
    every: float = EVERY,
    silent: float = SILENT,
) -> None:
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
        elif monotonic() - heard_at > silent:
            raise ConnectionError("the connection of the COPY hangs")
        await asyncio.sleep(every)


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


def said(
    *,
    rows_done: int,
    rows_total: int | None,
    is_estimate: bool,
    bytes_done: int,
    percent: float,
    pace: Pace,
    running: bool,
    finished: bool,
) -> Progress:
    """By what is in the row and not by the clock, so that the same row always says the same."""
    if finished:
        return Progress(rows_done, rows_total, is_estimate, bytes_done, 100.0, 0)
    if rows_total is None:
        return Progress(rows_done, None, is_estimate, bytes_done, None, None)
    eta = eta_seconds(pace, rows_done=rows_done, rows_total=rows_total, is_estimate=is_estimate) if running else None
    # more rows than were expected: then there are at least these
    total = max(rows_total, rows_done) if is_estimate else rows_total
    return Progress(rows_done, total, is_estimate, bytes_done, percent, eta)
