"""Exports of one row: from submission to start, submissions a second, exports a second through one worker; with an
empty past, and with thousands that wait and hundreds of thousands that have ended."""

import contextlib
import time
from collections.abc import AsyncIterator
from datetime import datetime

from tests.acceptance.instances import worker
from tests.bench.bench import Bench
from tests.bench.load import Call, Work
from tests.bench.recorder import RATE, Recorder
from tests.bench.stage import Stage, answer, stage
from tests.support.company import set_company_at
from tests.support.waiting import eventually

PART = "queue"
START, SUBMISSIONS, THROUGHPUT = "submit to start", "submissions", "exports of one row, through one worker"
MILLISECONDS, EXPORTS_RATE = "ms", "exports/s"
FRESH, LONG = "empty past", "long past"
ROWS = 10_000
ONE_ROW = Call("POST", "/api/v1/exports/jobs", {"dataset": "items", "filter": {"sku": "SKU-1"}, "force_new": True})
# Owners with as many exports in the queue as they may have there (they are due in a hundred years), and others behind.
# The past is of a user who does nothing now. Triggers are off: they say what may follow what.
_PAST = """
set session_replication_role = replica;
insert into users (email, email_key, full_name, role, password_hash)
  select 'owner' || n || '@example.com', 'owner' || n || '@example.com', 'Owner ' || n, 'VIEWER', '!'
  from generate_series(0, 10) n;
with past as (
  insert into procrastinate_jobs (queue_name, task_name, args, status)
    select 'exports-small', 'exports:run', '{}', 'succeeded' from generate_series(1, %(finished)s) returning id
)
insert into export_jobs (id, user_id, dataset, format, compression, spec, retention_hours, is_small, status, attempt,
    queue_job_id, created_at, started_at, finished_at, expires_at, snapshot_at, result_rows, result_bytes, sha256,
    media_type, filename)
  select ('00000000-0000-7000-8000-' || lpad(id::text, 12, '0'))::uuid,
    (select u.id from users u where email = 'owner0@example.com'), 'items', 'csv', 'none', '{}', 72, true, 'expired', 1,
    id, at, at, at, at + interval '3 days', at, 1, 1, repeat('0', 64), 'text/csv', 'items.csv'
  from past, lateral (select now() - interval '4 days' - id * interval '1 minute' as at) moment;
with turn as (
  insert into procrastinate_jobs (queue_name, task_name, args, status, scheduled_at)
    select 'exports-small', 'exports:run', '{}', 'todo', now() + interval '100 years'
    from generate_series(1, 10 * %(most)s) returning id
), numbered as (select id, row_number() over () as n from turn)
insert into export_jobs (id, user_id, dataset, format, compression, spec, retention_hours, is_small, queue_job_id)
  select ('00000000-0000-7000-9000-' || lpad(n::text, 12, '0'))::uuid,
    (select u.id from users u where email = 'owner' || 1 + n %% 10 || '@example.com'), 'items', 'csv', 'none', '{}', 72,
    true, numbered.id
  from generate_series(1, %(waiting)s) n left join numbered using (n);
set session_replication_role = default;
"""


async def run(bench: Bench, recorder: Recorder) -> None:
    async with contextlib.AsyncExitStack() as stack:
        stages = [(way, await stack.enter_async_context(_stage(bench, way))) for way in (FRESH, LONG)]
        for number in range(bench.sizes.rounds):
            recorder.say(f"round {number + 1} of {bench.sizes.rounds}")
            for way, ours in stages:
                await _round(bench, ours, way, recorder)


@contextlib.asynccontextmanager
async def _stage(bench: Bench, way: str) -> AsyncIterator[Stage]:
    data = await bench.data(f"queue_{way.replace(' ', '_')}", ROWS)
    await set_company_at(bench.cluster.owner_url(data.name), exports_running_per_user=bench.sizes.running)
    async with stage(bench.cluster, data, bench.directory) as ours:
        if way == LONG:
            sizes = bench.sizes
            past = _PAST % {"waiting": sizes.waiting, "finished": sizes.finished, "most": sizes.running}
            async with ours.sql() as connection:
                await connection.execute(past)
                await connection.execute("vacuum analyze")
        yield ours


async def _round(bench: Bench, ours: Stage, way: str, recorder: Recorder) -> None:
    with recorder.figure(SUBMISSIONS, way):
        load = await ours.caller.load(ours.ours, Work([ONE_ROW]), bench.sizes.seconds)
        recorder.add(SUBMISSIONS, way, RATE, load.rate)
    await _forget_open(ours)
    with recorder.figure(THROUGHPUT, way):
        recorder.add(THROUGHPUT, way, EXPORTS_RATE, await _throughput(bench, ours))
    async with worker(ours.data.settings, bench.directory / "worker.log"):
        with recorder.figure(START, way):
            for number in range(1 + bench.sizes.exports):
                milliseconds = await _submit_to_start(ours)
                # the first waits for the worker's start
                if number:
                    recorder.add(START, way, MILLISECONDS, milliseconds)


async def _forget_open(ours: Stage) -> None:
    async with ours.sql() as connection, connection.transaction():
        await connection.execute("set local session_replication_role = replica")
        gone = await connection.fetch(
            "delete from export_jobs where status = 'queued' and user_id = $1 returning queue_job_id", ours.data.user_id
        )
        jobs = [row[0] for row in gone if row[0] is not None]
        await connection.execute("delete from procrastinate_jobs where id = any($1)", jobs)


async def _throughput(bench: Bench, ours: Stage) -> float:
    """Between the end of the first and that of the last: the worker's start is not counted."""
    count = bench.sizes.exports * 4
    jobs = [str((await answer(ours, ONE_ROW)).json()["id"]) for _ in range(count)]
    async with worker(ours.data.settings, bench.directory / "worker.log"), ours.sql() as connection:

        async def ended() -> object:
            return await connection.fetchval(
                "select count(*) = $2 from export_jobs where id = any($1::uuid[]) and finished_at is not null",
                jobs,
                count,
            )

        await eventually(ended, seconds=120)
        seconds = await connection.fetchval(
            "select extract(epoch from max(finished_at) - min(finished_at))::float8 from export_jobs"
            " where id = any($1::uuid[]) and status = 'succeeded'",
            jobs,
        )
    return float((count - 1) / seconds)


async def _submit_to_start(ours: Stage) -> float:
    """Milliseconds from before the request until `started_at`; the client and Postgres have the same clock."""
    began = time.time()
    job = (await answer(ours, ONE_ROW)).json()["id"]

    async def ended() -> datetime | None:
        shown = (await answer(ours, Call("GET", f"/api/v1/exports/jobs/{job}"))).json()
        return datetime.fromisoformat(shown["started_at"]) if shown["finished_at"] else None

    started = await eventually(ended, seconds=60)
    assert started is not None
    return (started.timestamp() - began) * 1000
