"""A process that does nothing but seal, as each worker does: `python -m tests.audit.sealing_process`."""

import asyncio

from erp_service.audit.sealing.background import LOOPS
from erp_service.observability import telemetry
from erp_service.queue.background import run_all
from erp_service.settings import load
from erp_service.worker_services import build_worker_services


async def _run() -> None:
    await run_all(build_worker_services(load()), [], LOOPS)


if __name__ == "__main__":
    telemetry.configure(load())
    asyncio.run(_run())
