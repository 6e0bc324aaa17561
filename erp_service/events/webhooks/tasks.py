"""The queue's task that delivers to one endpoint."""

from uuid import UUID

from procrastinate import Blueprint, JobContext, RetryDecision, jobs
from procrastinate.retry import BaseRetryStrategy

from erp_service.db.outages import is_unavailable
from erp_service.events.webhooks import delivery
from erp_service.events.webhooks.context import WebhookContext
from erp_service.events.webhooks.lifecycle import QUEUE, TASK, Run
from erp_service.observability import telemetry
from erp_service.queue.attempts import JobAttempt
from erp_service.queue.worker import services_of
from erp_service.registry.queues import QueueShare

SLOTS = 8
"""Endpoints that one worker delivers to at once. They mostly wait, and hold no connection to the database meanwhile."""

_OUTAGE_PAUSE = 2  # seconds
_MOST_RETRIES = 100

tasks = Blueprint()


class Outages(BaseRetryStrategy):
    """Retries if the database was unavailable. What the endpoint did is in its own row."""

    def get_retry_decision(self, *, exception: BaseException, job: jobs.Job) -> RetryDecision | None:
        if is_unavailable(exception) and JobAttempt.of(job).attempt <= _MOST_RETRIES:
            return RetryDecision(retry_in={"seconds": _OUTAGE_PAUSE})
        return None


@tasks.task(name=TASK, queue=QUEUE, pass_context=True, retry=Outages())
async def deliver(context: JobContext, webhook_id: str) -> None:
    run = Run(UUID(webhook_id), JobAttempt.of(context.job))
    with telemetry.bound(webhook_id=webhook_id, job_id=run.job.job_id, attempt=run.job.attempt):
        await delivery.deliver(services_of(context).find(WebhookContext), run)


TASKS = (tasks,)
QUEUES = (QueueShare(QUEUE, own=SLOTS),)
