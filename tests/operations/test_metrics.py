"""The metrics of an instance and of the cluster."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest
from litestar import Litestar

from erp_service.db.engine import Database
from erp_service.db.sessions import Session
from erp_service.features import FEATURES
from erp_service.operations.cluster_metrics import ClusterMetrics
from erp_service.registry.feature import load
from erp_service.registry.figures import FigureReader
from erp_service.settings import Settings
from tests.acceptance.instances import free_port, worker
from tests.operations.scrapes import scraped
from tests.support.apps import services_of
from tests.support.waiting import eventually


@pytest.fixture
def app(app: Litestar) -> Litestar:
    """A reader that reads the database again at each scrape, however soon."""
    services = services_of(app)
    figures = ClusterMetrics(services.probes, load(FEATURES, "figures", FigureReader), fresh_seconds=0.0)
    app.state["services"] = msgspec.structs.replace(services, cluster_metrics=figures)
    return app


async def test_cluster_is_shown_by_every_instance(client: httpx.AsyncClient, viewer: httpx.AsyncClient) -> None:
    before = await scraped(client)
    assert (before["erp_database_up"], before["erp_queue_jobs_waiting"], before["erp_workers"]) == (1, 0, 0)
    await viewer.post("/api/v1/exports/jobs", json={"dataset": "items"})
    after = await scraped(client)
    assert (after["erp_queue_jobs_waiting"], after["erp_exports_running"]) == (1, 0)
    assert after["erp_pool_connections"] >= after["erp_pool_connections_in_use"]
    assert after["erp_exports_oldest_waiting_seconds"] > 0


async def test_requests_are_counted_by_template_and_never_by_path(
    client: httpx.AsyncClient, viewer: httpx.AsyncClient
) -> None:
    await viewer.get("/api/v1/inventory/items/4711")
    body = (await client.get("/metrics")).text
    routes = set(re.findall(r'route="([^"]*)"', body))
    assert "/api/v1/inventory/items/{item_id}" in routes
    assert not any("4711" in route for route in routes)
    assert "_created{" not in body


async def test_database_that_is_away_leaves_no_old_figures(
    client: httpx.AsyncClient, app: Litestar, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "erp_workers" in await scraped(client)

    @contextlib.asynccontextmanager
    async def away() -> AsyncIterator[None]:
        raise ConnectionError("the database cannot be reached")
        yield

    monkeypatch.setattr(services_of(app).probes, "read", away)
    found = await scraped(client)
    assert found["erp_database_up"] == 0
    assert "erp_workers" not in found


async def test_many_scrapes_cost_the_database_one_look(database: Database) -> None:
    looks = 0

    async def counted(_db: Session) -> dict[str, float]:
        nonlocal looks
        looks += 1
        return {}

    cluster = ClusterMetrics(database, [FigureReader({}, counted)], fresh_seconds=60.0)
    await asyncio.gather(*(cluster.refresh() for _ in range(100)))
    assert looks == 1


async def test_worker_tells_of_its_exports(
    settings: Settings, tmp_path: Path, client: httpx.AsyncClient, viewer: httpx.AsyncClient
) -> None:
    port = free_port()
    async with worker(settings, tmp_path / "log", ERP_METRICS_PORT=str(port)), httpx.AsyncClient() as stranger:

        async def alive() -> bool:
            return (await scraped(client))["erp_workers"] == 1

        await eventually(alive)
        await viewer.post("/api/v1/exports/jobs", json={"dataset": "items"})
        ended = 'erp_exports_ended_total{dataset="items",format="csv",status="succeeded"} 1.0'

        async def counted() -> bool:
            return ended in (await stranger.get(f"http://127.0.0.1:{port}/metrics")).text

        await eventually(counted)
