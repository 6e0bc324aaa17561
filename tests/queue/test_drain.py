"""SIGTERM for a worker and its jobs, and its exit status."""

import asyncio
import signal
from collections.abc import Iterable
from pathlib import Path

import pytest
from procrastinate.connector import Notify

from erp_service.queue.connector import WorkerConnector
from erp_service.queue.jobs import cancel
from erp_service.queue.worker import HardenedApp, WorkerFailed
from erp_service.settings import Settings
from tests.queue.shop import Shop, left
from tests.support.waiting import eventually


async def test_drain_longer_than_the_stall_threshold_is_not_rescued(shop: Shop, gate: Path) -> None:
    """PR #1585: upstream's heartbeat ends before the drain begins, and the job runs twice."""
    draining = await shop.start(stalled=2)
    job = await shop.defer("until", gate=str(gate))
    await shop.traced(job, "started")
    await shop.start(stalled=2)
    draining.send_signal(signal.SIGTERM)
    # Without heartbeats during the drain the other worker would have rescued it by now
    await eventually(lambda: shop.value("select clock_timestamp() - at > interval '4.5 s' from traces"))
    late = await shop.defer("quick")
    assert (await shop.traced(late, "done"))[0]["pid"] != draining.pid, "a draining worker takes no new job"
    gate.touch()
    assert await left(draining) == 0
    assert len(await shop.traces(job, "started")) == 1
    assert (await shop.traces(job, "done"))[0]["pid"] == draining.pid


@pytest.mark.parametrize("task", ["until", "fail_when_stopped"])
async def test_job_that_outlasts_the_grace_goes_back_and_starts_elsewhere_at_once(
    shop: Shop, gate: Path, task: str
) -> None:
    """Upstream ends it as aborted; one that answers its cancellation with an error, as failed."""
    draining = await shop.start(grace=0.2)
    job = await shop.defer(task, **({"gate": str(gate)} if task == "until" else {}))
    await shop.traced(job, "started")
    other = await shop.start("--fetch-job-polling-interval=600")
    draining.send_signal(signal.SIGTERM)
    assert await left(draining) == 0
    assert [row["pid"] for row in await shop.traced(job, "started", 2)] == [draining.pid, other.pid]
    assert len(await shop.traces(job, "SHUTDOWN")) == (task == "until")
    assert await shop.fetch("select from queue_deaths") == []
    assert await shop.value("select count(*) from procrastinate_workers") == 1


async def test_cancel_reaches_a_job_while_its_worker_drains(shop: Shop, gate: Path) -> None:
    worker = await shop.start()
    job = await shop.defer("until", gate=str(gate))
    await shop.traced(job, "started")
    worker.send_signal(signal.SIGTERM)
    await eventually(lambda: shop.fetch("select from queue_workers where draining"))
    async with shop.database.write() as db:
        await cancel(db, job)
    assert await left(worker) == 0
    assert len(await shop.traces(job, "CANCELED")) == 1
    assert await shop.status(job) == "aborted"


async def test_cancel_reaches_a_running_job_on_any_worker(shop: Shop, gate: Path) -> None:
    await shop.start()
    job = await shop.defer("until", gate=str(gate))
    await shop.traced(job, "started")
    async with shop.database.write() as db:
        await cancel(db, job)
    await shop.traced(job, "CANCELED")
    await eventually(lambda: shop.fetch("select from procrastinate_jobs where status = 'aborted'"))


async def test_second_sigterm_ends_the_worker_now_and_its_job_starts_elsewhere(shop: Shop, gate: Path) -> None:
    draining = await shop.start()
    job = await shop.defer("until", gate=str(gate))
    await shop.traced(job, "started")
    other = await shop.start()
    await shop.settled()
    draining.send_signal(signal.SIGTERM)
    await eventually(lambda: shop.fetch("select from queue_workers where draining"))
    draining.send_signal(signal.SIGTERM)
    assert await left(draining) == -signal.SIGTERM
    assert (await shop.traced(job, "started", 2))[1]["pid"] == other.pid


async def test_idle_worker_leaves_nothing_behind(shop: Shop) -> None:
    worker = await shop.start()
    worker.send_signal(signal.SIGTERM)
    assert await left(worker) == 0
    assert await shop.fetch("select from procrastinate_workers") == []
    assert await shop.fetch("select from queue_workers") == []


async def test_worker_without_its_schema_says_so_with_its_exit_status(shop: Shop) -> None:
    await shop.fetch("drop table procrastinate_workers cascade")
    worker = await shop.start(ready=False)
    assert await left(worker) == 1


class DeafConnector(WorkerConnector):
    async def listen_notify(self, on_notification: Notify, channels: Iterable[str]) -> None:
        raise RuntimeError("cannot listen")


async def test_worker_stops_and_fails_when_a_part_of_it_fails(settings: Settings) -> None:
    """Issue #1597: upstream works on without it, in silence, or stops with status 0."""
    app = HardenedApp(connector=DeafConnector(settings.database_url))
    async with app.open_async():
        async with asyncio.timeout(20):
            with pytest.raises(WorkerFailed):
                await app.run_worker_async(install_signal_handlers=False)


async def test_one_shot_worker_runs_what_waits_and_leaves(shop: Shop) -> None:
    job = await shop.defer("quick")
    worker = await shop.start("--one-shot", ready=False)
    assert await left(worker) == 0
    assert len(await shop.traces(job, "done")) == 1
