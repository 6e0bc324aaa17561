"""Jobs that are deferred within a transaction over asyncpg."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from procrastinate import Blueprint, exceptions, jobs
from procrastinate.types import JSONDict
from sqlalchemy import text

from erp_service.db.engine import Database
from erp_service.db.outages import DATABASE_ERRORS, is_unavailable
from erp_service.db.sessions import WriteSession
from erp_service.queue.connector import WorkerConnector
from erp_service.queue.fencing import FencedJobManager
from erp_service.queue.jobs import cancel, defer
from erp_service.queue.worker import HardenedApp, HardenedWorker
from erp_service.settings import Settings
from tests.queue.shop import Shop
from tests.support.waiting import eventually

ODD: JSONDict = {"quote": 'it\'s "odd" %s %(x)s $1 :p', "nested": [1, None, {"ключ": "☃"}], "empty": {}}


@asynccontextmanager
async def rolled_back(database: Database) -> AsyncIterator[WriteSession]:
    with suppress(ZeroDivisionError):
        async with database.write() as db:
            yield db
            raise ZeroDivisionError


async def test_job_of_a_rolled_back_transaction_never_was(database: Database, owner: asyncpg.Connection) -> None:
    async with rolled_back(database) as db:
        await defer(db, "any", queue="work", arguments={})
    assert await owner.fetchval("select count(*) from procrastinate_jobs") == 0


async def test_job_arrives_as_it_was_deferred(db: WriteSession) -> None:
    later = datetime.now(UTC) + timedelta(hours=3)
    job_id = await defer(
        db, "any", queue="work", arguments=ODD, priority=7, lock="l'ock", queueing_lock="q", schedule_at=later
    )
    row = (await db.execute(text("select * from procrastinate_jobs where id = :id"), {"id": job_id})).one()
    assert (row.task_name, row.queue_name, row.args, row.priority) == ("any", "work", ODD, 7)
    assert (row.lock, row.queueing_lock, row.scheduled_at, row.status) == ("l'ock", "q", later, "todo")


async def test_conflict_in_a_savepoint_leaves_the_transaction_usable(db: WriteSession) -> None:
    first = await defer(db, "any", queue="work", arguments={}, queueing_lock="only (one), = so")
    with pytest.raises(asyncpg.UniqueViolationError, match="procrastinate_jobs_queueing_lock_idx_v1"):
        async with db.savepoint():
            await defer(db, "any", queue="work", arguments={}, queueing_lock="only (one), = so")
    assert await db.scalars(text("select id from procrastinate_jobs")) == [first]


async def test_lost_connection_while_deferring_that_looked_like_a_fault_of_ours(
    database: Database, owner: asyncpg.Connection
) -> None:
    """Upstream's own exception would be answered with 500, and a worker would not try again."""

    async def deferred() -> None:
        async with database.write() as db:
            pid = await db.scalar(text("select pg_backend_pid()"))
            await owner.execute("select pg_terminate_backend($1, 1000)", pid)
            await defer(db, "any", queue="work", arguments={})

    with pytest.raises(DATABASE_ERRORS) as caught:
        await deferred()
    assert is_unavailable(caught.value)


async def test_other_refusals_of_the_database_are_the_callers_to_know(db: WriteSession) -> None:
    with pytest.raises(asyncpg.StringDataRightTruncationError, match="value too long"):
        async with db.savepoint():
            await defer(db, "any", queue="q" * 129, arguments={})


async def test_cancel_is_part_of_the_transaction_too(database: Database, owner: asyncpg.Connection) -> None:
    async with database.write() as db:
        job_id = await defer(db, "any", queue="work", arguments={})
    async with rolled_back(database) as db:
        assert await cancel(db, job_id)
    assert await owner.fetchval("select status from procrastinate_jobs") == "todo"
    async with database.write() as db:
        assert await cancel(db, job_id)
        assert not await cancel(db, job_id + 1)
    assert await owner.fetchval("select status from procrastinate_jobs") == "cancelled"


