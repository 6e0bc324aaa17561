"""Hosts that vanish from the network without a word, as by a lost cable or lost power, and come back: packets are lost,
and nothing is closed."""

import asyncio
import hashlib
from time import monotonic

import httpx

from tests.containers.books import Say, exported, final, proven
from tests.containers.clients import JOBS, STOCK, Load
from tests.containers.silence import address, silent
from tests.containers.stack import PASSWORD, Stack, percentile
from tests.support.waiting import eventually

STALLED = 15
"""Seconds: the default of ERP_STALLED_SECONDS."""

FRESH = "select count(*) from procrastinate_workers where last_heartbeat > now() - interval '6 seconds'"


async def test_worker_that_vanished_has_its_export_done_by_another_and_lives_on(
    stack: Stack, client: httpx.AsyncClient, seen: Say
) -> None:
    workers = {await address(stack, name, "back"): name for name in await stack.containers("worker")}
    answer = await client.post(JOBS, json={"dataset": "stock_movements", "sort": "-id", "force_new": True})
    job_id = answer.json()["id"]

    async def copying() -> str:
        return await stack.sql(
            "select host(client_addr) from pg_stat_progress_copy join pg_stat_activity using (pid) limit 1"
        )

    lost = await eventually(copying)

    async def freed() -> bool:
        """All but the COPY itself, which may have to wait for a slow store, and is given up after two minutes."""
        return await stack.sql(
            f"select count(*) from pg_stat_activity where client_addr = '{lost}' and application_name <> 'erp export'"
        ) == "0"  # fmt: skip

    began = monotonic()
    async with silent(stack, lost):
        job = await final(client, job_id)
        done = monotonic() - began
        await eventually(freed, seconds=45)
        seen(f"silence in the middle of a COPY: done by another {done:.1f} s later")
        seen(f"the server had given up the sessions of the lost worker after {monotonic() - began:.0f} s")
    assert (job["status"], job["attempt"]) == ("succeeded", 2)
    assert done < STALLED + 20

    began = monotonic()

    async def back() -> bool:
        return await stack.sql(FRESH) == "2" and "is no longer ours" in await said(stack, workers[lost])

    await eventually(back, seconds=30)
    seen(f"the lost worker was back {monotonic() - began:.1f} s after its network, and its old result was dropped")
    # nobody else can take this one
    async with silent(stack, *(workers.keys() - {lost})):
        await exported(client, dataset="stock_movements")
    assert (await client.get(f"{JOBS}/{job_id}")).json() == job
    whole = (await client.get(f"{JOBS}/{job_id}/download")).content
    assert hashlib.sha256(whole).hexdigest() == job["result"]["sha256"]
    files = await stack.inside(workers[lost], "find", "/var/lib/erp/exports", "-name", f"*{job_id}*")
    assert [file.rpartition("/")[2] for file in files.split()] == [f"{job_id}.2.csv"]


async def said(stack: Stack, container: str) -> str:
    return await stack.run("sh", "-c", f"podman logs --since 120s {container} 2>&1")


async def test_instance_without_its_database_is_left_and_taken_back(
    stack: Stack, token: str, client: httpx.AsyncClient, seen: Say
) -> None:
    (cut, *_) = await stack.containers("api")
    database, front = await address(stack, cut, "back"), await address(stack, cut, "front")
    user = {"email": "reader@example.com", "password": PASSWORD, "full_name": "Reads", "role": "STAFF"}
    user_id = (await client.post("/api/v1/users", json=user)).json()["id"]
    load = Load(stack.url, token, patient=True)
    async with (
        httpx.AsyncClient(base_url=f"http://{front}:8000", timeout=30) as direct,
        load.going_on(),
    ):

        async def sign_in() -> None:
            signed_in = {"username": user["email"], "password": PASSWORD}
            answer = await client.post("/api/v1/auth/login", data=signed_in)
            direct.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

        async def may() -> int:
            return (await direct.get("/api/v1/auth/me")).status_code

        async def ready() -> bool:
            return (await direct.get("/health/ready")).status_code == 200

        async def role(name: str) -> None:
            change = {"role": name, "reason": "as the test says"}
            assert (await load.call(client, "POST", f"/api/v1/users/{user_id}/role", json=change)) is not None

        await sign_in()
        assert await may() == 200
        began = monotonic()
        async with silent(stack, database):
            assert not await ready()
            seen(f"silence from its database: said not to be ready after {monotonic() - began:.1f} s")
            await asyncio.sleep(began + 14 - monotonic())
            # by now the balancer has left it, and what was under way there has ended
            asked, slow = load.counts["asked again"], len(load.seconds)
            await role("VIEWER")
            await asyncio.sleep(2)
            assert load.counts["asked again"] == asked
            assert percentile(load.seconds[slow:], 0.9) < 3
        began = monotonic()
        assert await may() in (401, 503), "what was granted by a role that went meanwhile must not hold for a moment"
        await eventually(ready, seconds=20)
        seen(f"ready again {monotonic() - began:.1f} s after its network")
        assert await may() == 401

        async def hears() -> bool:
            told = await direct.get("/health/database", headers={"Authorization": f"Bearer {token}"})
            return told.status_code == 200 and bool(told.json()["hears_notices"])

        await eventually(hears, seconds=20)
        seen(f"heard notices again {monotonic() - began:.1f} s after its network")
        await sign_in()
        assert await may() == 200
        began = monotonic()
        await role("STAFF")

        async def refused() -> bool:
            return await may() == 401

        await eventually(refused, seconds=5)
        seen(f"a role changed elsewhere was known there within {(monotonic() - began) * 1000:.0f} ms")
    seen(await proven(stack, load))
    assert max(load.seconds) < 25


async def test_instance_whose_host_vanished_holds_up_only_what_it_had_in_hand(
    stack: Stack, token: str, seen: Say
) -> None:
    (gone, *_) = await stack.containers("api")
    addresses = [await address(stack, gone, network) for network in ("front", "back")]
    load = Load(stack.url, token, patient=True)
    async with load.going_on():
        await asyncio.sleep(1)
        async with silent(stack, *addresses):
            await asyncio.sleep(1.5)
            before = len(load.seconds)
            await asyncio.sleep(7)
            # what was not in its hands has long gone on elsewhere, but for bookings of what it had locked
            later = load.seconds[before:]
            most, longest = percentile(later, 0.9), max(later)
            seen(f"a vanished host: later, nine in ten requests took under {most:.2f} s, the longest {longest:.2f} s")
            assert most < 3
            await asyncio.sleep(4)
            assert max(load.seconds) < 20
        began = monotonic()
        served = await count(stack, gone)

        async def taken_back() -> bool:
            return await count(stack, gone) > served

        await eventually(taken_back, seconds=20)
        seen(f"sent requests again {monotonic() - began:.1f} s after its network")
    seen(await proven(stack, load))


async def count(stack: Stack, container: str) -> float:
    """Requests for stock that this instance has answered."""
    front = await address(stack, container, "front")
    async with httpx.AsyncClient(timeout=5) as direct:
        lines = (await direct.get(f"http://{front}:8000/metrics")).text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if STOCK in line and "_count{" in line)
