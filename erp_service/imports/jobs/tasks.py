"""The queue's task that imports a file."""

import asyncio
from uuid import UUID

from procrastinate import Blueprint, JobContext
from sqlalchemy import select

from erp_service.exports.context import ExportContext
from erp_service.exports.jobs.retries import Outages
from erp_service.exports.jobs.states import Run
from erp_service.imports.jobs.kind import IMPORTS
from erp_service.imports.jobs.run import attempt
from erp_service.imports.models import ImportJob
from erp_service.observability import telemetry, tracing
from erp_service.queue.attempts import JobAttempt
from erp_service.queue.worker import services_of, stopped_by

tasks = Blueprint()


@tasks.task(name=IMPORTS.task, queue=IMPORTS.queue, pass_context=True, retry=Outages())
async def run_import(context: JobContext, import_id: str) -> None:
    exports = services_of(context).find(ExportContext)
    run = Run(UUID(import_id), JobAttempt.of(context.job), IMPORTS)
    parent = await _trace_of(exports, run) if tracing.is_on() else None
    about: dict[str, str | int] = {"import_id": import_id, "job_id": run.queue_job_id, "attempt": run.attempt}
    with telemetry.bound(**about), tracing.span("import", about, kind="CONSUMER", parent=parent):
        try:
            await attempt.perform(exports, run)
        except asyncio.CancelledError:
            await attempt.stop(exports, run, stopped_by(context))
            raise


async def _trace_of(exports: ExportContext, run: Run) -> str | None:
    async with exports.database.read() as db:
        trace: str | None = await db.scalar(select(ImportJob.trace).where(ImportJob.id == run.id))
    return trace


TASKS = (tasks,)
