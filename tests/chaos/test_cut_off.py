"""Workers that lose their connection to the database, or a response on it, while database and process are well."""

import asyncio
import signal
from datetime import UTC, datetime

import pytest

from tests.acceptance.instances import Process
from tests.chaos.after import lives_on, never_back
from tests.chaos.ground import Ground, since
from tests.chaos.proxy import Proxy
from tests.chaos.record import Record
from tests.support.waiting import eventually


async def says(worker: Process, words: str) -> None:
    async def said() -> bool:
        return words in worker.log.read_text()

    await eventually(said, seconds=40)


@pytest.mark.parametrize("how", ["hangs", "is cut"])
async def test_network_of_a_worker(ground: Ground, proxy: Proxy, record: Record, how: str) -> None:
    """It stops by itself, by the time that another takes over or soon after: no message can reach it."""
    client = await ground.instance()
    lost = await ground.worker(proxy)
    hold = await ground.hold()
    export = await ground.submit(client)
    assert (await ground.in_the_middle(export)).pid == lost.pid
    rescuer = await ground.worker()
    await ground.settled()
    gone = datetime.now(UTC)
    if how == "hangs":
        proxy.hang()
    else:
        proxy.cut()
    assert (await ground.in_the_middle(export, 2)).pid == rescuer.pid
    again = await ground.began(export, 2)
    await ground.part_gone(export, 1)
    await hold.release()
    await ground.ends(export)
    if how == "hangs":
        await says(lost, "no heartbeat came through")
    proxy.heal()
    effects = await ground.proven(export)
    await never_back(ground, export)
    assert await ground.starts(export) == 2
    record(seconds=since(gone, again), starts=2, effects=effects)
    await ground.lifelines(2)
    await lives_on(ground, client, lost)


async def test_connections_hang_without_closing(ground: Ground, proxy: Proxy, record: Record) -> None:
    """As after a firewall that dropped its table: new connections work, and nothing may wait long for the old ones."""
    client = await ground.instance(proxy, ERP_STATEMENT_SECONDS="2")
    worker = await ground.worker(proxy, ERP_STATEMENT_SECONDS="2")
    hold = await ground.hold()
    export = await ground.submit(client)
    await ground.in_the_middle(export)
    gone = datetime.now(UTC)
    proxy.hang(new=False)
    await hold.release()
    await ground.ends(export)
    back = datetime.now(UTC)

    async def answered() -> bool:
        return (await client.get("/api/v1/inventory/locations")).status_code == 200

    await eventually(answered, seconds=60)
    await ground.listening(1, after=gone)
    waited = await ground.promptly(client)
    # the server's side of the connections that hung; keepalive would close them
    proxy.heal()
    effects = await ground.proven(export)
    await never_back(ground, export)
    assert worker.process.returncode is None
    assert waited < 4, "LISTEN is back: no poll was waited for"
    record(seconds=since(gone, back), starts=await ground.starts(export), effects=effects)


async def test_lifelines_are_gone_all_at_once(ground: Ground, record: Record) -> None:
    """As after a restart of Postgres, every lock is free although every worker lives: no job is taken over."""
    (client,) = await ground.fleet(1, 2)
    await ground.settled()
    hold = await ground.hold()
    export = await ground.submit(client)
    runner = await ground.in_the_middle(export)
    back = 0.0
    for _ in range(3):
        gone = datetime.now(UTC)
        assert await ground.terminate("erp worker lifeline") == 2
        await ground.lifelines(2)
        back = since(gone)
        await ground.settled()
    assert (await ground.runner(export)).pid == runner.pid
    await hold.release()
    effects = await ground.proven(export)
    assert await ground.starts(export) == 1
    assert await ground.deaths() == 0
    record(seconds=back, starts=1, effects=effects)


async def test_answer_to_a_fetch_is_lost(ground: Ground, proxy: Proxy, record: Record) -> None:
    """The queue says that the worker runs the job, but the worker never received it."""
    client = await ground.instance()
    worker = await ground.worker(proxy)
    lost = proxy.lose("server", b"exports:run")
    export = await ground.submit(client)
    await asyncio.wait_for(lost.wait(), 20)
    gone = datetime.now(UTC)
    row = await ground.ends(export)
    assert worker.process.returncode is None
    effects = await ground.proven(export)
    assert await ground.starts(export) == 1
    assert row["attempt"] == 2, "the first was given out and never begun"
    assert await ground.deaths() == 0
    record(seconds=since(gone, row["started_at"]), starts=1, effects=effects)


@pytest.mark.parametrize("sender", ["client", "server"])
async def test_last_write_of_a_job_is_lost(ground: Ground, proxy: Proxy, record: Record, sender: str) -> None:
    """The publication is lost on its way to the database, or only the response to it, which has committed, is."""
    client = await ground.instance()
    worker = await ground.worker(proxy)
    words = b"procrastinate_finish_job_v1"
    lost = proxy.lose("client", words) if sender == "client" else proxy.lose("server", b"SELECT 1", after=words)
    export = await ground.submit(client)
    await asyncio.wait_for(lost.wait(), 20)
    gone = datetime.now(UTC)
    effects = await ground.proven(export)
    assert worker.process.returncode is None
    assert await ground.starts(export) == 1
    assert await ground.value("select count(*) from procrastinate_jobs where queue_name = 'exports'") == 0
    record(seconds=since(gone), starts=1, effects=effects)
    await lives_on(ground, client, worker)


async def test_job_is_said_to_run_on_a_healthy_worker_that_does_not(ground: Ground, record: Record) -> None:
    """The last write of an attempt is lost: its export may have succeeded or not."""
    client = await ground.instance()
    worker = await ground.worker()
    worker.signal(signal.SIGSTOP)
    export = await ground.submit(client)
    worker_id = await ground.value("select worker_id from queue_workers")
    gone = datetime.now(UTC)
    await ground.fetch("update procrastinate_jobs set status = 'doing', worker_id = $1", worker_id)
    worker.signal(signal.SIGCONT)
    row = await ground.ends(export)
    effects = await ground.proven(export)
    assert await ground.starts(export) == 1
    assert row["attempt"] == 2
    record(seconds=since(gone, row["started_at"]), starts=1, effects=effects)


async def test_slow_network_is_no_fault(ground: Ground, proxy: Proxy, record: Record) -> None:
    """A latency of a tenth of a second each way: no worker is taken for dead."""
    client = await ground.instance()
    slow = await ground.worker(proxy)
    proxy.delay = 0.1
    hold = await ground.hold()
    export = await ground.submit(client)
    assert (await ground.in_the_middle(export)).pid == slow.pid
    begun = datetime.now(UTC)
    await ground.worker()
    # longer than the stall threshold
    await ground.settled()
    await hold.release()
    effects = await ground.proven(export)
    assert await ground.starts(export) == 1
    record(seconds=since(begun), starts=1, effects=effects)
