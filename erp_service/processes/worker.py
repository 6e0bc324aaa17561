"""What `erp worker` runs: one worker process, which at its start waits for what it needs instead of failing."""

import asyncio
from functools import partial

import uvloop
from procrastinate import Blueprint

from erp_service.company.environment import warn_of_ignored
from erp_service.db import revisions
from erp_service.db.connections import wait_and_tell
from erp_service.db.engine import Database
from erp_service.db.outages import is_unavailable
from erp_service.exports.storage.registry import open_store, store_fault
from erp_service.features import FEATURES
from erp_service.observability import telemetry, tracing
from erp_service.queue.background import run_all
from erp_service.queue.connector import WorkerConnector
from erp_service.queue.rescue import Timeouts
from erp_service.queue.worker import HardenedApp, WorkerFailed
from erp_service.registry.background import BackgroundLoop, BackgroundStep
from erp_service.registry.feature import load
from erp_service.registry.queues import QueueShare
from erp_service.settings import Settings
from erp_service.worker_services import WorkerServices, build_worker_services

_CHECK_SECONDS = 2.0  # between two checks whether the database is migrated


def build(settings: Settings) -> HardenedApp:
    """The Procrastinate app of a worker process, for `procrastinate --app`. Connects to nothing until it is opened."""
    return build_app(settings, build_worker_services(settings))


def build_app(settings: Settings, services: WorkerServices) -> HardenedApp:
    """The same with services that the caller built and closes. Has the tasks and background steps of every feature."""
    # at least two, so that a small export need not wait for a large one, and one more for housekeeping; jobs in slots
    # of their own mostly wait, and need few connections
    shared = max(2, settings.worker_concurrency) + 1
    shares = load(FEATURES, "queues", QueueShare)
    slots = shared + sum(share.own for share in shares)
    app = HardenedApp(
        connector=WorkerConnector(settings.listen_url, pool_size=shared + 4),
        timeouts=Timeouts(heartbeat=settings.heartbeat_seconds, stalled=settings.stalled_seconds),
        concurrency=slots,
        grace_seconds=settings.grace_seconds,
        at_most={share.name: share.of(shared) for share in shares},
        own={share.name: share.own for share in shares if share.own},
        background=partial(
            run_all,
            services,
            load(FEATURES, "background", BackgroundStep),
            load(FEATURES, "loops", BackgroundLoop),
        ),
        services=services,
    )
    app.gather(*load(FEATURES, "tasks", Blueprint))
    return app


def work(settings: Settings, wait_seconds: float) -> int:
    """Work until a signal stops it. Returns the exit status: 0 after a drain, 1 if a part of the worker failed."""
    telemetry.configure(settings)
    tracing.configure(settings, "worker")
    warn_of_ignored()
    # measured: one COPY takes 13 to 32 % less time on this loop than on the standard one
    return uvloop.run(_work(settings, wait_seconds))


async def _work(settings: Settings, wait_seconds: float) -> int:
    telemetry.serve_metrics(settings)
    await _wait_for_database(settings, wait_seconds)
    await _wait_until_ready(settings)
    services = build_worker_services(settings)
    app = build_app(settings, services)
    try:
        async with app.open_async():
            await app.run_worker_async()
    except WorkerFailed:
        return 1
    finally:
        await services.close()
    return 0


async def _wait_for_database(settings: Settings, seconds: float) -> None:
    """Says at once that the database does not answer, and for how long it is tried."""

    def tell(exc: BaseException) -> None:
        telemetry.log.warning("waiting", fault="The database does not answer.", error=exc, seconds=seconds)

    await wait_and_tell(settings.listen_url, tell, seconds=seconds)


async def _wait_until_ready(settings: Settings) -> None:
    """Return when the database is migrated and the store is the right one: with another, a worker would only take jobs
    and give them back."""
    database, store = Database(settings, name="erp worker start"), open_store(settings)
    try:
        reported = None
        while True:
            try:
                async with database.read() as db:
                    fault = await revisions.behind(db) or await store_fault(db, database, store)
            except Exception as exc:
                if not is_unavailable(exc):
                    raise
                fault = "The database does not answer."
            if fault is None:
                return
            if fault != reported:
                telemetry.log.warning("waiting", fault=fault)
                reported = fault
            await asyncio.sleep(_CHECK_SECONDS)
    finally:
        await store.close()
        await database.close()
