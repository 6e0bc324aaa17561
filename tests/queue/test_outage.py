"""Postgres becomes unavailable in different ways, and the workers recover by themselves."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Literal

import pytest

from erp_service.standalone.postgres import Cluster
from tests.queue.shop import Shop, lifelines, paused
from tests.support.waiting import eventually


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_restart_loses_no_job_runs_none_twice_and_workers_hear_again(
    own_shop: Shop, own_cluster: Cluster, gate: Path, mode: Literal["fast", "immediate"]
) -> None:
    """With a poll of ten minutes, only LISTEN can start a job soon; two workers watch each other all the while."""
    shop = own_shop
    first = await shop.start("--fetch-job-polling-interval=600")
    second = await shop.start("--fetch-job-polling-interval=600")
    await shop.settled()
    running = await shop.defer("until", gate=str(gate))
    await shop.traced(running, "started")

    await asyncio.to_thread(own_cluster.stop, mode)
    await asyncio.to_thread(own_cluster.start)
    await lifelines(shop, 2)
    waiting = [await shop.defer("quick") for _ in range(4)]
    for job in waiting:
        await shop.traced(job, "done")
    # Longer than the grace period, after which they would rescue each other's jobs
    await shop.settled()
    gate.touch()
    await shop.traced(running, "done")
    await eventually(lambda: shop.fetch("select where not exists (select from procrastinate_jobs)"))

    assert len(await shop.traces(running, "started")) == 1
    assert await shop.fetch("select from queue_deaths") == []
    assert first.poll() is None
    assert second.poll() is None


async def test_outage_longer_than_the_threshold_stops_the_run_and_starts_it_anew(
    own_shop: Shop, own_cluster: Cluster, gate: Path
) -> None:
    """A worker whose heartbeats fail for so long must assume that it has been replaced; it goes on working."""
    shop = own_shop
    worker = await shop.start("--fetch-job-polling-interval=600", stalled=2)
    job = await shop.defer("until", gate=str(gate))
    await shop.traced(job, "started")
    await asyncio.to_thread(own_cluster.stop, "fast")

    async def stopped() -> bool:
        return "no heartbeat came through" in shop.log_of(worker)

    await eventually(stopped)
    await asyncio.to_thread(own_cluster.start)
    await shop.traced(job, "TAKEN_OVER")
    assert [row["attempt"] for row in await shop.traced(job, "started", 2)] == [0, 1]
    gate.touch()
    await shop.traced(job, "done")
    assert await shop.fetch("select from queue_deaths") == []
    assert worker.poll() is None


async def test_worker_that_comes_back_late_after_a_restart_is_not_taken_for_dead(
    own_shop: Shop, own_cluster: Cluster, gate: Path
) -> None:
    """A restart frees every lock at once, so during the grace period a missing lock means nothing."""
    shop = own_shop
    patient = partial(shop.start, stalled=600, reconnect_grace=600)
    late = await patient()
    job = await shop.defer("until", gate=str(gate))
    await shop.traced(job, "started")
    with paused(late):
        await asyncio.to_thread(own_cluster.stop, "fast")
        await asyncio.to_thread(own_cluster.start)
        await patient()
        # More than twice the time after which a missing lock counts as a death
        await eventually(
            lambda: shop.value(
                "select bool_or(backend_start < now() - interval '1.2 s') from pg_stat_activity"
                " where application_name = 'erp worker lifeline' and datname = current_database()"
            )
        )
    await lifelines(shop, 2)
    gate.touch()
    await shop.traced(job, "done")
    assert len(await shop.traces(job, "started")) == 1


async def test_job_that_ends_during_an_outage_is_ended_once(own_shop: Shop, own_cluster: Cluster, gate: Path) -> None:
    shop = own_shop
    await shop.start()
    job = await shop.defer("until", gate=str(gate))
    await shop.traced(job, "started")
    await asyncio.to_thread(own_cluster.stop, "fast")
    gate.touch()
    await asyncio.to_thread(own_cluster.start)
    await shop.traced(job, "done")
    await eventually(lambda: shop.fetch("select where not exists (select from procrastinate_jobs)"))
    assert len(await shop.traces(job, "started")) == 1


async def test_worker_that_starts_during_an_outage_waits_and_then_works(own_shop: Shop, own_cluster: Cluster) -> None:
    """psycopg's pool gives up its first attempts, and then nobody tried again: after 30 s the worker ended."""
    shop = own_shop
    await asyncio.to_thread(own_cluster.stop, "fast")
    worker = await shop.start(ready=False)

    async def has_given_up() -> bool:
        return "reconnection attempt in pool" in shop.log_of(worker)

    await eventually(has_given_up)
    await asyncio.to_thread(own_cluster.start)
    await lifelines(shop, 1)
    await shop.traced(await shop.defer("quick"), "done")
    assert worker.poll() is None


async def test_every_backend_terminated_at_once_stops_no_worker(shop: Shop, gate: Path) -> None:
    """Upstream dies when a pooled connection ends between its check and its use."""
    workers = [await shop.start("--fetch-job-polling-interval=600") for _ in range(2)]
    await shop.settled()
    job = await shop.defer("until", gate=str(gate))
    await shop.traced(job, "started")
    for _ in range(3):
        await shop.fetch(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid() and usename like 'erp\\_%'"
        )
        await lifelines(shop, 2)
        await shop.traced(await shop.defer("quick"), "done")
    gate.touch()
    await shop.traced(job, "done")
    assert len(await shop.traces(job, "started")) == 1
    assert [worker.poll() for worker in workers] == [None, None]


async def test_terminated_listener_hears_again_and_of_what_it_missed(shop: Shop) -> None:
    await shop.start("--fetch-job-polling-interval=600")
    await shop.traced(await shop.defer("quick"), "done")
    for _ in range(5):
        terminated = await shop.fetch(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and query like 'LISTEN%'"
        )
        job = await shop.defer("quick")
        await shop.traced(job, "done", seconds=10)
        assert terminated
        await eventually(
            lambda: shop.fetch(
                "select from pg_stat_activity where datname = current_database() and query like 'LISTEN%'"
            )
        )
