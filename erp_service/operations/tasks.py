"""The periodic task that runs the housekeeping."""

from procrastinate import Blueprint, JobContext

from erp_service.operations.housekeeping import Housekeeping
from erp_service.queue.worker import services_of
from erp_service.registry.queues import QueueShare

# The names are older than this package: jobs that wait during a rolling upgrade carry them, and workers of the previous
# version must know them.
QUEUE = "upkeep"
TASK = "exports:upkeep"

tasks = Blueprint()


@tasks.periodic(cron="* * * * *")
@tasks.task(name=TASK, queue=QUEUE, queueing_lock=TASK, pass_context=True)
async def run_housekeeping(context: JobContext, timestamp: int) -> None:
    """Every minute, on any worker with a free slot. The queueing lock lets at most one such job wait."""
    services = services_of(context)
    await services.find(Housekeeping).run(services)


TASKS = (tasks,)
QUEUES = (QueueShare(QUEUE, most=1),)
