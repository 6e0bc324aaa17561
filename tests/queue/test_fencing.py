"""The holder of an old attempt cannot end the job, whatever the interleaving of owners."""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

import asyncpg
import pytest
from hypothesis import given
from hypothesis import settings as example_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from procrastinate import jobs

from erp_service.queue.attempts import JobAttempt
from erp_service.queue.connector import WorkerConnector
from erp_service.queue.fencing import FencedJobManager
from erp_service.queue.rescue import Doing, put_back
from erp_service.settings import Settings

T = TypeVar("T")
ENDS = [jobs.Status.SUCCEEDED, jobs.Status.FAILED, jobs.Status.ABORTED]


@pytest.fixture
async def manager(settings: Settings) -> AsyncIterator[FencedJobManager]:
    connector = WorkerConnector(settings.database_url, name="fencing test")
    await connector.open_async()
    yield FencedJobManager(connector)
    await connector.close_async()


async def insert(owner: asyncpg.Connection) -> int:
    query = "insert into procrastinate_jobs (queue_name, task_name, lock) values ('work', 'any', 'lock') returning id"
    return int(await owner.fetchval(query))


async def fetched(manager: FencedJobManager) -> jobs.Job | None:
    return await manager.fetch_job(queues=None, worker_id=await manager.register_worker())


class Owners(RuleBasedStateMachine):
    """Whatever old owners do, only the present owner changes the job. The rules run in a thread of their own."""

    def __init__(self, manager: FencedJobManager, owner: asyncpg.Connection, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.manager, self.owner, self.loop = manager, owner, loop
        self.job = self.do(insert(owner))
        self.runs: list[jobs.Job] = []
        self.status = "todo"

    def do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(20)

    def owns(self, run: jobs.Job) -> bool:
        return self.status == "doing" and run is self.runs[-1]

    @precondition(lambda self: self.status == "todo")
    @rule()
    def fetch(self) -> None:
        job = self.do(fetched(self.manager))
        assert job is not None
        assert job.id == self.job
        assert all(job.attempts > run.attempts for run in self.runs)
        self.runs.append(job)
        self.status = "doing"

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), status=st.sampled_from(ENDS))
    def finish(self, data: st.DataObject, status: jobs.Status) -> None:
        run = data.draw(st.sampled_from(self.runs))
        self.do(self.manager.finish_job(run, status, delete_job=False))
        if self.owns(run):
            self.status = status.value

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        run = data.draw(st.sampled_from(self.runs))
        self.do(self.manager.retry_job(run))
        if self.owns(run):
            self.status = "todo"

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def rescue(self, data: st.DataObject) -> None:
        run = data.draw(st.sampled_from(self.runs))
        doing = Doing(JobAttempt.of(run), run.worker_id, gone=True, silent=False)
        ending = self.do(put_back(self.owner, doing, reason="gone", deaths=1000))
        assert (ending is not None) == self.owns(run)
        if ending:
            self.status = "todo"

    @precondition(lambda self: self.status == "failed")
    @rule()
    def operator_retries(self) -> None:
        query = "select procrastinate_retry_job_v2($1, now(), null, null, null)"
        self.do(self.owner.execute(query, self.job))
        self.status = "todo"

    @invariant()
    def job_is_where_its_owners_left_it(self) -> None:
        query = "select status from procrastinate_jobs where id = $1"
        assert self.do(self.owner.fetchval(query, self.job)) == self.status

    def teardown(self) -> None:
        self.do(self.owner.execute("delete from procrastinate_jobs"))


async def test_attempt_is_the_fence_in_every_order_of_owners(
    manager: FencedJobManager, owner: asyncpg.Connection
) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.to_thread(
        run_state_machine_as_test,
        lambda: Owners(manager, owner, loop),  # type: ignore[arg-type]  # a factory will do
        settings=example_settings(deadline=None, max_examples=20, stateful_step_count=12),
    )


