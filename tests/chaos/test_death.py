"""Workers that are killed."""

import signal
from datetime import UTC, datetime

import pytest

from tests.acceptance.instances import Process
from tests.chaos.ground import JOBS, Ground, since
from tests.chaos.record import Record

PATIENT = {"ERP_HEARTBEAT_SECONDS": "5", "ERP_STALLED_SECONDS": "600"}
"""A stall threshold longer than any test: a worker that takes over did so because the lock was gone."""

DEATHS = 5


async def test_kill_9_in_the_middle_of_copy(ground: Ground, record: Record) -> None:
    (client,) = await ground.fleet(1, 2, **PATIENT)
    await ground.settled()
    hold = await ground.hold()
    export = await ground.submit(client)
    victim = await ground.in_the_middle(export)
    killed = datetime.now(UTC)
    victim.signal(signal.SIGKILL)
    again = await ground.began(export, 2)
    await hold.release()
    effects = await ground.proven(export, killed=[1])
    record(seconds=since(killed, again), starts=await ground.starts(export), effects=effects)
    assert await ground.starts(export) == 2
    assert await ground.deaths() == 1


async def test_kill_9_of_the_only_worker_and_a_new_one_later(ground: Ground, record: Record) -> None:
    client = await ground.instance()
    await ground.worker(**PATIENT)
    hold = await ground.hold()
    export = await ground.submit(client)
    victim = await ground.in_the_middle(export)
    victim.signal(signal.SIGKILL)
    await hold.release()
    await victim.ended()
    started = datetime.now(UTC)
    await ground.worker(**PATIENT)
    again = await ground.began(export, 2)
    effects = await ground.proven(export, killed=[1])
    record(seconds=since(started, again), starts=await ground.starts(export), effects=effects)
    assert await ground.starts(export) == 2


async def test_poison_job_that_kills_each_worker(ground: Ground, record: Record) -> None:
    """Its workers die, as by the out-of-memory killer; their other jobs survive."""
    (client,) = await ground.fleet(1, 3, **PATIENT)
    await ground.settled()
    hold = await ground.hold()
    poison = await ground.submit(client)
    killed = datetime.now(UTC)
    for attempt in range(1, DEATHS + 1):
        victim: Process = await ground.in_the_middle(poison, attempt)
        killed = datetime.now(UTC)
        victim.signal(signal.SIGKILL)
        await victim.ended()
        await ground.worker(**PATIENT)
    row = await ground.ends(poison, "failed")
    assert row["error"] is not None
    problem = (await client.get(f"{JOBS}/{poison}")).json()["error"]
    assert problem["type"] == "/problems/export-abandoned"
    assert await ground.starts(poison) == DEATHS == await ground.deaths()
    await hold.release()
    assert [worker.process.returncode for worker in ground.workers].count(None) == 3, "no worker ended but by us"
    await ground.proven(await ground.submit(client))
    seconds = since(killed, row["finished_at"])
    record(seconds=seconds, starts=DEATHS, effects="failed, says why")


@pytest.mark.parametrize("who", ["its worker dies", "another dies"])
async def test_cancel_at_the_moment_a_worker_dies(ground: Ground, record: Record, who: str) -> None:
    client, stranger = await ground.fleet(2, 2, **PATIENT)
    await ground.settled()
    await ground.hold()
    export = await ground.submit(client)
    runner = await ground.in_the_middle(export)
    victim = runner if who == "its worker dies" else ground.others(runner)[0]
    asked = datetime.now(UTC)
    victim.signal(signal.SIGKILL)
    answer = await stranger.post(f"{JOBS}/{export}/cancel")
    assert answer.is_success, answer.text
    row = await ground.ends(export, "canceled")
    seconds = since(asked, row["finished_at"])
    assert await ground.starts(export) == 1
    record(seconds=seconds, starts=1, effects="canceled")
