"""The loop in which each worker runs the background steps of the features, beside its jobs."""

import asyncio
from collections.abc import Sequence

from erp_service.db.outages import is_unavailable
from erp_service.observability.telemetry import log
from erp_service.registry.background import BackgroundStep
from erp_service.registry.services import ServiceSet

LOOK_SECONDS = 1.0

_STEP_SECONDS = 30  # a step that takes longer waits for a database that hangs


async def run_background(services: ServiceSet, steps: Sequence[BackgroundStep], *, pause: float = LOOK_SECONDS) -> None:
    """Run all steps about once a second, for ever. It survives outages, and a step that fails does not stop others."""
    while True:
        for step in steps:
            try:
                async with asyncio.timeout(_STEP_SECONDS):
                    await step.run(services)
            except Exception as exc:  # noqa: BLE001 whatever it is, the next round may succeed
                if is_unavailable(exc):
                    log.warning("the database is unavailable, trying again", step=step.name, error=exc)
                else:
                    log.exception("a background step failed, trying again", step=step.name)
        await asyncio.sleep(pause)
