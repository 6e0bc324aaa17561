"""What balancers are told, whatever the instance has to do beside."""

import asyncio

import httpx
import msgspec
import pytest
from litestar import Litestar

from erp_service.app import create_app
from erp_service.db.sessions import ReadSession
from erp_service.services import build_services
from erp_service.settings import Settings
from tests.support.apps import running, services_of
from tests.support.clients import client_of


async def test_instance_with_all_its_connections_in_use_stays_ready(settings: Settings) -> None:
    """A balancer that took out the busy one would have the others as busy next, until none is left."""
    app = create_app(build_services(msgspec.structs.replace(settings, pool_size=1, pool_timeout_seconds=60)))
    async with running(app), client_of(app) as probe, services_of(app).database.read():
        async with asyncio.timeout(2):
            assert (await probe.get("/health/ready")).status_code == 200
            assert "erp_database_up 1.0" in (await probe.get("/metrics")).text
        assert services_of(app).database.pool() == {"size": 1, "in_use": 1}


async def test_flood_of_probes_costs_one_look(
    app: Litestar, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = at_once = 0

    async def look(_db: ReadSession) -> str | None:
        nonlocal looks, at_once
        looks, at_once = looks + 1, at_once + 1
        await asyncio.sleep(0.05)
        assert at_once == 1
        at_once -= 1
        return None

    monkeypatch.setattr(services_of(app).readiness, "checks", [look])
    answers = await asyncio.gather(*(client.get("/health/ready") for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert looks <= 5
    impatient = asyncio.create_task(client.get("/health/ready"))
    patient = asyncio.create_task(client.get("/health/ready"))
    await asyncio.sleep(0.01)
    impatient.cancel()
    assert (await patient).status_code == 200, "who asked first may go"
