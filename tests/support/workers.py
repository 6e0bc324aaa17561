"""Workers in the test's own process, composed by production's own builders."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec

from erp_service.processes.worker import build_app
from erp_service.settings import Settings
from erp_service.worker_services import WorkerServices, build_worker_services
from tests.support.settings import as_role

EXPORT_QUEUES = ["exports", "exports-small"]
POLL_SECONDS = 5.0  # production's, which is Procrastinate's own

Work = Callable[..., AbstractAsyncContextManager[WorkerServices]]
"""`async with work():` runs one worker; the parameters are those of `working`."""


@contextlib.asynccontextmanager
async def working(
    settings: Settings,
    *,
    grace_seconds: float = 10,
    queues: Sequence[str] | None = EXPORT_QUEUES,
    poll_seconds: float = POLL_SECONDS,
    **exports: Any,
) -> AsyncIterator[WorkerServices]:
    """One worker, on all queues if these are None; yields what it is composed of.

    Further arguments replace fields of its ExportContext, such as `store`."""
    settings = msgspec.structs.replace(as_role(settings, "erp_worker"), grace_seconds=grace_seconds)
    services = build_worker_services(settings)
    services = msgspec.structs.replace(services, exports=msgspec.structs.replace(services.exports, **exports))
    app = build_app(services.settings, services)
    async with app.open_async():
        options: dict[str, Any] = {} if queues is None else {"queues": queues}
        run = app.run_worker_async(install_signal_handlers=False, fetch_job_polling_interval=poll_seconds, **options)
        task = asyncio.create_task(run)
        try:
            yield services
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await services.close()
