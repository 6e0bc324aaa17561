"""Admission of exports: who may run, and when the next one may."""

import asyncio
import contextlib
from uuid import UUID

import asyncpg
import httpx
import pytest
from sqlalchemy import text

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.db.engine import Database
from erp_service.db.outages import DATABASE_ERRORS, is_unavailable
from erp_service.exports import admission, lifecycle, service
from erp_service.exports.lifecycle import Run
from erp_service.exports.problems import ExportFailed, TooManyExports
from erp_service.exports.schemas import ExportRequest
from erp_service.queue.attempts import JobAttempt
from erp_service.settings import Settings
from tests.exports.jobs import JOBS, submitted
from tests.support.company import COMPANY
from tests.support.users import make_user


async def submit(database: Database, user: int) -> UUID:
    async with database.write() as db:
        request = ExportRequest(dataset="items", force_new=True)
        return (await service.submit(db, Principal(user, Role.VIEWER), COMPANY, request)).job.id


async def admitted(owner: asyncpg.Connection, user: int) -> list[asyncpg.Record]:
    return list(
        await owner.fetch(
            "select id, queue_job_id from export_jobs where user_id = $1 and queue_job_id is not null"
            " and status in ('queued', 'running', 'canceling') order by id",
            user,
        )
    )


async def end(database: Database, run: Run) -> None:
    async with database.write() as db:
        assert await lifecycle.claim(db, run, most_running=2)
    async with database.write() as db:
        assert await lifecycle.fail(db, run, ExportFailed(), most_running=2)


async def test_users_take_turns_and_an_end_admits_the_next_in_line(
    database: Database, settings: Settings, owner: asyncpg.Connection
) -> None:
    one, two = await make_user(database, Role.VIEWER), await make_user(database, Role.VIEWER)
    ids = [await submit(database, one) for _ in range(5)]
    others = [await submit(database, two) for _ in range(1)]
    assert [row["id"] for row in await admitted(owner, one)] == ids[:2]
    assert [row["id"] for row in await admitted(owner, two)] == others
    first = (await admitted(owner, one))[0]
    await end(database, Run(first["id"], JobAttempt(first["queue_job_id"], 1)))
    assert [row["id"] for row in await admitted(owner, one)] == ids[1:3]
    assert await owner.fetchval("select count(*) from procrastinate_jobs where status = 'todo'") == 4


async def test_two_ends_at_once_admit_two_and_not_more(
    database: Database, settings: Settings, owner: asyncpg.Connection, user: int
) -> None:
    for _ in range(8):
        await submit(database, user)
    running = await admitted(owner, user)
    await asyncio.gather(*(end(database, Run(row["id"], JobAttempt(row["queue_job_id"], 1))) for row in running))
    assert len(await admitted(owner, user)) == 2


async def test_submissions_at_once_never_pass_the_caps(
    database: Database, settings: Settings, owner: asyncpg.Connection, user: int
) -> None:
    results = await asyncio.gather(*(submit(database, user) for _ in range(30)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, BaseException)]
    assert all(isinstance(result, TooManyExports) for result in refused)
    assert len(results) - len(refused) == COMPANY.exports_running_per_user + COMPANY.exports_waiting_per_user
    assert len(await admitted(owner, user)) == COMPANY.exports_running_per_user


async def test_cap_is_told_with_retry_after(viewer: httpx.AsyncClient, settings: Settings) -> None:
    for _ in range(COMPANY.exports_running_per_user + COMPANY.exports_waiting_per_user):
        await submitted(viewer)
    answer = await viewer.post(JOBS, json={"dataset": "items", "force_new": True})
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.json()["type"] == "/problems/too-many-exports"


async def test_flood_of_one_user_is_refused_without_waiting_for_the_lock_of_all(
    viewer: httpx.AsyncClient, database: Database, settings: Settings
) -> None:
    for _ in range(COMPANY.exports_running_per_user + COMPANY.exports_waiting_per_user):
        await submitted(viewer)
    async with database.write() as another:
        # or the server would end this transaction after five seconds, and a request that waits would get the lock
        await another.execute(text("set local idle_in_transaction_session_timeout to 0"))
        await admission.lock(another)
        refused = await viewer.post(JOBS, json={"dataset": "items", "force_new": True})
        same = await viewer.post(JOBS, json={"dataset": "items"})
    assert refused.status_code == 429
    assert (same.status_code, same.json()["deduplicated"]) == (202, True)


async def test_missed_admissions_are_made_good(
    database: Database, settings: Settings, owner: asyncpg.Connection, user: int
) -> None:
    for _ in range(4):
        await submit(database, user)
    # an export ended, but the admission of the next one was lost
    await owner.execute("update export_jobs set status = 'failed', error = '{}' where queue_job_id is not null")
    async with database.write() as db:
        assert await admission.admit(db, 2) == 2
        assert await admission.admit(db, 2) == 0


async def test_owners_with_the_fewest_running_come_first(
    database: Database, settings: Settings, owner: asyncpg.Connection
) -> None:
    users = [await make_user(database, Role.VIEWER) for _ in range(3)]
    for user in users:
        for _ in range(2):
            await submit(database, user)
    await owner.execute("update export_jobs set queue_job_id = null")
    async with database.write() as db:
        assert await admission.admit(db, 2) == 6
        order = list(
            await db.scalars(
                text("select user_id from export_jobs where queue_job_id is not null order by queue_job_id")
            )
        )
    assert order[:3] == users
    assert order[3:] == users


@pytest.mark.parametrize("ending", ["commit", "rollback"])
async def test_row_and_queue_job_are_there_together_or_not_at_all(
    ending: str, database: Database, settings: Settings, owner: asyncpg.Connection, user: int
) -> None:
    with contextlib.suppress(errors.Unavailable):
        async with database.write() as db:
            await service.submit(db, Principal(user, Role.VIEWER), COMPANY, ExportRequest(dataset="items"))
            if ending == "rollback":
                raise errors.Unavailable
    expected = 1 if ending == "commit" else 0
    assert await owner.fetchval("select count(*) from export_jobs") == expected
    assert await owner.fetchval("select count(*) from procrastinate_jobs") == expected


async def test_process_that_is_paused_while_it_admits_keeps_everybody_waiting(
    database: Database, settings: Settings, user: int
) -> None:
    """It holds the only lock of admission, so nobody can submit, until the server ends its transaction."""

    async def admit_and_pause() -> None:
        async with database.write() as paused:
            await admission.lock(paused)
            # waits for the lock, and fails after ten seconds if the server has not ended the paused transaction
            await submit(database, user)
            await admission.counts(paused)

    with pytest.raises(DATABASE_ERRORS) as caught:
        await admit_and_pause()
    assert is_unavailable(caught.value), "a run that this befalls tries again"


@pytest.mark.parametrize(
    "exc", [asyncpg.InternalClientError("cut off"), asyncpg.IdleInTransactionSessionTimeoutError("paused")]
)
def test_outage_that_looks_like_a_fault_of_the_export(exc: Exception) -> None:
    assert is_unavailable(exc)
