"""Workers that are paused for longer than the stall threshold, as on a swapping or sleeping host, and then go on."""

import asyncio
import signal
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from erp_service.db.engine import Database
from erp_service.db.outages import DATABASE_ERRORS
from erp_service.exports import admission
from tests.chaos.after import lives_on, never_back
from tests.chaos.ground import Ground, since
from tests.chaos.record import Record


async def test_paused_worker_wakes_after_its_rescuer_published(ground: Ground, record: Record) -> None:
    (client,) = await ground.fleet(1, 2)
    hold = await ground.hold()
    export = await ground.submit(client)
    paused = await ground.in_the_middle(export)
    since_pause = datetime.now(UTC)
    with ground.paused(paused):
        again = await ground.began(export, 2)
        await hold.release()
        await ground.ends(export)
        assert ground.part(export, 1).exists()
    await ground.part_gone(export, 1)
    effects = await ground.proven(export)
    await never_back(ground, export)
    assert await ground.starts(export) == 2
    record(seconds=since(since_pause, again), starts=2, effects=effects)
    await lives_on(ground, client, paused)


async def test_paused_worker_wakes_while_its_rescuer_runs(ground: Ground, record: Record) -> None:
    (client,) = await ground.fleet(1, 2)
    hold = await ground.hold()
    export = await ground.submit(client)
    paused = await ground.in_the_middle(export)
    with ground.paused(paused):
        rescuer = await ground.in_the_middle(export, 2)
        assert rescuer.pid != paused.pid
        woken = datetime.now(UTC)
    await ground.part_gone(export, 1)
    noticed = since(woken)
    assert ground.part(export, 2).exists()
    assert (await ground.runner(export)).pid == rescuer.pid
    await hold.release()
    effects = await ground.proven(export)
    await never_back(ground, export)
    assert await ground.starts(export) == 2
    record(seconds=noticed, starts=2, effects=effects)
    await lives_on(ground, client, paused)


async def test_paused_worker_whose_rescuer_was_killed(ground: Ground, record: Record) -> None:
    (client,) = await ground.fleet(1, 3)
    await ground.settled()
    hold = await ground.hold()
    export = await ground.submit(client)
    paused = await ground.in_the_middle(export)
    with ground.paused(paused):
        rescuer = await ground.in_the_middle(export, 2)
        killed = datetime.now(UTC)
        rescuer.signal(signal.SIGKILL)
        third = await ground.in_the_middle(export, 3)
        assert third.pid not in (paused.pid, rescuer.pid)
    again = await ground.began(export, 3)
    await ground.part_gone(export, 1)
    await hold.release()
    row = await ground.ends(export)
    assert row["attempt"] == 3
    effects = await ground.proven(export, killed=[2])
    await never_back(ground, export)
    assert await ground.starts(export) == 3
    record(seconds=since(killed, again), starts=3, effects=effects)
    await lives_on(ground, client, paused)


async def test_process_paused_in_the_middle_of_an_admission(ground: Ground, database: Database, record: Record) -> None:
    """It holds the lock that every submission needs, and Postgres takes it away before the others give up.

    This process is the one that is paused: it does not go on with its transaction."""
    (client,) = await ground.fleet(1, 1)
    holds, woken = asyncio.Event(), asyncio.Event()

    async def paused() -> None:
        async with database.write() as db:
            await admission.lock(db)
            holds.set()
            await woken.wait()
            await db.execute(text("select 1"))

    task = asyncio.create_task(paused())
    await holds.wait()
    held = datetime.now(UTC)
    export = await ground.submit(client)
    waited = since(held)
    effects = await ground.proven(export)
    woken.set()
    with pytest.raises(DATABASE_ERRORS):
        await task
    record(seconds=waited, starts=await ground.starts(export), effects=effects)
