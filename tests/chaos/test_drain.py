"""SIGTERM and SIGKILL from a supervisor, for a worker that runs an export."""

import signal
from datetime import UTC, datetime

from tests.chaos.ground import JOBS, Ground, since
from tests.chaos.record import Record
from tests.support.waiting import eventually


async def draining(ground: Ground) -> None:
    await eventually(lambda: ground.fetch("select from queue_workers where draining"))


async def test_drain_shorter_than_its_export(ground: Ground, record: Record) -> None:
    client = await ground.instance()
    leaving = await ground.worker(ERP_GRACE_SECONDS="1")
    hold = await ground.hold()
    export = await ground.submit(client)
    await ground.in_the_middle(export)
    other = await ground.worker()
    told = datetime.now(UTC)
    leaving.signal(signal.SIGTERM)
    assert await leaving.ended() == 0
    left = datetime.now(UTC)
    assert (await ground.in_the_middle(export, 2)).pid == other.pid
    again = await ground.began(export, 2)
    assert since(left, again) < 4, "at once: the next poll would be later"
    await hold.release()
    effects = await ground.proven(export)
    assert await ground.starts(export) == 2
    assert await ground.deaths() == 0
    record(seconds=since(told, again), starts=2, effects=effects)


async def test_drain_longer_than_its_export_and_than_the_threshold(ground: Ground, record: Record) -> None:
    """Its heartbeat goes on, it takes no new job, and no other worker takes its export over."""
    client = await ground.instance()
    leaving = await ground.worker(ERP_GRACE_SECONDS="60")
    hold = await ground.hold()
    export = await ground.submit(client)
    await ground.in_the_middle(export)
    leaving.signal(signal.SIGTERM)
    await draining(ground)
    await ground.worker()
    await ground.settled()
    released = datetime.now(UTC)
    await hold.release()
    assert await leaving.ended() == 0
    effects = await ground.proven(export)
    assert await ground.starts(export) == 1
    record(seconds=since(released), starts=1, effects=effects)


async def test_second_sigterm_ends_a_drain(ground: Ground, record: Record) -> None:
    client = await ground.instance()
    leaving = await ground.worker(ERP_GRACE_SECONDS="60")
    hold = await ground.hold()
    export = await ground.submit(client)
    await ground.in_the_middle(export)
    other = await ground.worker()
    await ground.settled()
    leaving.signal(signal.SIGTERM)
    await draining(ground)
    told = datetime.now(UTC)
    leaving.signal(signal.SIGTERM)
    assert await leaving.ended(seconds=10) == -signal.SIGTERM
    assert (await ground.in_the_middle(export, 2)).pid == other.pid
    again = await ground.began(export, 2)
    await hold.release()
    effects = await ground.proven(export, killed=[1])
    assert await ground.starts(export) == 2
    assert await ground.deaths() == 0, "a supervisor's impatience is not the job's fault"
    record(seconds=since(told, again), starts=2, effects=effects)


async def test_drain_while_the_database_is_away(ground: Ground, record: Record) -> None:
    """It does not wait for the database for ever; its export starts on another worker when the database is back."""
    client = await ground.instance()
    leaving = await ground.worker(ERP_GRACE_SECONDS="1")
    await ground.hold()
    export = await ground.submit(client)
    await ground.in_the_middle(export)
    await ground.stop_postgres()
    told = datetime.now(UTC)
    leaving.signal(signal.SIGTERM)
    assert await leaving.ended(seconds=60) == 1, "it could not put back what it had, and says so"
    took = since(told)
    await ground.start_postgres()
    await ground.worker()
    effects = await ground.proven(export)
    record(seconds=took, starts=await ground.starts(export), effects=effects)


async def test_cancel_in_the_middle_of_copy_from_an_instance_that_is_a_stranger(ground: Ground, record: Record) -> None:
    client, stranger = await ground.instance(), await ground.instance()
    await ground.worker()
    await ground.hold()
    export = await ground.submit(client)
    await ground.in_the_middle(export)
    asked = datetime.now(UTC)
    answer = await stranger.post(f"{JOBS}/{export}/cancel")
    assert answer.is_success, answer.text
    row = await ground.ends(export, "canceled")
    await ground.no_file(export)
    assert await ground.starts(export) == 1
    record(seconds=since(asked, row["finished_at"]), starts=1, effects="canceled")


async def test_cancel_in_the_middle_of_a_drain(ground: Ground, record: Record) -> None:
    client = await ground.instance()
    leaving = await ground.worker(ERP_GRACE_SECONDS="60")
    await ground.hold()
    export = await ground.submit(client)
    await ground.in_the_middle(export)
    leaving.signal(signal.SIGTERM)
    await draining(ground)
    asked = datetime.now(UTC)
    assert (await client.post(f"{JOBS}/{export}/cancel")).is_success
    row = await ground.ends(export, "canceled")
    assert await leaving.ended() == 0
    await ground.no_file(export)
    assert await ground.starts(export) == 1
    record(seconds=since(asked, row["finished_at"]), starts=1, effects="canceled")
