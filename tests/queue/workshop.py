"""A worker program for these tests, run by `procrastinate --app=workshop.app worker`: its tasks leave traces."""

import asyncio
import logging
import os
import signal
import time
from pathlib import Path

import asyncpg
from procrastinate import Blueprint, JobContext

from erp_service.db.connections import connect
from erp_service.queue.connector import WorkerConnector
from erp_service.queue.rescue import Timeouts
from erp_service.queue.worker import HardenedApp, stopped_by

URL = os.environ["WORKSHOP_URL"]
tasks = Blueprint()


async def trace(job_id: int | None, attempt: int, what: str) -> None:
    while True:
        try:
            connection = await connect(URL, name="workshop task")
            try:
                await connection.execute(
                    "insert into traces (job_id, attempt, pid, what) values ($1, $2, $3, $4)",
                    job_id,
                    attempt,
                    os.getpid(),
                    what,
                )
                return
            finally:
                await connection.close()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await asyncio.sleep(0.1)


@tasks.task(name="workshop:quick", pass_context=True)
async def quick(context: JobContext) -> None:
    await trace(context.job.id, context.job.attempts, "done")


@tasks.task(name="workshop:until", pass_context=True)
async def until(context: JobContext, gate: str) -> None:
    """Runs until the file `gate` exists."""
    attempt = context.job.attempts
    await trace(context.job.id, attempt, "started")
    try:
        while not Path(gate).exists():  # noqa: ASYNC110 another process opens it
            await asyncio.sleep(0.02)
    except asyncio.CancelledError:
        await trace(context.job.id, attempt, stopped_by(context).name)
        raise
    await trace(context.job.id, attempt, "done")


@tasks.task(name="workshop:fail_when_stopped", pass_context=True)
async def fail_when_stopped(context: JobContext) -> None:
    await trace(context.job.id, context.job.attempts, "started")
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        raise RuntimeError("a driver that answers a cancellation with an error of its own") from None


@tasks.task(name="workshop:deadly", pass_context=True)
async def deadly(context: JobContext) -> None:
    await trace(context.job.id, context.job.attempts, "started")
    os.kill(os.getpid(), signal.SIGKILL)


@tasks.task(name="workshop:hang", pass_context=True)
async def hang(context: JobContext) -> None:
    """Blocks the whole process, as code does that should run in a thread."""
    await trace(context.job.id, context.job.attempts, "started")
    time.sleep(3600)


logging.basicConfig(level=logging.INFO)
app = HardenedApp(
    connector=WorkerConnector(URL, name="workshop worker"),
    timeouts=Timeouts(
        heartbeat=0.5,
        stalled=float(os.environ.get("WORKSHOP_STALLED", "2")),
        reconnect_grace=float(os.environ.get("WORKSHOP_RECONNECT_GRACE", "1")),
        deaths=3,
    ),
    grace_seconds=float(os.environ.get("WORKSHOP_GRACE", "30")),
)
app.gather(tasks)
