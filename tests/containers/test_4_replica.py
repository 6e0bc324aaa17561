"""The profile `replica`: reports are read from it, and nobody notices when it goes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import httpx

from tests.containers.books import Say, exported
from tests.containers.stack import Stack, timed
from tests.support.waiting import eventually

REPORT = "/api/v1/inventory/reports/summary"
PROMOTE = ("podman", "exec", "--user", "postgres")
FROM_REPLICA = (
    "import urllib.request; told = urllib.request.urlopen('http://127.0.0.1:8000/metrics').read().decode();"
    "print(*(line for line in told.splitlines() if line.startswith('erp_repeatable_reads_total{server=\"replica\"}')))"
)


async def test_replica_answers_reports_and_is_left_and_taken_back_without_an_error(
    stack: Stack, client: httpx.AsyncClient, seen: Say
) -> None:
    before = dict(stack.env)
    stack.env |= {"COMPOSE_PROFILES": "replica", "ERP_REPLICA_URL_FILE": "/run/secrets/replica_url"}
    await stack.anew("replica", "api", "worker")
    async with timed() as copied:
        await eventually(stack.answers, seconds=60)
        await eventually(partial(found, client, in_use=True), seconds=60)
    (replica,) = await stack.containers("replica")

    async with reporting(client) as reports:
        assert (await exported(client, dataset="stock_movements"))["attempt"] == 1
        assert await read_from_replica(stack)

        await stack.run("podman", "stop", "--time", "30", replica)
        stopped = await eventually(partial(found, client, in_use=False))
        async with timed() as back:
            await stack.run("podman", "start", replica)
            await eventually(partial(found, client, in_use=True), seconds=60)

        await stack.run(*PROMOTE, replica, "pg_ctl", "promote", "-D", "/var/lib/postgresql/18/docker")
        promoted = await eventually(partial(found, client, in_use=False))
        async with timed() as anew:
            # what ops/runbooks/replica-down.md says
            await stack.remove("replica", "replica")
            await stack.anew("replica")
            await eventually(partial(found, client, in_use=True), seconds=60)
    assert set(reports) == {200}
    assert await stack.sql("select count(*) from pg_replication_slots where active") == "1"
    seen(f"in use {copied[0]:.0f} s after it began with an empty volume")
    seen(f"stopped ({fault(stopped)}): taken back {back[0]:.1f} s after its start")
    seen(f"promoted ({fault(promoted)}): made anew and taken back in {anew[0]:.0f} s")
    seen(f"{len(reports):,} reports meanwhile, each answered 200")

    stack.env = before
    await stack.remove("replica", "replica")
    await stack.sql("select pg_drop_replication_slot('erp_replica')")
    await stack.anew("api", "worker")
    await eventually(stack.answers, seconds=60)


async def found(client: httpx.AsyncClient, *, in_use: bool) -> dict[str, Any] | None:
    """What an instance says of the replica, once three answers in a row say so: there are two instances."""
    now: dict[str, Any] = {}
    for _ in range(3):
        answer = await client.get("/health/scaling")
        now = (answer.json().get("replica") if answer.status_code == 200 else None) or {}
        if now.get("in_use") is not in_use:
            return None
    return now


def fault(now: dict[str, Any] | None) -> str:
    assert now is not None
    return str(now["fault"])


@contextlib.asynccontextmanager
async def reporting(client: httpx.AsyncClient) -> AsyncIterator[list[int]]:
    """The statuses of reports that are read without a pause."""
    statuses: list[int] = []

    async def read() -> None:
        while True:
            statuses.append((await client.get(REPORT)).status_code)

    task = asyncio.create_task(read())
    try:
        yield statuses
    finally:
        assert not task.done(), task.exception()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def read_from_replica(stack: Stack) -> bool:
    told = [await stack.inside(api, "python", "-c", FROM_REPLICA) for api in await stack.containers("api")]
    return any(float(line.split()[1]) > 0 for line in told if line.strip())
