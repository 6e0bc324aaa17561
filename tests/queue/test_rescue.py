"""Workers that die, hang, are paused or lose their connection, as real processes."""

import signal
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erp_service.queue.lifeline import PresenceTracker
from tests.queue.shop import Shop, paused
from tests.support.waiting import eventually


async def test_job_of_a_killed_worker_starts_again_elsewhere_long_before_the_stall_threshold(
    shop: Shop, gate: Path
) -> None:
    await shop.start(stalled=600)
    await shop.start(stalled=600)
    await shop.settled()
    job = await shop.defer("until", gate=str(gate))
    first = (await shop.traced(job, "started"))[0]
    shop.of(first["pid"]).kill()
    second = (await shop.traced(job, "started", 2))[1]
    gate.touch()
    await shop.traced(job, "done")
    assert second["pid"] != first["pid"]
    assert second["attempt"] > first["attempt"]
    assert await eventually(lambda: shop.fetch("select where not exists (select from procrastinate_jobs)"))


async def test_paused_worker_is_rescued_after_the_threshold_and_cannot_finish_over_its_rescuer(
    shop: Shop, gate: Path
) -> None:
    await shop.start(stalled=2)
    await shop.start(stalled=2)
    await shop.settled()
    job = await shop.defer("until", gate=str(gate), lock="one at a time")
    sibling = await shop.defer("quick", lock="one at a time")
    first = (await shop.traced(job, "started"))[0]
    zombie = shop.of(first["pid"])
    with paused(zombie):
        second = (await shop.traced(job, "started", 2))[1]
    assert second["pid"] != first["pid"]
    # Two seconds after its last heartbeat, which was at most half a second old
    assert (second["at"] - first["at"]).total_seconds() > 1, "taken for dead, though it is only paused"

    # It notices that, stops the job, and goes on working
    assert (await shop.traced(job, "TAKEN_OVER"))[0]["pid"] == first["pid"]
    assert zombie.poll() is None
    assert await shop.status(job) == "doing"
    assert await shop.status(sibling) == "todo", "the zombie has released its successor's lock"
    gate.touch()
    await shop.traced(sibling, "done")
    assert [row["pid"] for row in await shop.traces(job, "done")] == [second["pid"]]


async def test_zombie_that_ends_its_run_before_it_notices_changes_nothing(shop: Shop, gate: Path) -> None:
    await shop.start(stalled=2)
    await shop.start(stalled=2)
    await shop.settled()
    job = await shop.defer("until", gate=str(gate), lock="one at a time")
    first = (await shop.traced(job, "started"))[0]
    with paused(shop.of(first["pid"])):
        second = (await shop.traced(job, "started", 2))[1]
        shop.of(second["pid"]).send_signal(signal.SIGSTOP)
        gate.touch()
    await shop.traced(job, "done")
    await eventually(lambda: is_logged(shop, shop.of(first["pid"]), "is no longer ours"))
    assert await shop.value("select attempts from procrastinate_jobs where id = $1", job) > first["attempt"]
    shop.of(second["pid"]).send_signal(signal.SIGCONT)
    assert await eventually(lambda: shop.fetch("select where not exists (select from procrastinate_jobs)"))


async def test_worker_that_was_pruned_while_paused_comes_back_as_itself(shop: Shop) -> None:
    worker = await shop.start()
    before = await shop.value("select worker_id from queue_workers")
    with paused(worker):
        await shop.fetch("delete from procrastinate_workers")
    assert await eventually(lambda: shop.value("select worker_id from queue_workers")) == before
    job = await shop.defer("quick")
    await shop.traced(job, "done")
    assert worker.poll() is None


@pytest.mark.parametrize("deadly", ["deadly", "hang"])
async def test_job_that_takes_each_worker_with_it_is_failed_after_its_deaths(shop: Shop, deadly: str) -> None:
    """Three deaths are allowed here: the fourth worker survives and runs the next job."""
    for _ in range(4):
        await shop.start("--concurrency=1", stalled=2)
    await shop.settled()
    job = await shop.defer(deadly)
    await eventually(lambda: is_status(shop, job, "failed"), seconds=40)
    assert len(await shop.traces(job, "started")) == 3
    death = (await shop.fetch("select deaths, last_reason from queue_deaths where job_id = $1", job))[0]
    assert tuple(death) == (3, "gone" if deadly == "deadly" else "silent")
    await shop.traced(await shop.defer("quick"), "done")


