"""The states of an export and the trigger that guards them; fencing of old attempts."""

import asyncio
import itertools
from uuid import UUID

import asyncpg
import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from uuid_utils.compat import uuid7

from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.db.engine import Database
from erp_service.exports import lifecycle, service
from erp_service.exports.lifecycle import CancelRequested, LostOwnership, Published, Run
from erp_service.exports.models import ExportJob, Status
from erp_service.exports.problems import ExportFailed
from erp_service.exports.schemas import ExportRequest
from erp_service.exports.storage.base import FileKey
from erp_service.queue.attempts import JobAttempt
from erp_service.settings import Settings
from tests.exports.attempts import again
from tests.exports.jobs import row_of
from tests.support.company import COMPANY

# all transitions of the contract
ALLOWED = {
    ("queued", "running"),
    ("queued", "canceled"),
    ("queued", "failed"),
    ("running", "succeeded"),
    ("running", "failed"),
    ("running", "canceling"),
    ("running", "queued"),
    ("canceling", "canceled"),
    ("succeeded", "expired"),
}
WAYS = {
    "queued": [],
    "running": ["running"],
    "canceling": ["running", "canceling"],
    "succeeded": ["running", "succeeded"],
    "failed": ["failed"],
    "canceled": ["canceled"],
    "expired": ["running", "succeeded", "expired"],
}
STATUSES = sorted(WAYS)
RESULT = {
    "result_rows": "1",
    "result_bytes": "2",
    "sha256": f"'{'a' * 64}'",
    "file_key": "'k'",
    "media_type": "'m'",
    "filename": "'f'",
    "expires_at": "'2026-01-02Z'",
    "snapshot_at": "'2026-01-01Z'",
}


async def insert_job(owner: asyncpg.Connection, user: int) -> UUID:
    export_id = uuid7()
    await owner.execute(
        "insert into export_jobs (id, user_id, dataset, format, compression, spec, retention_hours)"
        " values ($1::text::uuid, $2, 'items', 'csv', 'none', '{}', 1)",
        str(export_id),
        user,
    )
    return UUID(str(export_id))


async def go(owner: asyncpg.Connection, export_id: UUID, status: str) -> None:
    # only what the transition itself needs, so that a refusal has no other reason
    also = "".join(f", {name} = {value}" for name, value in RESULT.items()) if status == "succeeded" else ""
    error = "'{}'::jsonb" if status == "failed" else "null"
    await owner.execute(f"update export_jobs set status = $2, error = {error}{also} where id = $1", export_id, status)


async def tried(owner: asyncpg.Connection, export_id: UUID, status: str) -> bool:
    """Whether the database allowed it; a refusal must come from the trigger, and change nothing."""
    before = await row_of(owner, export_id)
    try:
        await go(owner, export_id, status)
    except asyncpg.CheckViolationError as exc:
        refused = exc.constraint_name
    else:
        refused = None
    if refused is not None:
        assert refused == "export_jobs_transition"
        assert await row_of(owner, export_id) == before
        return False
    assert (await row_of(owner, export_id))["status"] == status
    return True


async def test_database_allows_exactly_the_transitions_of_the_contract(owner: asyncpg.Connection, user: int) -> None:
    for old, new in itertools.product(STATUSES, STATUSES):
        export_id = await insert_job(owner, user)
        for step in WAYS[old]:
            await go(owner, export_id, step)
        assert await tried(owner, export_id, new) is (old == new or (old, new) in ALLOWED), (old, new)


async def test_database_and_model_agree_on_any_walk(owner: asyncpg.Connection, user: int) -> None:
    async def walk(steps: list[str]) -> None:
        state, export_id = "queued", await insert_job(owner, user)
        for step in steps:
            allowed = step == state or (state, step) in ALLOWED
            assert await tried(owner, export_id, step) is allowed, (state, step)
            state = step if allowed else state

    loop = asyncio.get_running_loop()

    @given(st.lists(st.sampled_from(STATUSES), max_size=10))
    @hypothesis.settings(max_examples=60, deadline=None)
    def walks(steps: list[str]) -> None:
        asyncio.run_coroutine_threadsafe(walk(steps), loop).result(30)

    await asyncio.to_thread(walks)


async def test_export_begins_queued(owner: asyncpg.Connection, user: int) -> None:
    export_id = await insert_job(owner, user)
    copy = "insert into export_jobs (id, user_id, dataset, format, compression, spec, retention_hours, status)"
    values = " select gen_random_uuid(), user_id, dataset, format, compression, spec, retention_hours, $2"
    for status in sorted(set(STATUSES) - {"queued"}):
        with pytest.raises(asyncpg.CheckViolationError):
            await owner.execute(copy + values + " from export_jobs where id = $1", export_id, status)


async def test_database_refuses_a_success_without_its_result(owner: asyncpg.Connection, user: int) -> None:
    for missing in RESULT:
        export_id = await insert_job(owner, user)
        await go(owner, export_id, "running")
        result = ", ".join(f"{name} = {value}" for name, value in RESULT.items() if name != missing)
        with pytest.raises(asyncpg.CheckViolationError) as refused:
            await owner.execute(f"update export_jobs set status = 'succeeded', {result} where id = $1", export_id)
        assert refused.value.constraint_name == "export_jobs_whole"