async def test_zombie_does_not_delete_a_job_that_waits_again(
    manager: FencedJobManager, owner: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = await insert(owner)
    zombie = await fetched(manager)
    assert zombie is not None
    await manager.retry_job(zombie)
    with caplog.at_level(logging.WARNING, "erp_service.queue.fencing"):
        await manager.finish_job(zombie, jobs.Status.SUCCEEDED, delete_job=True)
    assert await owner.fetchval("select status from procrastinate_jobs where id = $1", job_id) == "todo"
    assert f"job {job_id}, attempt 1, is no longer ours" in caplog.text


async def test_run_that_a_failover_has_lost_does_not_end_the_one_that_got_its_number(
    manager: FencedJobManager, owner: asyncpg.Connection
) -> None:
    """The standby had the job and lacked its fetch, so another worker fetches the same attempt of it again."""
    job_id = await insert(owner)
    lost = await fetched(manager)
    await owner.execute("update procrastinate_jobs set status = 'todo', worker_id = null")
    again = await fetched(manager)
    assert lost is not None
    assert again is not None
    assert JobAttempt.of(lost) == JobAttempt.of(again)
    await manager.finish_job(lost, jobs.Status.SUCCEEDED, delete_job=True)
    await manager.retry_job(lost)
    assert await owner.fetchval("select status from procrastinate_jobs where id = $1", job_id) == "doing"
    await manager.finish_job(again, jobs.Status.SUCCEEDED, delete_job=True)
    assert await owner.fetchval("select count(*) from procrastinate_jobs") == 0


async def test_worker_that_starts_after_a_failover_does_not_get_the_id_of_one_that_runs(
    manager: FencedJobManager, owner: asyncpg.Connection
) -> None:
    """The sequence may be where it was before the other one started."""
    ids = set()
    for _ in range(3):
        ids.add(await manager.register_worker())
        await owner.execute("select setval('procrastinate_workers_id_seq', 1, false)")
    assert len(ids) == 3
    assert {row["id"] for row in await owner.fetch("select id from procrastinate_workers")} == ids


async def test_cancel_that_came_before_the_retry_wins(manager: FencedJobManager, owner: asyncpg.Connection) -> None:
    job_id = await insert(owner)
    job = await fetched(manager)
    assert job is not None
    await manager.cancel_job_by_id_async(job_id, abort=True)
    await manager.retry_job(job)
    assert await owner.fetchval("select status from procrastinate_jobs where id = $1", job_id) == "aborted"


async def test_retry_waits_by_the_clock_of_the_database(manager: FencedJobManager, owner: asyncpg.Connection) -> None:
    """With a worker's clock an hour fast, a retried job would come back an hour late."""
    await insert(owner)
    job = await fetched(manager)
    assert job is not None
    await manager.retry_job(job)
    assert await owner.fetchval("select scheduled_at <= now() from procrastinate_jobs")


async def test_job_whose_queueing_lock_is_taken_fails_instead_of_staying(
    manager: FencedJobManager, owner: asyncpg.Connection
) -> None:
    """Issue #1446."""
    job_id = await insert(owner)
    await owner.execute("update procrastinate_jobs set queueing_lock = 'twin'")
    job = await fetched(manager)
    assert job is not None
    await owner.execute(
        "insert into procrastinate_jobs (queue_name, task_name, queueing_lock) values ('work', 'any', 'twin')"
    )
    await manager.retry_job(job)
    assert await owner.fetchval("select status from procrastinate_jobs where id = $1", job_id) == "failed"


@pytest.mark.parametrize("rescued", [False, True])
async def test_job_that_is_back_can_be_fetched_while_its_last_worker_is_being_deleted(
    manager: FencedJobManager, owner: asyncpg.Connection, settings: Settings, rescued: bool
) -> None:
    """The foreign key would lock the row meanwhile; a fetch skips locked rows, and nothing would fetch it again."""
    await insert(owner)
    job = await fetched(manager)
    assert job is not None
    if rescued:
        await put_back(
            owner, Doing(JobAttempt.of(job), job.worker_id, gone=True, silent=False), reason="gone", deaths=5
        )
    else:
        await manager.retry_job(job)
    async with owner.transaction():
        await owner.execute("delete from procrastinate_workers where id = $1", job.worker_id)
        assert await fetched(manager) is not None


async def test_two_rescuers_of_one_job_take_it_once(
    manager: FencedJobManager, owner: asyncpg.Connection, settings: Settings
) -> None:
    job_id = await insert(owner)
    job = await fetched(manager)
    assert job is not None
    doing = Doing(JobAttempt.of(job), job.worker_id, gone=True, silent=False)
    async with asyncpg.create_pool(settings.migration_database_url, min_size=4, max_size=4) as pool:

        async def rescue() -> bool:
            async with pool.acquire() as connection:
                return await put_back(connection, doing, reason="gone", deaths=5) is not None

        taken = await asyncio.gather(*(rescue() for _ in range(12)))
    assert sum(taken) == 1
    assert await owner.fetchval("select deaths from queue_deaths where job_id = $1", job_id) == 1
    assert await owner.fetchval("select attempts from procrastinate_jobs") == 1


@given(st.none() | st.integers())
def test_attempt_needs_the_id_of_its_job_and_counts_from_one(job_id: int | None) -> None:
    job = jobs.Job(id=job_id, queue="q", lock=None, queueing_lock=None, task_name="t", attempts=3)
    if job_id is None:
        with pytest.raises(ValueError, match="never deferred"):
            JobAttempt.of(job)
    else:
        assert JobAttempt.of(job) == (job_id, 4)
