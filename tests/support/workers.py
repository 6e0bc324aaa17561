"""Workers in the test's own process, composed by production's own builders."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec

from erp_service.processes.worker import build_app
from erp_service.services import WorkerServices, build_worker_services
from erp_service.settings import Settings

EXPORT_QUEUES = ["exports", "exports-small"]

Work = Callable[..., AbstractAsyncContextManager[WorkerServices]]
"""`async with work():` runs one worker on the queues of exports; the parameters are those of `working`."""


@contextlib.asynccontextmanager
async def working(settings: Settings, *, grace_seconds: float = 10, **exports: Any) -> AsyncIterator[WorkerServices]:
    """One worker on the queues of exports. Further arguments replace fields of its ExportContext, such as `store`.

    Yields what it is composed of."""
    services = build_worker_services(msgspec.structs.replace(settings, grace_seconds=grace_seconds))
    services = msgspec.structs.replace(services, exports=msgspec.structs.replace(services.exports, **exports))
    app = build_app(services.settings, services)
    async with app.open_async():
        task = asyncio.create_task(app.run_worker_async(queues=EXPORT_QUEUES, install_signal_handlers=False))
        try:
            yield services
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await services.close()
