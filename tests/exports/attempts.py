"""Attempts at exports that a test makes by hand, with no worker."""

from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import httpx

from erp_service.db.engine import Database
from erp_service.exports import lifecycle
from erp_service.exports.lifecycle import Published, Run
from erp_service.exports.storage.base import FileKey
from erp_service.queue.attempts import JobAttempt
from tests.exports.jobs import row_of, submitted

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
MOST = 2  # exports of one user at once


async def begun(client: httpx.AsyncClient, database: Database, owner: asyncpg.Connection, *, attempt: int = 1) -> Run:
    """Submits an export and claims it, so that it is running although no worker runs it."""
    export_id = await submitted(client)
    run = Run(UUID(export_id), JobAttempt((await row_of(owner, export_id))["queue_job_id"], attempt))
    async with database.write() as db:
        assert await lifecycle.claim(db, run, most_running=MOST)
    return run


def again(run: Run) -> Run:
    """The attempt that follows, as after a retry or a rescue."""
    return Run(run.id, JobAttempt(run.queue_job_id, run.attempt + 1))


async def advanced(database: Database, run: Run, rows: int) -> None:
    async with database.write() as db:
        await lifecycle.advance(db, run, rows=rows, bytes_=rows * 10)


async def published(database: Database, run: Run, rows: int = 1000) -> None:
    file = Published(
        key=FileKey(run.id, run.attempt, "csv"),
        rows=rows,
        bytes=rows * 10,
        sha256="0" * 64,
        snapshot_at=NOON,
        media_type="text/csv",
        filename="items.csv",
    )
    async with database.write() as db:
        await lifecycle.publish(db, run, file, retention_hours=1, most_running=MOST, most_bytes=10**12)
