"""The cost of each statement after ten thousand exports, in pages touched: the machine's load does not change it."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.db.engine import Database
from erp_service.db.sessions import Session, WriteSession
from erp_service.exports import queries, service
from erp_service.exports.models import Status
from erp_service.exports.schemas import ExportRequest
from erp_service.queue.jobs import defer
from erp_service.registry.housekeeping import Pruning
from erp_service.settings import Settings
from erp_service.worker_services import WorkerServices
from tests.support.company import COMPANY
from tests.support.statements import Statement, sent_statements

MANY = 10_000
EXPLAIN = "explain (analyze, buffers, format json) "
# a B-tree grows by a level or two up to a million rows, and a statement uses several
MOST_GROWTH = 2.0
MOST_MORE = 10

HISTORY = """
insert into procrastinate_workers (id, last_heartbeat) overriding system value
  select -n, now() - interval '1 day' from generate_series(1, 200) n;
insert into procrastinate_jobs (queue_name, task_name, args, worker_id)
  select 'exports', 'exports:run', '{}', -1 - n % 200 from generate_series(1, 10000) n;
update procrastinate_jobs set status = 'doing';
update procrastinate_jobs
  set status = (case when id % 10 = 0 then 'failed' else 'succeeded' end)::procrastinate_job_status;
update procrastinate_events set at = at - interval '2 hours';
alter table export_jobs disable trigger export_jobs_guard;
insert into export_jobs (id, user_id, dataset, format, compression, spec, retention_hours, status, attempt,
    queue_job_id, finished_at, expires_at, snapshot_at, result_rows, result_bytes, sha256, media_type,
    filename, file_key, error)
  select ('00000000-0000-7000-8000-' || lpad(id::text, 12, '0'))::uuid, (select min(id) from users), 'items', 'csv',
    'none', '{}', 72, case status when 'failed' then 'failed' else 'succeeded' end, 1, id, now(),
    now() + interval '1 day', now(), 1, 1, repeat('0', 64), 'text/csv', 'items.csv', id::text,
    case status when 'failed' then '{}'::jsonb end
  from procrastinate_jobs;
alter table export_jobs enable trigger export_jobs_guard;
vacuum (analyze) export_jobs; vacuum (analyze) procrastinate_jobs; vacuum (analyze) procrastinate_events;
vacuum (analyze) procrastinate_workers
"""


async def live_long(owner: asyncpg.Connection) -> None:
    # one by one: VACUUM cannot run in a transaction, and several statements in one string are one
    for statement in HISTORY.split(";"):
        await owner.execute(statement)


def touched(plan: dict[str, Any]) -> int:
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


async def pages(database: Database, work: Callable[[WriteSession], Awaitable[object]]) -> int:
    """The number of pages that the statements of `work` touch, as the server counts them; all is rolled back."""

    async def sent() -> list[Statement]:
        async with database.write() as db, db.savepoint(keep=False):
            with sent_statements(in_transactions=True) as statements:
                await work(db)
        return statements

    async def count(statements: list[Statement]) -> int:
        total = 0
        async with database.write() as db, db.savepoint(keep=False):
            for statement in statements:
                word = statement.text.split()[0].lower()
                if word in ("savepoint", "release", "rollback", "set"):
                    await db.run(statement.text)
                elif word != "explain":
                    answer = await db.fetch_value(EXPLAIN + statement.text, *statement.parameters)
                    total += touched(json.loads(answer)[0]["Plan"])
        return total

    statements = await sent()
    # measured the second time, since the first fills the server's catalogue caches
    await count(statements)
    return await count(statements)


@pytest.fixture
async def who(user: int) -> Principal:
    return Principal(user, Role.ADMIN)


async def all_costs(database: Database, settings: Settings, who: Principal) -> dict[str, int]:
    def listed(**chosen: Any) -> Callable[[Session], Awaitable[object]]:
        given = {"mine": True, "status": None, "dataset": None, "include_deleted": False, "limit": 20, "cursor": None}
        return lambda db: queries.jobs(db, who, **{**given, **chosen})

    async def submit(db: WriteSession) -> None:
        await service.submit(db, who, COMPANY, ExportRequest(dataset="items"))

    async def fetch(db: WriteSession) -> None:
        await defer(db, "exports:run", queue="exports", arguments={})
        await db.run("select procrastinate_fetch_job_v2(null, null)")

    works: dict[str, Callable[[WriteSession], Awaitable[object]]] = {
        "submit": submit,
        "fetch": fetch,
        "list": listed(),
        "list what runs": listed(status=Status.RUNNING),
        "list everybody's": listed(mine=False),
    }
    return {name: await pages(database, work) for name, work in works.items()}


async def test_submit_fetch_and_list_that_cost_more_with_every_export_ever_made(
    database: Database, settings: Settings, owner: asyncpg.Connection, who: Principal
) -> None:
    await owner.execute("vacuum (analyze) export_jobs")
    first_day = await all_costs(database, settings, who)
    await live_long(owner)
    later = await all_costs(database, settings, who)
    grown = {
        name: (pages, later[name]) for name, pages in first_day.items() if later[name] > MOST_GROWTH * pages + MOST_MORE
    }
    assert not grown, f"pages touched on the first day, and {MANY} exports later: {grown}"


async def test_workers_row_that_is_deleted_at_the_cost_of_reading_the_whole_queue(
    owner: asyncpg.Connection, who: Principal
) -> None:
    """Issue #1454: the foreign key looks for the worker's jobs, of which only those that are done have an index."""
    await live_long(owner)
    counters = "select seq_scan, n_tup_upd from pg_stat_xact_user_tables where relname = 'procrastinate_jobs'"
    async with owner.transaction():
        # they include what this session has not yet reported of earlier transactions
        before = await owner.fetchrow(counters)
        await owner.execute("delete from procrastinate_workers where id between -20 and -1")
        after = await owner.fetchrow(counters)
    assert [new - old for old, new in zip(before, after, strict=True)] == [0, 20 * MANY // 200]


async def test_upkeep_of_a_long_history_is_done_in_one_round(
    owner: asyncpg.Connection, database: Database, who: Principal, worker_services: WorkerServices
) -> None:
    await live_long(owner)
    # a statement that reads the whole history for each row takes hours
    async with asyncio.timeout(60):
        for part in worker_services.housekeeping.parts:
            if isinstance(part, Pruning):
                await worker_services.housekeeping.prune(database, part)
    assert await owner.fetchval("select count(*) from procrastinate_jobs") == MANY // 10
    assert await owner.fetchval("select count(*) from procrastinate_workers") == 0
