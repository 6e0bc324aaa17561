"""The queue's periodic task of housekeeping."""

from procrastinate import Blueprint, JobContext

from erp_service.operations.housekeeping import Housekeeping
from erp_service.queue.worker import services_of
from erp_service.registry.queues import QueueShare

QUEUE = "upkeep"
# Written into jobs that wait while versions of the service change: a worker of the version before must know it.
TASK = "exports:upkeep"

tasks = Blueprint()


@tasks.periodic(cron="* * * * *")
@tasks.task(name=TASK, queue=QUEUE, queueing_lock=TASK, pass_context=True)
async def run_housekeeping(context: JobContext, timestamp: int) -> None:
    """Every minute, by whichever worker has room."""
    services = services_of(context)
    await services.find(Housekeeping).run(services)


TASKS = (tasks,)
QUEUES = (QueueShare(QUEUE, most=1),)
