"""The queue's task that makes an export."""

import asyncio
from uuid import UUID

from procrastinate import Blueprint, JobContext

from erp_service.exports.admission import QUEUE, TASK
from erp_service.exports.context import ExportContext
from erp_service.exports.jobs.retries import Outages
from erp_service.exports.lifecycle import Run
from erp_service.exports.run import attempt
from erp_service.observability import telemetry, tracing
from erp_service.queue.attempts import JobAttempt
from erp_service.queue.worker import services_of, stopped_by

tasks = Blueprint()


@tasks.task(name=TASK, queue=QUEUE, pass_context=True, retry=Outages())
async def run_export(context: JobContext, export_id: str) -> None:
    exports = services_of(context).find(ExportContext)
    run = Run(UUID(export_id), JobAttempt.of(context.job))
    parent = await attempt.trace_of(exports, run) if tracing.is_on() else None
    about: dict[str, str | int] = {"export_id": export_id, "job_id": run.queue_job_id, "attempt": run.attempt}
    with telemetry.bound(**about), tracing.span("export", about, kind="CONSUMER", parent=parent):
        try:
            await attempt.perform(exports, run)
        except asyncio.CancelledError:
            await attempt.stop(exports, run, stopped_by(context))
            raise


TASKS = (tasks,)
