"""The loop in which each worker does what is not a job: the features say what, as `background`."""

import asyncio
from collections.abc import Sequence

from erp_service.db.outages import is_unavailable
from erp_service.observability.telemetry import log
from erp_service.registry.background import BackgroundStep
from erp_service.registry.services import ServiceSet

LOOK_SECONDS = 1.0

_LOST_SECONDS = 30  # a database that hangs without closing is a lost one


async def run_background(services: ServiceSet, steps: Sequence[BackgroundStep]) -> None:
    """Run all steps, about once a second, for ever. No outage ends it, and no step that fails holds up another."""
    while True:
        for step in steps:
            try:
                async with asyncio.timeout(_LOST_SECONDS):
                    await step.run(services)
            except Exception as exc:  # noqa: BLE001 whatever it is, the next look may do better
                if is_unavailable(exc):
                    log.warning("the database is unavailable, trying again", step=step.name, error=repr(exc))
                else:
                    log.exception("a background step failed, trying again", step=step.name)
        await asyncio.sleep(LOOK_SECONDS)
