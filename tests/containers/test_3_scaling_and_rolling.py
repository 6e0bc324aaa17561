"""More and fewer instances, another release, and back, while impatient clients go on: no request may fail."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.containers.books import Say, final, proven
from tests.containers.clients import JOBS, Load
from tests.containers.stack import PROJECT, ROOT, CommandFailed, Stack, timed
from tests.support.waiting import eventually


@pytest.fixture
async def prometheus(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    before = dict(stack.env)
    stack.env["COMPOSE_PROFILES"] = "monitoring"
    await stack.anew("prometheus")
    async with httpx.AsyncClient(base_url=f"{stack.prometheus_url}/api/v1/", timeout=10) as client:
        yield client
    stack.env = before
    await stack.remove("prometheus", "prometheus")


async def scraped(prometheus: httpx.AsyncClient) -> Counter[str]:
    """How many of each job answer."""
    try:
        answer = await prometheus.get("targets", params={"state": "active"})
    except httpx.TransportError:
        return Counter()
    if answer.status_code != 200:
        return Counter()
    targets = answer.json()["data"]["activeTargets"]
    return Counter(target["labels"]["job"] for target in targets if target["health"] == "up")


async def test_scaling_up_and_down_fails_no_request_and_prometheus_follows(
    stack: Stack, token: str, seen: Say, file: tuple[str, str], prometheus: httpx.AsyncClient
) -> None:
    async def shows(api: int, worker: int) -> bool:
        return await scraped(prometheus) == {"erp-api": api, "erp-worker": worker}

    await eventually(partial(shows, 2, 2), seconds=60)
    load = Load(stack.url, token, patient=False, file=file)
    async with load.going_on():
        async with timed() as up:
            await stack.run("ops/scale", "api=5", "worker=4")
        assert len(await stack.containers("api")) == 5
        async with timed() as found:
            await eventually(partial(shows, 5, 4), seconds=60)
        async with timed() as down:
            await stack.run("ops/scale", "api=2", "worker=2")
    assert len(await stack.containers("api")) == 2
    assert len(await stack.containers("worker")) == 2
    seen(f"api 2 -> 5, worker 2 -> 4 in {up[0]:.0f} s; back in {down[0]:.0f} s")
    seen(f"Prometheus scraped all nine {found[0]:.0f} s later")
    groups = (await prometheus.get("rules")).json()["data"]["groups"]
    rules = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
    written = "".join((ROOT / "ops/monitoring" / name).read_text() for name in ("alerts.yml", "alerts_ha.yml"))
    assert set(rules) == set(re.findall("- alert: (.+)", written))
    assert set(rules.values()) == {"ok"}
    told = (await prometheus.get("query", params={"query": "max(max_over_time(erp_workers[5m]))"})).json()
    assert told["data"]["result"][0]["value"][1] == "4"
    seen(await proven(stack, load))


async def test_rolling_a_release_fails_no_request(
    stack: Stack, token: str, client: httpx.AsyncClient, seen: Say, file: tuple[str, str], next_release: str
) -> None:
    load = Load(stack.url, token, patient=False, file=file)
    long = await client.post(JOBS, json={"dataset": "stock_movements", "sort": "-id", "force_new": True})
    assert long.status_code == 202, long.text
    both: Counter[frozenset[str]] = Counter()

    async def watch() -> None:
        while True:
            both[frozenset(await stack.versions("api"))] += 1
            await asyncio.sleep(0.5)

    async with load.going_on():
        await asyncio.sleep(2)
        watching = asyncio.create_task(watch())
        async with timed() as took:
            await stack.run("ops/roll", next_release)
        watching.cancel()
        await asyncio.sleep(2)
    assert set(await stack.versions("api")) == set(await stack.versions("worker")) == {"next"}
    assert max(len(versions) for versions in both) == 2, "old and new never served at once"
    assert (await final(client, long.json()["id"]))["status"] == "succeeded"
    assert (await stack.sql("select version_num from alembic_version")) == "9999"
    seen(f"two instances and two workers in {took[0]:.0f} s")
    seen(await proven(stack, load))


async def test_release_that_never_gets_ready_ends_the_roll_and_the_old_goes_on(
    stack: Stack, token: str, seen: Say, tmp_path: Path, next_release: str
) -> None:
    (tmp_path / "Containerfile").write_text(
        f"FROM {next_release}\nENV ERP_EXPORT_STORE=file:///tmp/elsewhere\n"
        "LABEL org.opencontainers.image.version=broken\n"
        # a process number 1 that handles no signal would be waited for until it is killed
        'ENTRYPOINT ["python", "-c", "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit());'
        " signal.pause() if sys.argv[1] == 'serve' else None\"]\n"
    )
    image = f"localhost/{PROJECT}:broken"
    await stack.run("podman", "build", "--quiet", "--tag", image, str(tmp_path))
    load = Load(stack.url, token, patient=False)
    try:
        async with load.going_on(posters=2, readers=1):
            with pytest.raises(CommandFailed, match="is not ready"):
                await stack.run("ops/roll", image, ERP_READY_SECONDS="6")
            assert sorted(await stack.versions("api")) == ["broken", "next"]
            # the runbook's way back
            async with timed() as took:
                await stack.run("ops/roll", stack.image)
    finally:
        await stack.run("podman", "image", "rm", "--force", image)
    assert "broken" not in await stack.versions("api") + await stack.versions("worker")
    assert await stack.sql("select version_num from alembic_version") == "9999"
    seen(f"rolled back in {took[0]:.0f} s")
    seen(await proven(stack, load))
