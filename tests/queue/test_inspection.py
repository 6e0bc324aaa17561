"""The view of the queue for operators, and their actions on it."""

import signal
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from erp_service import errors
from erp_service.access.principals import command
from erp_service.db import locks
from erp_service.db.engine import Database
from erp_service.operations import queue_overview as operators
from erp_service.operations.jobs.service import cancel_job, retry_job
from erp_service.queue import inspection
from erp_service.queue.jobs import defer
from erp_service.queue.rescue import beat
from erp_service.settings import Settings
from tests.queue.shop import Shop
from tests.support.clients import SignIn, UserClient
from tests.support.waiting import eventually

OPERATOR = command("erp queue")
JOBS = "/api/v1/exports/jobs"


async def end(owner: asyncpg.Connection, job_id: int, status: str = "failed") -> None:
    await owner.execute("update procrastinate_jobs set status = 'doing' where id = $1", job_id)
    await owner.execute(
        "select procrastinate_finish_job_v1($1, $2::text::procrastinate_job_status, false)", job_id, status
    )


async def deferred(database: Database, **more: str) -> int:
    async with database.write() as db:
        return await defer(db, "nothing", queue="work", arguments={}, **more)  # type: ignore[arg-type]


async def seen(database: Database, *, stalled: float = 30) -> list[inspection.JobNow]:
    async with database.read() as db:
        return await inspection.jobs(db, stalled=stalled)


async def test_worker_that_lives_and_the_one_that_was_killed(shop: Shop, database: Database) -> None:
    alive, dead = await shop.start(), await shop.start()
    dead.send_signal(signal.SIGKILL)
    dead.wait()

    async def one_is_gone() -> dict[int | None, inspection.WorkerNow] | None:
        async with database.read() as db:
            workers = {worker.pid: worker for worker in await inspection.workers(db)}
        return workers if {worker.holds_lock for worker in workers.values()} == {True, False} else None

    workers = await eventually(one_is_gone)
    assert workers is not None
    assert workers[alive.pid].holds_lock
    assert not workers[dead.pid].holds_lock
    assert workers[alive.pid].heartbeat_age < 20
    assert not workers[alive.pid].draining


@pytest.mark.parametrize(("age", "lock", "stalled"), [(0, True, None), (60, True, "silent"), (0, False, "gone")])
async def test_job_that_looks_well_while_its_worker_does_not(
    owner: asyncpg.Connection, database: Database, age: int, lock: bool, stalled: str | None
) -> None:
    await beat(owner, 7, draining=False)
    await owner.execute("update procrastinate_workers set last_heartbeat = now() - $1 * interval '1 s'", age)
    if lock:
        await locks.hold_for_worker(owner, 7)
    job_id = await deferred(database)
    assert [(job.id, job.status, job.stalled) for job in await seen(database)] == [(job_id, "todo", None)]
    await owner.execute("update procrastinate_jobs set status = 'doing', worker_id = 7")
    (job,) = await seen(database)
    assert (job.id, job.status, job.worker_id, job.attempt, job.stalled) == (job_id, "doing", 7, 1, stalled)
    assert 0 <= job.seconds < 20
    async with database.read() as db:
        assert [worker.running for worker in await inspection.workers(db)] == [1]


async def test_oldest_that_waits_is_the_first_that_could_begin(owner: asyncpg.Connection, database: Database) -> None:
    async with database.read() as db:
        assert await inspection.waiting(db) == (0, None)
    first, later, tomorrow = [await deferred(database) for _ in range(3)]
    await owner.execute("update procrastinate_events set at = now() - interval '90 s' where job_id = $1", first)
    await owner.execute("update procrastinate_events set at = now() - interval '2 h' where job_id = $1", later)
    await owner.execute("update procrastinate_jobs set scheduled_at = now() - interval '5 s' where id = $1", later)
    await owner.execute("update procrastinate_jobs set scheduled_at = now() + interval '1 d' where id = $1", tomorrow)
    async with database.read() as db:
        many, oldest = await inspection.waiting(db)
    assert many == 2
    assert oldest is not None
    assert 90 <= oldest < 110
    assert [job.id for job in await seen(database)] == [first, later]


async def test_job_that_failed_is_shown_with_its_deaths_and_tried_again(
    owner: asyncpg.Connection, database: Database, settings: Settings
) -> None:
    job_id = await deferred(database)
    await end(owner, job_id)
    await owner.execute("insert into queue_deaths (job_id, deaths, last_reason) values ($1, 5, 'gone')", job_id)
    async with database.read() as db:
        (failed,), (death,) = await inspection.failed(db), await inspection.deaths(db)
    assert (failed.id, failed.deaths, death.job_id, death.last_reason) == (job_id, 5, job_id, "gone")
    assert failed.at is not None
    async with database.write() as db:
        assert "waits again" in (await retry_job(db, OPERATOR, job_id)).said
    assert await owner.fetchval("select status from procrastinate_jobs") == "todo"
    entry = await owner.fetchrow("select user_id, action, request_id from audit_log")
    assert tuple(entry) == (None, "job.retried", "erp queue")
    async with database.write() as db:
        with pytest.raises(inspection.NotFailed, match="todo"):
            await retry_job(db, OPERATOR, job_id)


