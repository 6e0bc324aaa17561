"""The queue's task that makes an export."""

import asyncio
from uuid import UUID

from procrastinate import Blueprint, JobContext, RetryDecision, jobs
from procrastinate.retry import BaseRetryStrategy

from erp_service.db.outages import is_unavailable
from erp_service.exports.admission import QUEUE, TASK
from erp_service.exports.context import ExportContext
from erp_service.exports.lifecycle import Run
from erp_service.exports.run import attempt, store_failures
from erp_service.exports.run.store_failures import StoreRetry
from erp_service.observability import telemetry, tracing
from erp_service.queue.attempts import JobAttempt
from erp_service.queue.worker import services_of, stopped_by

tasks = Blueprint()

_OUTAGE_PAUSE = 2  # seconds
_MOST_RETRIES = 100


class Outages(BaseRetryStrategy):
    """Retries soon if the database was unavailable, and after growing pauses if the store was. Every other error has
    already been written into the export's own row."""

    def get_retry_decision(self, *, exception: BaseException, job: jobs.Job) -> RetryDecision | None:
        number = JobAttempt.of(job).attempt
        if isinstance(exception, StoreRetry):
            return RetryDecision(retry_in={"seconds": store_failures.pause(number)})
        if is_unavailable(exception) and number <= _MOST_RETRIES:
            return RetryDecision(retry_in={"seconds": _OUTAGE_PAUSE})
        return None


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
