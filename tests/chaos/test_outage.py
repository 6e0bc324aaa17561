"""Postgres becomes unavailable in different ways. No instance or worker has to be restarted."""

import asyncio
from datetime import UTC, datetime
from typing import Literal

import pytest

from erp_service.standalone.postgres import Cluster
from tests.chaos.after import never_back
from tests.chaos.ground import JOBS, Ground, since
from tests.chaos.record import Record
from tests.chaos.traffic import Traffic
from tests.support.clusters import frozen

PROMPT = 4.0
"""Less than the five seconds between two polls, which nothing shorter than a poll explains but the notification."""


@pytest.mark.parametrize(
    ("mode", "seconds"),
    [("fast", 0), ("immediate", 0), ("fast", 5), ("fast", 60)],
    ids=["fast restart", "immediate restart", "outage of 5 s", "outage of 60 s"],
)
async def test_postgres(ground: Ground, record: Record, mode: Literal["fast", "immediate"], seconds: int) -> None:
    clients = await ground.fleet(2, 2)
    await ground.settled()
    await ground.hold()
    running, waiting, third = [await ground.submit(clients[0]) for _ in range(3)]
    for export in (running, waiting):
        await ground.in_the_middle(export)
    traffic = [Traffic(client) for client in clients]
    async with traffic[0].going_on(), traffic[1].going_on():
        await traffic[0].answered()
        await ground.stop_postgres(mode)
        if seconds:
            await asyncio.gather(*(each.refused() for each in traffic))
            refused = await clients[0].post(JOBS, json={"dataset": "items", "force_new": True})
            assert (refused.status_code, refused.headers["Content-Type"]) == (503, "application/problem+json")
            assert refused.headers["Retry-After"]
            await asyncio.sleep(seconds)
        up = datetime.now(UTC)
        await ground.start_postgres()
        answered = max(await asyncio.gather(*(each.answered() for each in traffic)))
    starts = []
    effects = await ground.proven(running, waiting, third)
    for export in (running, waiting, third):
        await never_back(ground, export)
        starts.append(await ground.starts(export))
    # the COPY of the first two ended with the server; the third had not begun
    assert starts == [2, 2, 1]
    assert await ground.deaths() == 0, "locks that were gone with the server were taken for deaths"
    assert [worker.process.returncode for worker in ground.workers] == [None, None]
    refusals = [each.proven() for each in traffic]
    assert seconds == 0 or min(refusals) > 0
    await ground.listening(2)
    assert await ground.promptly(clients[1]) < PROMPT
    record(seconds=since(up, answered), starts="/".join(map(str, starts)), effects=effects)


async def test_every_backend_is_terminated_again_and_again(ground: Ground, record: Record) -> None:
    clients = await ground.fleet(2, 2)
    await ground.settled()
    await ground.hold()
    export = await ground.submit(clients[0])
    await ground.in_the_middle(export)
    traffic = [Traffic(client) for client in clients]
    async with traffic[0].going_on(), traffic[1].going_on():
        await traffic[0].answered()
        ended = again = datetime.now(UTC)
        for attempt in (2, 3, 4):
            ended = datetime.now(UTC)
            assert await ground.terminate() > 4
            await asyncio.gather(*(each.answered() for each in traffic))
            again = await ground.began(export, attempt)
            await ground.in_the_middle(export, attempt)
    await ground.terminate("%")
    await ground.fetch(
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'postgres' and pid <> pg_backend_pid()"
        " and datname = current_database()"
    )
    effects = await ground.proven(export)
    await never_back(ground, export)
    assert await ground.deaths() == 0
    assert [worker.process.returncode for worker in ground.workers] == [None, None]
    for each in traffic:
        each.proven()
    await ground.lifelines(2)
    await ground.listening(2)
    assert await ground.promptly(clients[1]) < PROMPT
    record(seconds=since(ended, again), starts=await ground.starts(export), effects=effects)


async def test_postgres_hangs_without_closing(ground: Ground, cluster: Cluster, record: Record) -> None:
    """Longer than the stall threshold: workers stop their jobs, instances refuse in time, and all recover."""
    short = {"ERP_STATEMENT_SECONDS": "2"}
    clients = await ground.fleet(2, 2, **short)
    await ground.settled()
    hold = await ground.hold()
    export = await ground.submit(clients[0])
    await ground.in_the_middle(export)
    traffic = [Traffic(client) for client in clients]
    async with traffic[0].going_on(), traffic[1].going_on():
        await traffic[0].answered()
        with frozen(cluster):
            await asyncio.gather(*(each.refused() for each in traffic))
            await asyncio.gather(*(each.refused() for each in traffic))
            await ground.part_gone(export, 1)
            thawed = datetime.now(UTC)
        answered = max(await asyncio.gather(*(each.answered() for each in traffic)))
    await hold.release()
    effects = await ground.proven(export)
    await never_back(ground, export)
    assert [worker.process.returncode for worker in ground.workers] == [None, None]
    for each in traffic:
        each.proven()
    await ground.lifelines(2)
    await ground.listening(2)
    assert await ground.promptly(clients[1]) < PROMPT
    record(seconds=since(thawed, answered), starts=await ground.starts(export), effects=effects)
