"""The queue's task that makes an export."""

import asyncio
from uuid import UUID

from procrastinate import Blueprint, JobContext, RetryDecision, jobs
from procrastinate.retry import BaseRetryStrategy

from erp_service.db.outages import is_outage
from erp_service.exports.admission import QUEUE, TASK
from erp_service.exports.context import ExportContext
from erp_service.exports.lifecycle import Run
from erp_service.exports.run import attempt, store_failures
from erp_service.exports.run.store_failures import StoreAway
from erp_service.observability import telemetry, tracing
from erp_service.queue.fencing import JobAttempt
from erp_service.queue.worker import services_of, stopped_by

tasks = Blueprint()

_OUTAGE_PAUSE = 2  # seconds
_MOST_RETRIES = 100


class Outages(BaseRetryStrategy):
    """The database was away: again in a moment; the store, more and more seldom. All else has ended in the export's own
    row already."""

    def get_retry_decision(self, *, exception: BaseException, job: jobs.Job) -> RetryDecision | None:
        attempt = JobAttempt.of(job).attempt
        if isinstance(exception, StoreAway):
            return RetryDecision(retry_in={"seconds": store_failures.pause(attempt)})
        if is_outage(exception) and attempt <= _MOST_RETRIES:
            return RetryDecision(retry_in={"seconds": _OUTAGE_PAUSE})
        return None


@tasks.task(name=TASK, queue=QUEUE, pass_context=True, retry=Outages())
async def run_export(context: JobContext, export_id: str) -> None:
    resources = services_of(context).find(ExportContext)
    run = Run(UUID(export_id), JobAttempt.of(context.job))
    parent = await attempt.trace_of(resources, run) if tracing.is_on() else None
    about: dict[str, str | int] = {"export_id": export_id, "job_id": run.queue_job_id, "attempt": run.attempt}
    with telemetry.bound(**about), tracing.span("export", about, kind="CONSUMER", parent=parent):
        try:
            await attempt.perform(resources, run)
        except asyncio.CancelledError:
            await attempt.stopped(resources, run, stopped_by(context))
            raise


TASKS = (tasks,)