async def test_jobs_that_cannot_be_canceled_are_refused_with_a_reason(
    owner: asyncpg.Connection, database: Database, settings: Settings
) -> None:
    job_id = await deferred(database)
    async with database.write() as db:
        assert "canceled" in (await cancel_job(db, OPERATOR, job_id)).said
        with pytest.raises(inspection.Ended, match="cancelled"):
            await cancel_job(db, OPERATOR, job_id)
        for unknown in (job_id + 1, uuid4()):
            with pytest.raises(errors.NotFound, match=str(unknown)):
                await cancel_job(db, OPERATOR, unknown)
            with pytest.raises(errors.NotFound, match=str(unknown)):
                await retry_job(db, OPERATOR, unknown)


async def test_export_is_canceled_by_either_name_and_tried_again_for_its_owner(
    viewer: UserClient, owner: asyncpg.Connection, database: Database, settings: Settings
) -> None:
    submitted = [await viewer.post(JOBS, json={"dataset": "items", "force_new": True}) for _ in range(3)]
    ids = [UUID(answer.json()["id"]) for answer in submitted]
    async with database.read() as db:
        seen = await operators.read_overview(db, settings)
    assert [(e.owner, e.dataset) for e in seen.exports] == [(seen.owners[0].owner, "items")] * 2
    assert (seen.owners[0].admitted, seen.owners[0].waiting) == (2, 1)
    number = await owner.fetchval("select queue_job_id from export_jobs where id = $1", ids[0])
    for name in (number, ids[1], ids[2]):
        async with database.write() as db:
            assert "canceled" in (await cancel_job(db, OPERATOR, name)).said
    assert {row["status"] for row in await owner.fetch("select status from export_jobs")} == {"canceled"}
    async with database.write() as db:
        said = (await retry_job(db, OPERATOR, number)).said
    new = (await viewer.get(JOBS)).json()["items"][0]
    assert new["id"] in said
    assert (new["status"], new["retry_of"]) == ("queued", str(ids[0]))
    asked = await owner.fetch(
        "select action, user_id, on_behalf_of from audit_log where request_id = 'erp queue' order by id"
    )
    user = viewer.user_id
    assert [tuple(row) for row in asked] == [
        *[("export.canceled", None, user)] * 3,
        ("export.submitted", None, user),
        ("export.retried", None, user),
    ]


async def test_export_of_somebody_who_has_left_is_not_tried_again(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, database: Database, settings: Settings
) -> None:
    export_id = UUID((await viewer.post(JOBS, json={"dataset": "items"})).json()["id"])
    async with database.write() as db:
        await cancel_job(db, OPERATOR, export_id)
    await owner.execute("update users set is_active = false")
    async with database.write() as db:
        with pytest.raises(errors.Forbidden, match="no longer active"):
            await retry_job(db, OPERATOR, export_id)


async def test_failed_exports_are_shown_with_their_reason(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, database: Database, settings: Settings
) -> None:
    await viewer.post(JOBS, json={"dataset": "items"})
    await owner.execute(
        "update export_jobs set status = 'failed', finished_at = now(),"
        """ error = '{"type": "/problems/export-store-full", "title": "The export store is full"}'"""
    )
    async with database.read() as db:
        (failed,) = (await operators.read_overview(db, settings)).failed_exports
    assert (failed.problem, failed.reason) == ("/problems/export-store-full", "The export store is full")


async def test_scaling_says_what_waits_and_for_whom(
    sign_in: SignIn, admin: httpx.AsyncClient, viewer: httpx.AsyncClient, owner: asyncpg.Connection
) -> None:
    for _ in range(3):
        await viewer.post(JOBS, json={"dataset": "items", "force_new": True})
    await beat(owner, 7, draining=True)
    assert (await viewer.get("/health/scaling")).status_code == 403

    async def look() -> dict[str, Any] | None:
        found = (await admin.get("/health/scaling")).json()
        # the listener of the app under test may connect later
        return found if found["instances"] == 1 else None

    said = await eventually(look)
    assert said is not None
    assert (said["queue_depth"], said["running_exports"], said["waiting_exports"]) == (2, 0, 1)
    assert isinstance(said["oldest_export"], float)
    assert isinstance(said["oldest_waiting"], float)
    (worker,) = said["workers"]
    assert (worker["id"], worker["draining"], worker["holds_lock"]) == (7, True, False)
