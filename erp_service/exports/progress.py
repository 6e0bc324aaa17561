"""How far a running export is, read off Postgres while the COPY runs, and how it hears that it must stop."""

import asyncio
from collections.abc import Awaitable
from datetime import datetime
from time import monotonic
from typing import TypeVar

import msgspec
from sqlalchemy import text

from erp_service.db import Database
from erp_service.exports import lifecycle
from erp_service.exports.copy import Output
from erp_service.exports.lifecycle import Run

T = TypeVar("T")

EVERY = 0.5
"""Seconds between two looks, and so between two notices of one job."""

SILENT = 10.0
"""Seconds for which Postgres may wait for us while we wait for it: then the connection between is lost, and hangs."""

_BACKEND = text("""
    select copy.tuples_processed, coalesce(backend.wait_event in ('ClientWrite', 'ClientRead'), false) as waits_for_us
    from pg_stat_activity backend left join pg_stat_progress_copy copy on copy.pid = backend.pid
    where backend.pid = :backend
""")


class Progress(msgspec.Struct):
    """`percent` never goes back within an attempt, and is 100 only at the end; null while nothing can be said."""

    rows_done: int
    rows_total: int | None
    rows_total_is_estimate: bool
    bytes: int
    percent: float | None
    eta_seconds: int | None


async def watch(database: Database, run: Run, *, backend: int, output: Output) -> None:
    """Note the progress for ever; raises LostOwnership or CancelAsked as soon as the row says so.

    Counting rows in the bytes would be wrong, since values hold line ends; the server knows. It knows too if the COPY
    will never go on: raises ConnectionError when no bytes come though they have been sent."""
    rows, received, heard_at = 0, -1, monotonic()
    while True:
        async with database.write() as db:
            copy = (await db.execute(_BACKEND, {"backend": backend})).one_or_none()
            rows = max(rows, (copy and copy.tuples_processed) or 0)
            await lifecycle.advance(db, run, rows=rows, bytes_=output.bytes)
        if output.received != received or not output.idle or (copy is not None and not copy.waits_for_us):
            received, heard_at = output.received, monotonic()
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


def said(
    *,
    rows_done: int,
    rows_total: int | None,
    is_estimate: bool,
    bytes_done: int,
    finished: bool,
    started_at: datetime | None,
    progress_at: datetime | None,
) -> Progress:
    """By the times in the row and not by the clock, so that the same row always says the same."""
    percent: float | None = None
    eta: int | None = None
    if finished:
        percent, eta = 100.0, 0
    elif rows_total is not None:
        # an estimate that was too low must not claim the end
        percent = min(99.9, round(100 * rows_done / rows_total, 1)) if rows_total else 0.0
        if rows_done and started_at and progress_at:
            remaining = max(rows_total - rows_done, 0)
            eta = round((progress_at - started_at).total_seconds() * remaining / rows_done)
    return Progress(rows_done, rows_total, is_estimate, bytes_done, percent, eta)
