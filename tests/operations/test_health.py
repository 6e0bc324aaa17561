"""Readiness, while the instance is busy."""

import asyncio

import httpx
import msgspec
import pytest
from litestar import Litestar

from erp_service.app import create_app
from erp_service.db.sessions import ReadSession
from erp_service.operations.readiness import Readiness
from erp_service.services import build_services
from erp_service.settings import Settings
from tests.support.apps import running, services_of
from tests.support.clients import client_of
from tests.support.waiting import eventually


async def test_instance_with_all_its_connections_in_use_stays_ready(settings: Settings) -> None:
    """If the balancer removed a busy instance, the others would become as busy, until none is left."""
    app = create_app(build_services(msgspec.structs.replace(settings, pool_size=1, pool_timeout_seconds=60)))
    async with running(app), client_of(app) as probe, services_of(app).database.read():
        # a probe that used the pool of the requests would wait for 60 s
        async with asyncio.timeout(30):
            assert (await probe.get("/health/ready")).status_code == 200
            assert "erp_database_up 1.0" in (await probe.get("/metrics")).text
        assert services_of(app).database.pool() == {"size": 1, "in_use": 1}


async def test_flood_of_probes_costs_one_look(
    app: Litestar, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    readiness = services_of(app).readiness
    looks = asked = 0
    gate = asyncio.Event()

    async def look(_db: ReadSession) -> str | None:
        nonlocal looks
        looks += 1
        await gate.wait()
        return None

    async def fault() -> str | None:
        nonlocal asked
        asked += 1
        return await Readiness.fault(readiness)

    monkeypatch.setattr(readiness, "checks", [look])
    monkeypatch.setattr(readiness, "fault", fault)

    async def all_wait() -> bool:
        return asked == len(probes) and looks == 1

    probes = [asyncio.create_task(client.get("/health/ready")) for _ in range(20)]
    await eventually(all_wait)
    probes[0].cancel()
    gate.set()
    _, *patient = await asyncio.gather(*probes, return_exceptions=True)
    assert [probe for probe in patient if not isinstance(probe, httpx.Response) or probe.status_code != 200] == [], (
        "who asked first may go"
    )
    assert looks == 1
