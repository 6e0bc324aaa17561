"""The queue's tasks of exports. The worker gives `Resources` as `additional_context={"resources": ...}`."""

import asyncio
from uuid import UUID

from procrastinate import Blueprint, JobContext, RetryDecision, jobs
from procrastinate.retry import BaseRetryStrategy

from erp_service import telemetry, tracing
from erp_service.exports import running, store_outage, upkeep
from erp_service.exports.admission import QUEUE as QUEUE
from erp_service.exports.admission import SMALL_QUEUE as SMALL_QUEUE
from erp_service.exports.admission import TASK
from erp_service.exports.lifecycle import Run
from erp_service.exports.running import Resources as Resources
from erp_service.exports.store_outage import StoreAway
from erp_service.queue.hardened import stopped_by

tasks = Blueprint()

UPKEEP_QUEUE = "upkeep"

_OUTAGE_PAUSE = 2  # seconds
_MOST_ATTEMPTS = 100


class Outages(BaseRetryStrategy):
    """The database was away: again in a moment; the store, more and more seldom. All else has ended in the export's own
    row already."""

    def get_retry_decision(self, *, exception: BaseException, job: jobs.Job) -> RetryDecision | None:
        if isinstance(exception, StoreAway):
            return RetryDecision(retry_in={"seconds": store_outage.pause(job.attempts)})
        if running.is_outage(exception) and job.attempts < _MOST_ATTEMPTS:
            return RetryDecision(retry_in={"seconds": _OUTAGE_PAUSE})
        return None


@tasks.task(name=TASK, queue=QUEUE, pass_context=True, retry=Outages())
async def run_export(context: JobContext, export_id: str) -> None:
    job = context.job
    if job.id is None:
        raise ValueError("only a job of the queue can run an export")
    resources: Resources = context.additional_context["resources"]
    run = Run(UUID(export_id), job.id, job.attempts + 1)
    parent = await running.trace_of(resources, run) if tracing.is_on() else None
    about: dict[str, str | int] = {"export_id": export_id, "job_id": job.id, "attempt": run.attempt}
    with telemetry.bound(**about), tracing.span("export", about, kind="CONSUMER", parent=parent):
        try:
            await running.perform(resources, run)
        except asyncio.CancelledError:
            await running.stopped(resources, run, stopped_by(context))
            raise


@tasks.periodic(cron="* * * * *")
@tasks.task(name="exports:upkeep", queue=UPKEEP_QUEUE, queueing_lock="exports:upkeep", pass_context=True)
async def run_upkeep(context: JobContext, timestamp: int) -> None:
    """Every minute, by whichever worker has room."""
    await upkeep.run(context.additional_context["resources"])
