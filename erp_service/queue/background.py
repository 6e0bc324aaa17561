"""What each worker runs of the features beside its jobs: their steps in one loop, and their own loops."""

import asyncio
from collections.abc import Sequence
from time import monotonic

from erp_service.db.backoff import Backoff
from erp_service.db.outages import is_unavailable
from erp_service.observability.telemetry import log
from erp_service.registry.background import BackgroundLoop, BackgroundStep
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
                _report(step.name, exc)
        await asyncio.sleep(pause)


async def run_all(services: ServiceSet, steps: Sequence[BackgroundStep], loops: Sequence[BackgroundLoop]) -> None:
    """Run the steps and each loop at the same time, for ever."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(run_background(services, steps), name="background steps")
        for loop in loops:
            tasks.create_task(_run_loop(services, loop), name=loop.name)


async def _run_loop(services: ServiceSet, loop: BackgroundLoop) -> None:
    pauses = Backoff(0.1, LOOK_SECONDS)
    while True:
        start = monotonic()
        try:
            await loop.run(services)
        except Exception as exc:  # noqa: BLE001 whatever it is, the next attempt may succeed
            _report(loop.name, exc)
        if monotonic() - start > _STEP_SECONDS:
            pauses.reset()
        await asyncio.sleep(pauses.next())


def _report(name: str, exc: Exception) -> None:
    if is_unavailable(exc):
        log.warning("the database is unavailable, trying again", step=name, error=exc)
    else:
        log.exception("a background step failed, trying again", step=name)
