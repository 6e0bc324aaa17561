"""What every worker looks after beside its jobs, not as one of them: one that is full of long exports still ticks."""

import asyncio

from erp_service.exports import ticks, upkeep
from erp_service.exports.running import Resources, is_outage
from erp_service.telemetry import log

LOOK_SECONDS = 1.0

_LOST_SECONDS = 30  # a database that hangs without closing is a lost one


async def keep(resources: Resources) -> None:
    """Run the schedules that are due, and end the exports whose job has ended, for ever.

    No outage ends it, and what cannot be done now holds up nothing else."""
    while True:
        for look in (ticks.run_due, upkeep.abandon_ended):
            try:
                async with asyncio.timeout(_LOST_SECONDS):
                    await look(resources)
            except Exception as exc:  # noqa: BLE001 whatever it is, the next look may do better
                if is_outage(exc):
                    log.warning("the database is away, looking again", error=repr(exc))
                else:
                    log.exception("what a worker does beside its jobs failed, trying again")
        await asyncio.sleep(LOOK_SECONDS)
