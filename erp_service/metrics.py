"""What Prometheus reads: each process's own counters, and the whole cluster's queue as its database knows it."""

import asyncio
from collections.abc import Iterator
from time import monotonic
from typing import NamedTuple

import asyncpg
from litestar.datastructures import State
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from erp_service import telemetry
from erp_service.db import Database
from erp_service.exports import overview
from erp_service.queue import overview as queue
from erp_service.routing import PUBLIC, Answer, get

MEDIA_TYPE = "text/plain; version=0.0.4"  # the framework adds the charset
FRESH_SECONDS = 2.0
"""So long one look serves every scrape: who asks a hundred times a second costs the database nothing more."""

_ANSWER_SECONDS = 3.0


class Figures(NamedTuple):
    """Of the whole cluster, the same from every instance: take the maximum, not the sum. Ages are in seconds."""

    workers: int
    draining: int
    waiting: int
    oldest_waiting: float
    running_exports: int
    waiting_exports: int
    oldest_export: float
    failed_jobs: int


_MEANINGS = {
    "workers": ("erp_workers", "Workers that hold their lock"),
    "draining": ("erp_workers_draining", "Of them, those that take no new job"),
    "waiting": ("erp_queue_jobs_waiting", "Jobs that could begin if a worker had room"),
    "oldest_waiting": ("erp_queue_oldest_waiting_seconds", "For how long the first of these waits"),
    "running_exports": ("erp_exports_running", "Exports in hand"),
    "waiting_exports": ("erp_exports_waiting", "Exports that wait for admission: their owners have their share"),
    "oldest_export": ("erp_exports_oldest_waiting_seconds", "For how long the first export has not begun"),
    "failed_jobs": ("erp_queue_jobs_failed", "Jobs given up in the last seven days"),
}


class Cluster(Collector):
    """The figures as they were last read; none at all while the database is away, since an old one misleads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._figures: Figures | None = None
        self._read_at = -FRESH_SECONDS
        self._reading = asyncio.Lock()

    async def refresh(self) -> None:
        async with self._reading:
            if monotonic() - self._read_at < FRESH_SECONDS:
                return
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    self._figures = await _figures(self._database)
            except (SQLAlchemyError, OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                self._figures = None
            self._read_at = monotonic()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield GaugeMetricFamily("erp_database_up", "1 while the database answers", int(self._figures is not None))
        if self._figures is not None:
            for field, value in self._figures._asdict().items():
                name, meaning = _MEANINGS[field]
                yield GaugeMetricFamily(name, meaning, value)


async def _figures(database: Database) -> Figures:
    async with database.read() as db:
        workers = [worker for worker in await queue.workers(db) if worker.holds_lock]
        waiting, oldest = await queue.waiting(db)
        exports = await overview.counts(db)
        depths = await queue.depths(db)
    return Figures(
        workers=len(workers),
        draining=sum(worker.draining for worker in workers),
        waiting=waiting,
        oldest_waiting=oldest or 0.0,
        running_exports=exports.running,
        waiting_exports=exports.waiting,
        oldest_export=max(exports.oldest or 0.0, 0.0),
        failed_jobs=sum(depth.jobs for depth in depths if depth.status == "failed"),
    )


@get("/metrics", role=PUBLIC, include_in_schema=False)
async def metrics(state: State) -> Answer[bytes]:
    """Of this instance, then of the cluster. Meant for the network that Prometheus is in: balancers keep it to that."""
    pool = state.database.pool()
    telemetry.pool_in_use.set(pool["in_use"])
    telemetry.pool_size.set(pool["size"])
    # whoever asks for it first begins to look at the replica, whose gauges are then kept
    state.database.replica()
    cluster: Cluster = state.cluster
    await cluster.refresh()
    of_cluster = CollectorRegistry()
    of_cluster.register(cluster)
    return Answer(generate_latest(telemetry.REGISTRY) + generate_latest(of_cluster), media_type=MEDIA_TYPE)


ROUTES = [metrics]
