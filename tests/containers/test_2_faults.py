"""Instances, workers and the database that go away without a word, while patient clients go on."""

import asyncio
import os
import signal

import httpx

from tests.containers.books import Say, final, proven
from tests.containers.clients import JOBS, Load
from tests.containers.stack import Stack, timed
from tests.support.waiting import eventually


async def test_killed_instance_loses_and_doubles_nothing(
    stack: Stack, token: str, seen: Say, file: tuple[str, str]
) -> None:
    load = Load(stack.url, token, patient=True, file=file)
    async with load.going_on():
        await asyncio.sleep(2)
        (first, *_) = await stack.containers("api")
        killed = (await stack.inspect(first))["State"]["Pid"]
        await stack.kill(first)

        async def back() -> bool:
            now = await stack.inspect(first)
            return bool(now["State"]["Running"]) and now["State"]["Pid"] != killed

        await eventually(back, seconds=60)
        await asyncio.sleep(5)
    seen(await proven(stack, load))
    assert load.counts["POST answered"] > 50


async def test_killed_worker_has_its_export_done_by_another(stack: Stack, client: httpx.AsyncClient, seen: Say) -> None:
    addresses: dict[str, int] = {}
    for name in await stack.containers("worker"):
        told = await stack.inspect(name)
        addresses |= {net["IPAddress"]: told["State"]["Pid"] for net in told["NetworkSettings"]["Networks"].values()}
    answer = await client.post(JOBS, json={"dataset": "stock_movements", "sort": "-id", "force_new": True})
    job_id = answer.json()["id"]

    async def holder() -> str:
        return await stack.sql(
            "select host(client_addr) from pg_stat_progress_copy join pg_stat_activity using (pid) limit 1"
        )

    process = addresses[await eventually(holder)]
    async with timed() as took:
        os.kill(process, signal.SIGKILL)
        job = await final(client, job_id)
    assert job["status"] == "succeeded"
    assert job["attempt"] == 2
    assert (await client.get(f"{JOBS}/{job_id}/download")).status_code == 200
    seen(f"killed in the middle of a COPY, done by another {took[0]:.1f} s later")


async def test_database_away_for_ten_seconds_loses_and_doubles_nothing(
    stack: Stack, token: str, client: httpx.AsyncClient, seen: Say, file: tuple[str, str]
) -> None:
    answer = await client.post(JOBS, json={"dataset": "stock_movements", "sort": "-id", "force_new": True})
    assert answer.status_code == 202, answer.text
    load = Load(stack.url, token, patient=True, file=file)
    (db,) = await stack.containers("db")
    async with load.going_on():
        await asyncio.sleep(1)
        await stack.run("podman", "stop", "--time", "60", db)
        await asyncio.sleep(10)
        assert await stack.answers("/health/live"), "liveness must not need the database"
        assert not await stack.answers("/health/ready")
        await stack.run("podman", "start", db)
        async with timed() as took:
            await eventually(stack.answers, seconds=60)
        await asyncio.sleep(3)
    job = await final(client, answer.json()["id"])
    assert job["status"] == "succeeded"
    seen(f"ready {took[0]:.1f} s after the database was started; the export that it met took {job['attempt']} attempts")
    seen(await proven(stack, load))
