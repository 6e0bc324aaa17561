"""Housekeeping: once a minute one worker prunes old rows of every feature."""

import asyncpg

from erp_service.operations.housekeeping import BATCH
from erp_service.worker_services import WorkerServices
from tests.support.clients import UserClient


async def test_old_records_are_pruned_and_young_ones_kept(
    viewer: UserClient, owner: asyncpg.Connection, worker_services: WorkerServices
) -> None:
    user = viewer.user_id
    for key, age_hours in (("old", 25), ("young", 23)):
        await owner.execute(
            "insert into idempotency (user_id, key, digest, status, headers, body, created_at)"
            " values ($1, $2, '', 200, '{}', '', now() - $3 * interval '1 hour')",
            user,
            key,
            age_hours,
        )
        await owner.execute(
            "insert into rate_limits values ($1, 1, now() - ($2::int - 23) * interval '1 hour')", key, age_hours
        )
    await worker_services.housekeeping.run(worker_services)
    assert [row["key"] for row in await owner.fetch("select key from idempotency")] == ["young"]
    assert [row["key"] for row in await owner.fetch("select key from rate_limits")] == ["young"]


async def test_queue_jobs_that_ended_are_pruned_and_failed_ones_kept_for_a_week(
    owner: asyncpg.Connection, worker_services: WorkerServices
) -> None:
    ends = ["cancelled now", "cancelled 2 hours", "failed 2 hours", "failed 8 days", "todo 8 days"]
    for end in ends:
        status, _, age = end.partition(" ")
        job_id = await owner.fetchval(
            "insert into procrastinate_jobs (queue_name, task_name) values ('exports', $1) returning id", end
        )
        if status == "failed":
            await owner.execute("update procrastinate_jobs set status = 'doing' where id = $1", job_id)
        await owner.execute("update procrastinate_jobs set status = $2 where id = $1", job_id, status)
        if age != "now":
            await owner.execute(
                "update procrastinate_events set at = now() - $2::text::interval where job_id = $1", job_id, age
            )
    await worker_services.housekeeping.run(worker_services)
    kept = [row["task_name"] for row in await owner.fetch("select task_name from procrastinate_jobs order by id")]
    assert kept == ["cancelled now", "failed 2 hours", "todo 8 days"]


async def test_workers_that_died_long_ago_are_pruned_in_more_batches_than_one(
    owner: asyncpg.Connection, worker_services: WorkerServices
) -> None:
    await owner.execute(
        "insert into procrastinate_workers (last_heartbeat) select now() - interval '2 hours'"
        f" from generate_series(1, {BATCH * 2 + 1})"
    )
    alive = await owner.fetchval("insert into procrastinate_workers default values returning id")
    await worker_services.housekeeping.run(worker_services)
    assert [row["id"] for row in await owner.fetch("select id from procrastinate_workers")] == [alive]