async def test_task_of_a_closed_app_is_deferred_in_a_transaction_and_nowhere_else(
    settings: Settings, db: WriteSession
) -> None:
    tasks = Blueprint()

    @tasks.task(name="feature:task", queue="work")
    async def task(n: int) -> None: ...

    for _ in range(2):  # a second app in one process finds the same names
        app = HardenedApp(connector=WorkerConnector(settings.database_url))
        app.gather(tasks)
    assert await defer(db, "feature:task", queue="work", arguments={"n": 1})
    with pytest.raises(exceptions.AppNotOpen):
        await task.defer_async(n=1)
    row = (await db.execute(text("select task_name, args from procrastinate_jobs"))).one()
    assert tuple(row) == ("feature:task", {"n": 1})


async def test_two_features_cannot_share_a_task_name(settings: Settings) -> None:
    app = HardenedApp(connector=WorkerConnector(settings.database_url))
    for _ in range(2):
        feature = Blueprint()
        feature.task(name="feature:task")(print)
        if "feature:task" in app.tasks:
            with pytest.raises(exceptions.TaskAlreadyRegistered, match="feature:task"):
                app.gather(feature)
        else:
            app.gather(feature)


async def test_worker_starts_a_job_right_after_the_commit_and_never_before(shop: Shop) -> None:
    await shop.start("--fetch-job-polling-interval=600")
    async with shop.database.write() as db:
        early = await defer(db, "workshop:quick", queue="work", arguments={})
        # A later job that commits first runs: so the worker is awake, and has not seen the earlier one
        await shop.traced(await shop.defer("quick"), "done")
        assert await shop.traces(early, "done") == []
    await shop.traced(early, "done", seconds=10)


class SlowToAnswer(FencedJobManager):
    """The response to the first fetch, which found no job, arrives after a job was committed and notified."""

    worker: HardenedWorker
    database: Database
    slow = True

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> jobs.Job | None:
        job = await super().fetch_job(queues, worker_id)
        if job is None and self.slow:
            self.slow = False
            # The listener's first notification, then the job's
            await eventually(self.is_awake)
            self.worker._new_job_event.clear()
            async with self.database.write() as db:
                await defer(db, "feature:task", queue="work", arguments={})
            await eventually(self.is_awake)
        return job

    async def is_awake(self) -> bool:
        return self.worker._new_job_event.is_set()


async def test_job_announced_during_a_fetch_does_not_wait_for_the_poll(settings: Settings, database: Database) -> None:
    """Upstream clears its event after the fetch, and so loses a notification that came meanwhile."""
    done = asyncio.Event()
    tasks = Blueprint()

    @tasks.task(name="feature:task")
    async def task() -> None:
        done.set()

    app = HardenedApp(connector=WorkerConnector(settings.database_url))
    app.gather(tasks)
    app.job_manager = manager = SlowToAnswer(app.connector)
    manager.database, manager.worker = (
        database,
        app._worker(fetch_job_polling_interval=600, install_signal_handlers=False),
    )
    async with app.open_async():
        running = asyncio.create_task(manager.worker.run())
        async with asyncio.timeout(20):
            await done.wait()
        manager.worker.stop()  # type: ignore[no-untyped-call]
        await running


async def test_two_workers_run_each_of_twenty_jobs_once(shop: Shop) -> None:
    await shop.start()
    await shop.start()
    jobs = await asyncio.gather(*(shop.defer("quick") for _ in range(20)))
    await eventually(lambda: shop.fetch("select where (select count(distinct job_id) from traces) = 20"))
    await eventually(lambda: shop.fetch("select where not exists (select from procrastinate_jobs)"))
    traces = await shop.fetch("select job_id, count(*) from traces group by 1")
    assert {row["job_id"]: row["count"] for row in traces} == dict.fromkeys(jobs, 1)


async def test_worker_that_starts_while_its_first_connection_is_lost_does_not_end(
    settings: Settings, owner: asyncpg.Connection
) -> None:
    app = HardenedApp(connector=WorkerConnector(settings.listen_url, name="to be cut off"))
    async with app.open_async():
        assert await app.job_manager.prune_stalled_workers(60) == []
        for ask in (lambda: app.job_manager.prune_stalled_workers(60), app.job_manager.register_worker):
            await owner.execute(
                "select pg_terminate_backend(pid, 1000) from pg_stat_activity where application_name = 'to be cut off'"
            )
            await ask()
    assert await owner.fetchval("select count(*) from procrastinate_workers") == 1
