"""How far a running export is, read off Postgres while the COPY runs, and how it hears that it must stop."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

import msgspec
from sqlalchemy import text

from erp_service.db import Database
from erp_service.exports import lifecycle
from erp_service.exports.lifecycle import Run

T = TypeVar("T")

EVERY = 0.5
"""Seconds between two looks, and so between two notices of one job."""

_ROWS = text("select tuples_processed from pg_stat_progress_copy where pid = :backend")


class Progress(msgspec.Struct):
    """`percent` never goes back within an attempt, and is 100 only at the end; null while nothing can be said."""

    rows_done: int
    rows_total: int | None
    rows_total_is_estimate: bool
    bytes: int
    percent: float | None
    eta_seconds: int | None


async def watch(database: Database, run: Run, *, backend: int, written: Callable[[], int]) -> None:
    """Note the progress for ever; raises LostOwnership or CancelAsked as soon as the row says so.

    Counting rows in the bytes would be wrong, since values hold line ends; the server knows."""
    rows = 0
    while True:
        async with database.write() as db:
            rows = max(rows, await db.scalar(_ROWS, {"backend": backend}) or 0)
            await lifecycle.advance(db, run, rows=rows, bytes_=written())
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