async def test_death_of_a_draining_worker_is_not_held_against_its_job(shop: Shop, gate: Path) -> None:
    await shop.start()
    await shop.start()
    await shop.settled()
    job = await shop.defer("until", gate=str(gate))
    first = (await shop.traced(job, "started"))[0]
    worker = shop.of(first["pid"])
    worker.send_signal(signal.SIGTERM)
    await eventually(lambda: shop.fetch("select from queue_workers where pid = $1 and draining", worker.pid))
    worker.kill()
    await shop.traced(job, "started", 2)
    assert await shop.fetch("select from queue_deaths") == []


async def test_lost_lifeline_is_no_death(shop: Shop, gate: Path) -> None:
    """The worker takes the lock again before another takes it for dead."""
    await shop.start()
    await shop.start()
    await shop.settled()
    job = await shop.defer("until", gate=str(gate))
    await shop.traced(job, "started")
    await shop.fetch(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'erp worker lifeline'"
        " and datname = current_database()"
    )
    await shop.settled()
    gate.touch()
    await shop.traced(job, "done")
    assert len(await shop.traces(job, "started")) == 1


async def test_cancel_wins_when_the_worker_dies_before_it_hears_of_it(shop: Shop, gate: Path) -> None:
    await shop.start()
    await shop.start()
    await shop.settled()
    job = await shop.defer("until", gate=str(gate))
    worker = shop.of((await shop.traced(job, "started"))[0]["pid"])
    worker.send_signal(signal.SIGSTOP)
    await shop.fetch("select procrastinate_cancel_job_v1($1, true, false)", job)
    worker.kill()
    await eventually(lambda: is_status(shop, job, "aborted"))
    assert len(await shop.traces(job, "started")) == 1


async def test_job_that_its_healthy_worker_never_heard_of_is_started_again(shop: Shop) -> None:
    """The response to a fetch can be lost: the row says `doing`, but no worker runs the job."""
    await shop.start()
    worker_id = await shop.value("select worker_id from queue_workers")
    lost = await shop.value(
        "insert into procrastinate_jobs (queue_name, task_name, status, worker_id)"
        " values ('work', 'workshop:quick', 'doing', $1) returning id",
        worker_id,
    )
    assert isinstance(lost, int)
    await shop.traced(lost, "done")
    assert await shop.fetch("select from queue_deaths") == []


async def test_job_without_any_worker_is_started_again(shop: Shop) -> None:
    """Deleting a worker's row, as pruning does, leaves its jobs without one."""
    await shop.start()
    lost = await shop.value(
        "insert into procrastinate_jobs (queue_name, task_name, status) values ('work', 'workshop:quick', 'doing')"
        " returning id"
    )
    assert isinstance(lost, int)
    await shop.traced(lost, "done")


async def test_job_that_cannot_wait_again_is_failed_and_holds_up_no_other(shop: Shop) -> None:
    """Issue #1446: a waiting job has its queueing lock, so the unique index refuses the retry."""
    twin, other = [
        int(row["id"])
        for row in await shop.fetch(
            "insert into procrastinate_jobs (queue_name, task_name, status, queueing_lock, scheduled_at) values"
            " ('work', 'workshop:quick', 'doing', 'twin', null), ('work', 'workshop:quick', 'doing', null, null),"
            " ('work', 'workshop:quick', 'todo', 'twin', now() + interval '1 day') returning id"
        )
    ][:2]
    await shop.start()
    await shop.traced(other, "done")
    await eventually(lambda: is_status(shop, twin, "failed"))


async def is_status(shop: Shop, job_id: int, status: str) -> bool:
    return await shop.status(job_id) == status


async def is_logged(shop: Shop, worker: subprocess.Popen[bytes], words: str) -> bool:
    return words in shop.log_of(worker)


@given(st.lists(st.tuples(st.floats(0, 2), st.sets(st.integers(0, 3)))))
def test_sightings_count_only_what_was_seen_at_every_look(looks: list[tuple[float, set[int]]]) -> None:
    present: PresenceTracker[int] = PresenceTracker()
    now = 0.0
    since: dict[int, float] = {}
    for pause, seen in looks:
        now += pause
        present.update(seen, now)
        since = {key: since.get(key, now) for key in seen}
        assert present.present_for(1, now) == {key for key, start in since.items() if now - start >= 1}