async def test_database_refuses_to_change_a_published_result(owner: asyncpg.Connection, user: int) -> None:
    export_id = await insert_job(owner, user)
    for status in ("running", "succeeded"):
        await go(owner, export_id, status)
    for change in ("result_rows = 9", "result_bytes = 9", "sha256 = repeat('b', 64)", "attempt = 9"):
        with pytest.raises(asyncpg.CheckViolationError):
            await owner.execute(f"update export_jobs set {change} where id = $1", export_id)


async def test_database_refuses_an_attempt_that_goes_back(owner: asyncpg.Connection, user: int) -> None:
    export_id = await insert_job(owner, user)
    await owner.execute("update export_jobs set attempt = 3 where id = $1", export_id)
    with pytest.raises(asyncpg.CheckViolationError):
        await owner.execute("update export_jobs set attempt = 2 where id = $1", export_id)


async def test_status_change_is_told_and_progress_raises_the_version(owner: asyncpg.Connection, user: int) -> None:
    heard: list[str] = []
    await owner.add_listener("erp_exports", lambda *said: heard.append(said[3]))
    export_id = await insert_job(owner, user)
    await go(owner, export_id, "running")
    await owner.execute("update export_jobs set rows_done = 5 where id = $1", export_id)
    await owner.execute("update export_jobs set status = status where id = $1", export_id)
    assert heard == [str(export_id)]
    assert (await row_of(owner, export_id))["version"] == 4


# The fence.


@pytest.fixture
async def run(database: Database, settings: Settings, user: int) -> Run:
    """An admitted export, as the first attempt of its queue job."""
    async with database.write() as db:
        who = Principal(user, Role.VIEWER)
        shown = await service.submit(db, who, COMPANY, ExportRequest(dataset="items"))
        job_id = await db.scalar(select(ExportJob.queue_job_id).where(ExportJob.id == shown.job.id))
    assert job_id is not None
    return Run(shown.job.id, JobAttempt(job_id, 1))


async def claimed(database: Database, run: Run) -> bool:
    async with database.write() as db:
        return await lifecycle.claim(db, run, most_running=2) is not None


async def publish(database: Database, run: Run) -> None:
    async with database.write() as db:
        at = await db.scalar(select(ExportJob.created_at).where(ExportJob.id == run.id))
        assert at is not None
        key = FileKey(run.id, run.attempt, "csv")
        file = Published(key, 1, 2, "a" * 64, at, "text/csv", "f.csv")
        await lifecycle.publish(db, run, file, retention_hours=1, most_running=2, most_bytes=10**12)


async def test_claim_needs_its_own_queue_job_and_a_greater_attempt(database: Database, run: Run) -> None:
    assert not await claimed(database, Run(run.id, JobAttempt(run.queue_job_id + 1, 1)))
    assert await claimed(database, run)
    assert not await claimed(database, run), "the same attempt twice"
    assert await claimed(database, again(run))
    assert not await claimed(database, run)


async def test_paused_worker_cannot_publish_over_its_rescuer(
    database: Database, run: Run, owner: asyncpg.Connection
) -> None:
    rescuer = again(run)
    assert await claimed(database, run)
    assert await claimed(database, rescuer)
    with pytest.raises(LostOwnership):
        await publish(database, run)
    async with database.write() as db:
        with pytest.raises(LostOwnership):
            await lifecycle.advance(db, run, rows=99, bytes_=99)
        assert not await lifecycle.fail(db, run, ExportFailed(), most_running=2)
        assert not await lifecycle.cancel(db, run, most_running=2)
        assert not await lifecycle.requeue(db, run, most_running=2)
    row = await row_of(owner, run.id)
    assert (row["status"], row["attempt"], row["rows_done"]) == ("running", 2, 0)
    await publish(database, rescuer)
    with pytest.raises(LostOwnership):
        await publish(database, run)
    assert (await row_of(owner, run.id))["file_key"] == f"{run.id}.2.csv"


async def test_cancel_that_came_first_wins_over_publish_fail_and_requeue(
    database: Database, run: Run, owner: asyncpg.Connection
) -> None:
    assert await claimed(database, run)
    await go(owner, run.id, "canceling")
    with pytest.raises(CancelRequested):
        await publish(database, run)
    async with database.write() as db:
        assert await lifecycle.fail(db, run, ExportFailed(), most_running=2)
    assert (await row_of(owner, run.id))["status"] == "canceled"


async def test_cancel_of_a_dead_worker_is_answered_by_the_next_attempt(
    database: Database, run: Run, owner: asyncpg.Connection
) -> None:
    assert await claimed(database, run)
    await go(owner, run.id, "canceling")
    assert not await claimed(database, again(run))
    assert (await row_of(owner, run.id))["status"] == "canceled"


async def test_export_whose_queue_job_was_given_up_fails_with_a_problem(
    database: Database, run: Run, owner: asyncpg.Connection
) -> None:
    assert await claimed(database, run)
    async with database.write() as db:
        assert await lifecycle.abandon(db, run.queue_job_id, most_running=2)
        assert not await lifecycle.abandon(db, run.queue_job_id, most_running=2)
    row = await row_of(owner, run.id)
    assert row["status"] == "failed"
    assert "/problems/export-abandoned" in row["error"]


async def test_requeued_export_keeps_its_place_and_runs_again(
    database: Database, run: Run, owner: asyncpg.Connection
) -> None:
    assert await claimed(database, run)
    async with database.write() as db:
        assert await lifecycle.requeue(db, run, most_running=2)
    row = await row_of(owner, run.id)
    assert (row["status"], row["queue_job_id"]) == (Status.QUEUED, run.queue_job_id)
    assert await claimed(database, again(run))
