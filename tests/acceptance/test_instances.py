"""Instances of the API as real processes: each of them can answer, and each can be stopped."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from erp_service.access.roles import Role
from erp_service.db.engine import Database
from erp_service.settings import Settings
from erp_service.standalone.postgres import Cluster
from tests.acceptance.instances import Process, answers, instance, signed_in
from tests.support.users import make_user
from tests.support.waiting import eventually


@pytest.fixture
async def two(settings: Settings, tmp_path: Path) -> AsyncIterator[list[Process]]:
    async with instance(settings, tmp_path / "one.log") as one, instance(settings, tmp_path / "two.log") as two:
        yield [one, two]


@pytest.mark.parametrize("listener", ["hears", "was just cut off"])
async def test_role_that_still_works_after_it_was_taken_away(
    two: list[Process], settings: Settings, database: Database, owner: asyncpg.Connection, listener: str
) -> None:
    boss, clerk = await make_user(database, Role.SUPER_ADMIN), await make_user(database, Role.ADMIN)
    async with signed_in(two[0], settings, boss) as here, signed_in(two[1], settings, clerk) as there:
        assert (await there.get("/api/v1/users")).status_code == 200
        if listener == "was just cut off":
            await owner.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'erp notices'"
            )
        answer = await here.post(f"/api/v1/users/{clerk}/role", json={"role": "VIEWER", "reason": "left the office"})
        assert answer.is_success, answer.text

        async def refused() -> bool:
            return (await there.get("/api/v1/users")).status_code in (401, 403)

        # a role that is cached and never dropped stays good for ever
        await eventually(refused)


async def test_drain_is_seen_by_the_load_balancer_and_ended_by_a_second_signal(
    settings: Settings, tmp_path: Path
) -> None:
    async with instance(settings, tmp_path / "log", ERP_DRAIN_SECONDS="600") as process:
        process.signal(signal.SIGTERM)
        await eventually(lambda: answers(process, "/health/ready", 503))
        assert await answers(process, "/health/live"), "a draining instance still serves"
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0, "the second signal ends the drain"


async def test_drain_ends_by_itself(settings: Settings, tmp_path: Path) -> None:
    async with instance(settings, tmp_path / "log", ERP_DRAIN_SECONDS="0.5") as process:
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0


async def test_request_that_outlives_the_drain_is_told_to_go_elsewhere(
    settings: Settings, tmp_path: Path, database: Database, owner: asyncpg.Connection
) -> None:
    admin = await make_user(database, Role.ADMIN)
    limits = {"ERP_DRAIN_SECONDS": "0", "ERP_GRACE_SECONDS": "1"}
    async with instance(settings, tmp_path / "log", **limits) as process, signed_in(process, settings, admin) as client:
        async with owner.transaction():
            await owner.execute("lock table items")
            item = {"sku": "LATE", "name": "Late", "unit": "PCS"}
            asked = asyncio.create_task(client.post("/api/v1/inventory/items", json=item))
            # pg_locks, since within a transaction pg_stat_activity does not change after the first read
            waits = "select from pg_locks where not granted and relation = 'items'::regclass"
            await eventually(lambda: owner.fetch(waits))
            process.signal(signal.SIGTERM)
            answer = await asked
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
        assert answer.headers["Retry-After"]
        assert await process.ended() == 0
    assert await owner.fetchval("select count(*) from items") == 0


async def test_a_second_signal_ends_the_drain_at_once(settings: Settings, tmp_path: Path) -> None:
    async with instance(settings, tmp_path / "log", ERP_DRAIN_SECONDS="600") as process:
        process.signal(signal.SIGTERM)
        await eventually(lambda: answers(process, "/health/ready", 503))
        process.signal(signal.SIGTERM)
        assert await process.ended(seconds=20) == 0


async def test_database_away_is_503_and_back_without_a_restart(
    settings: Settings, tmp_path: Path, database: Database, cluster: Cluster
) -> None:
    user = await make_user(database, Role.VIEWER)
    await database.close()
    async with instance(settings, tmp_path / "log") as process, signed_in(process, settings, user) as client:
        assert (await client.get("/api/v1/inventory/items")).status_code == 200
        await asyncio.to_thread(cluster.stop, "immediate")
        try:
            gone = await client.get("/api/v1/inventory/items")
            assert (gone.status_code, gone.json()["type"]) == (503, "/problems/unavailable"), gone.text
            assert int(gone.headers["retry-after"]) > 0
            assert await answers(process, "/health/live")
            assert await answers(process, "/health/ready", 503)
        finally:
            await asyncio.to_thread(cluster.start)

        async def back() -> bool:
            return (await client.get("/api/v1/inventory/items")).status_code == 200

        await eventually(back)


async def test_an_instance_starts_without_a_database_and_becomes_ready_with_it(
    settings: Settings, tmp_path: Path, cluster: Cluster
) -> None:
    await asyncio.to_thread(cluster.stop, "fast")
    started = asyncio.create_task(_until_ready(settings, tmp_path / "log"))
    try:
        await eventually(lambda: _exists(tmp_path / "log"))
    finally:
        await asyncio.to_thread(cluster.start)
    assert await started


async def _until_ready(settings: Settings, log: Path) -> bool:
    async with instance(settings, log) as process:
        return await answers(process, "/health/ready")


async def _exists(path: Path) -> bool:
    return path.exists()
