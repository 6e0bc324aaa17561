"""How many statements a submission sends. Each is a round trip, and the last ones are sent under the lock of all."""

import asyncio
from collections.abc import Iterator

import asyncpg
import httpx
import pytest
from litestar import Litestar

from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.db.engine import Database
from erp_service.exports import admission, service
from erp_service.exports.planning import planner
from erp_service.exports.schemas import ExportRequest
from erp_service.settings import Settings
from tests.exports.data import many_items
from tests.exports.jobs import JOBS, submitted
from tests.support.company import COMPANY
from tests.support.statements import noting_statements

MOST = 11  # for one dataset as CSV
PLAIN = [
    "own exports",
    "kept files",
    "savepoint",
    "timeouts",
    "explain",
    "rollback to savepoint",
    "lock",
    "own exports",
    "defer",
    "insert export",
    "insert audit entry",
]
MEANING = {
    "WITH": "own exports",
    "SELECT counts": "own exports",
    "select coalesce((select bytes": "kept files",
    "savepoint": "savepoint",
    "select set_config": "timeouts",
    "explain": "explain",
    "rollback to savepoint": "rollback to savepoint",
    "select pg_advisory_xact_lock": "lock",
    "select unnest(procrastinate_defer_jobs_v1": "defer",
    "INSERT INTO export_jobs": "insert export",
    "insert into audit_log": "insert audit entry",
    "select count(*)": "count",
    "with recursive owners": "admissible",
    "UPDATE export_jobs": "update export",
    "SELECT export_jobs": "read export",
}


def meaning(statement: str) -> str:
    words = " ".join(statement.split())
    return next((name for start, name in MEANING.items() if words.startswith(start)), words)


@pytest.fixture
def statements(app: Litestar) -> Iterator[list[str]]:
    """What the transactions of the app send, without BEGIN and COMMIT; the look-up of a role has a connection of its
    own, in autocommit, and is often spared by a cache."""
    sent: list[str] = []
    with noting_statements(lambda statement: sent.append(meaning(statement.text)), in_transactions=True):
        yield sent


async def test_plain_submission_sends_no_statement_twice_that_need_not_be(
    viewer: httpx.AsyncClient, statements: list[str]
) -> None:
    answer = await viewer.post(JOBS, json={"dataset": "items"})
    assert answer.status_code == 202
    assert statements == PLAIN
    assert len(statements) <= MOST


async def test_submission_that_waits_for_admission_puts_nothing_into_the_queue(
    viewer: httpx.AsyncClient, settings: Settings, statements: list[str]
) -> None:
    for _ in range(COMPANY.exports_running_per_user):
        await submitted(viewer)
    statements.clear()
    await submitted(viewer)
    assert statements == [name for name in PLAIN if name != "defer"]


async def test_same_request_again_is_one_statement(viewer: httpx.AsyncClient, statements: list[str]) -> None:
    await viewer.post(JOBS, json={"dataset": "items"})
    statements.clear()
    assert (await viewer.post(JOBS, json={"dataset": "items"})).json()["deduplicated"]
    assert statements == ["own exports"]


async def test_sheet_is_planned_once_and_counted_only_near_its_limit(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, statements: list[str]
) -> None:
    await many_items(owner, 1_000)
    await owner.execute("analyze items")
    await submitted(viewer, format="xlsx")
    assert statements == PLAIN
    # 300,000 rows, none of them stored: more than a quarter of what a sheet holds
    await owner.execute(
        "alter table items rename to items_table;"
        " create view items as select items_table.* from items_table, generate_series(1, 300);"
        " grant select on items to public"
    )
    statements.clear()
    await submitted(viewer, format="xlsx")
    assert statements == [*PLAIN[:6], "count", *PLAIN[6:]]


async def test_all_datasets_are_planned_in_one_savepoint(viewer: httpx.AsyncClient, statements: list[str]) -> None:
    answer = await viewer.post(JOBS, json={"dataset": "all"})
    assert answer.status_code == 202
    datasets = 5
    assert statements == [*PLAIN[:4], *["explain"] * datasets, *PLAIN[5:]]


async def test_retry_reads_the_old_job_and_is_else_a_submission(
    viewer: httpx.AsyncClient, statements: list[str]
) -> None:
    old = await submitted(viewer)
    await viewer.post(f"{JOBS}/{old}/cancel")
    statements.clear()
    assert (await viewer.post(f"{JOBS}/{old}/retry")).status_code == 202
    assert statements == ["read export", *PLAIN]


async def test_estimate_plans_once(viewer: httpx.AsyncClient, statements: list[str]) -> None:
    assert (await viewer.post("/api/v1/exports/estimates", json={"dataset": "items", "format": "xlsx"})).is_success
    assert statements.count("explain") == 1


async def test_submission_of_a_sheet_is_not_held_up_by_a_table_that_is_being_altered(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, statements: list[str]
) -> None:
    async with owner.transaction():
        await owner.execute("lock table items in access exclusive mode")
        await submitted(viewer, format="xlsx")
    assert statements == PLAIN
    assert not await owner.fetchval("select is_small from export_jobs")


async def test_planner_leaves_neither_timeouts_nor_locks_on_tables_behind(database: Database) -> None:
    settings = "select current_setting('lock_timeout'), current_setting('statement_timeout')"
    locks = "select count(*) from pg_locks where relation = 'items'::regclass and pid = pg_backend_pid()"
    async with database.write() as db:
        before = await db.fetch(settings)
        assert await planner.with_short_timeouts(db, lambda: db.fetch("select from items")) == []
        assert await db.fetch(settings) == before
        assert await db.fetch_value(locks) == 0
        # what fails is no answer, and the transaction goes on
        assert await planner.with_short_timeouts(db, lambda: db.fetch("select from nothing")) is None
        assert await db.fetch(settings) == before


async def test_same_request_many_times_at_once_is_one_job(viewer: httpx.AsyncClient, owner: asyncpg.Connection) -> None:
    answers = await asyncio.gather(*(viewer.post(JOBS, json={"dataset": "items"}) for _ in range(8)))
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sorted(answer.json()["deduplicated"] for answer in answers) == [False] + [True] * 7
    assert await owner.fetchval("select count(*) from export_jobs") == 1


async def test_submission_makes_good_an_admission_of_its_owner_that_was_missed(
    database: Database, settings: Settings, owner: asyncpg.Connection, user: int
) -> None:
    who, request = Principal(user, Role.VIEWER), ExportRequest(dataset="items", force_new=True)

    async def submit() -> int:
        async with database.write() as db:
            return (await service.submit(db, who, COMPANY, request)).version

    for _ in range(COMPANY.exports_running_per_user + 1):
        await submit()
    # an end whose admission was lost: the one that waits must pass the new one
    await owner.execute(
        "update export_jobs set status = 'canceled' where id = (select min(id::text)::uuid from export_jobs)"
    )
    version = await submit()
    rows = await owner.fetch("select queue_job_id, version from export_jobs where status = 'queued' order by id")
    assert [row["queue_job_id"] is not None for row in rows] == [True, True, False]
    assert version == rows[-1]["version"]
    async with database.write() as db:
        assert await admission.admit(db, COMPANY.exports_running_per_user) == 0
