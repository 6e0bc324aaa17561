"""Real instances and workers on one real Postgres, and exports that a test can stop in the middle of their COPY."""

import asyncio
import contextlib
import hashlib
import itertools
import signal
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import asyncpg
import httpx
import msgspec

from erp_service.exports.planning.selection import psql_text
from erp_service.inventory.datasets import ITEMS
from erp_service.settings import Settings
from erp_service.standalone.postgres import Cluster
from tests.acceptance.instances import Process, instance, worker
from tests.chaos.proxy import Proxy
from tests.support.waiting import eventually

JOBS = "/api/v1/exports/jobs"
ROWS = 20_000
HELD_ROW = 15_000
HOLD = 4711

SETTLED_SECONDS = 3.3
"""Seconds of connection after which a worker rescues: rescue.Timeouts.reconnect_grace with a margin."""

# The table under the dataset becomes a view that can stop in the middle of being read. `stable` is a lie, told so
# that the planner leaves the call out where nobody reads the column, as in count(*).
HOLDING = f"""
create function held(n bigint, value text) returns text language plpgsql stable as $$
begin
  if n = {HELD_ROW} then
    perform pg_advisory_lock_shared({HOLD});
    perform pg_advisory_unlock_shared({HOLD});
  end if;
  return value;
end $$;
insert into items (sku, name, unit)
  select 'SKU-' || n, 'Item, "' || n || '"', 'PCS' from generate_series(1, {ROWS}) n;
alter table items rename to items_table;
do $$ begin
  execute (select 'create view items as select '
    || string_agg(case attname when 'unit' then 'held(id, unit) as unit' else attname end, ', ' order by attnum)
    || ' from items_table' from pg_attribute
    where attrelid = 'items_table'::regclass and attnum > 0 and not attisdropped);
  -- read along the index: a sort would have read, and called, everything before the first row comes out
  execute format('alter role erp_worker in database %I set enable_sort = off', current_database());
end $$;
grant select on items to public;
analyze items_table;
"""

# Every state of an export's row, with its time
TRACES = """
create table traces (
  export_id uuid, status text, attempt integer, rows_done bigint, at timestamptz default clock_timestamp()
);
create function trace() returns trigger language plpgsql security definer set search_path = public as $$
begin
  insert into traces (export_id, status, attempt, rows_done) values (new.id, new.status, new.attempt, new.rows_done);
  return null;
end $$;
create trigger trace after insert or update on export_jobs for each row execute function trace();
-- What counts as a death is forgotten with its job
create table deaths (job_id bigint, reason text, at timestamptz default clock_timestamp());
create function trace_death() returns trigger language plpgsql security definer set search_path = public as $$
begin
  insert into deaths (job_id, reason) values (new.job_id, new.last_reason);
  return null;
end $$;
create trigger trace_death after insert or update on queue_deaths for each row execute function trace_death();
"""


class Hold:
    """A lock. While a test holds it, every export stops in the middle of its COPY."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def release(self) -> None:
        await self._connection.close()


class Ground:
    def __init__(
        self, settings: Settings, cluster: Cluster, token: str, logs: Path, stack: contextlib.AsyncExitStack
    ) -> None:
        self.settings, self.cluster, self.logs = settings, cluster, logs
        self.files = logs / "exports"
        self._token, self._stack = token, stack
        self.workers: list[Process] = []
        self._numbers = itertools.count()

    async def prepare(self) -> None:
        connection = await self.connect()
        await connection.execute(HOLDING)
        await connection.execute(TRACES)
        await connection.close()

    # Postgres, as its superuser sees it

    async def connect(self) -> asyncpg.Connection:
        return await asyncpg.connect(self.settings.migration_database_url or "")

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        connection = await self.connect()
        try:
            return list(await connection.fetch(query, *arguments))
        finally:
            await connection.close()

    async def value(self, query: str, *arguments: object) -> Any:
        rows = await self.fetch(query, *arguments)
        return rows[0][0] if rows else None

    async def stop_postgres(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        await asyncio.to_thread(self.cluster.stop, mode)

    async def start_postgres(self) -> None:
        await asyncio.to_thread(self.cluster.start)

    def move(self, leader: Cluster) -> None:
        """After a failover: what the test reads from now on, it reads from there."""
        old = urlsplit(self.settings.migration_database_url or "")
        url = leader.owner_url(old.path.removeprefix("/"))
        self.settings = msgspec.structs.replace(self.settings, migration_database_url=url)

    async def terminate(self, application: str = "erp%") -> int:
        """Terminates the backends of that name; returns how many."""
        return len(
            await self.fetch(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and application_name like $1 and usename like 'erp\\_%'",
                application,
            )
        )

    # processes

    async def fleet(self, instances: int, workers: int, **more: str) -> list[httpx.AsyncClient]:
        """Starts so many instances and workers; returns a client of each instance."""
        clients, _ = await asyncio.gather(
            asyncio.gather(*(self.instance(**more) for _ in range(instances))),
            asyncio.gather(*(self.worker(**more) for _ in range(workers))),
        )
        return clients

    async def instance(self, proxy: Proxy | None = None, /, **more: str) -> httpx.AsyncClient:
        """Starts an instance; returns a client of it."""
        log = self.logs / f"instance-{next(self._numbers)}.log"
        process = await self._stack.enter_async_context(instance(self._through(proxy), log, **more))
        headers = {"Authorization": f"Bearer {self._token}"}
        client = httpx.AsyncClient(base_url=process.url, headers=headers, timeout=60)
        return await self._stack.enter_async_context(client)

    async def worker(self, proxy: Proxy | None = None, /, **more: str) -> Process:
        """Starts a worker; returns it once it has taken its lock."""
        log = self.logs / f"worker-{next(self._numbers)}.log"
        process = await self._stack.enter_async_context(worker(self._through(proxy), log, **more))
        self.workers.append(process)

        async def beaten() -> bool:
            assert process.process.returncode is None, f"ended by itself: {log.read_text()}"
            return bool(await self.fetch("select from queue_workers where pid = $1", process.pid))

        await eventually(beaten, seconds=60)
        return process

    def _through(self, proxy: Proxy | None) -> Settings:
        if proxy is None:
            return self.settings
        values = {name: getattr(self.settings, name) for name in self.settings.__struct_fields__}
        return Settings(**{**values, "database_url": proxy.url(self.settings.database_url)})

    async def settled(self) -> None:
        """Returns once every worker has been connected for so long that it rescues."""
        await eventually(
            lambda: self.value(
                "select coalesce(bool_and(backend_start < now() - make_interval(secs => $1)), false)"
                " from pg_stat_activity"
                " where application_name = 'erp worker lifeline' and datname = current_database()",
                SETTLED_SECONDS,
            )
        )

    async def lifelines(self, number: int) -> None:
        """Returns once so many workers hold their lock."""
        held = (
            "select count(distinct objid) = $1 from pg_locks join pg_database d on d.oid = database"
            " where locktype = 'advisory' and objsubid = 2 and granted and datname = current_database()"
        )
        await eventually(lambda: self.value(held, number), seconds=60)

    async def runner(self, export_id: str) -> Process:
        """The worker that runs the export according to the queue."""
        pid = await self.value(
            "select w.pid from export_jobs e join procrastinate_jobs j on j.id = e.queue_job_id"
            " join queue_workers w using (worker_id) where j.status = 'doing' and e.id = $1",
            export_id,
        )
        return next(process for process in self.workers if process.pid == pid)

    async def listening(self, number: int, *, after: datetime | None = None) -> None:
        """Returns once so many workers listen on connections made since then: the next notification reaches them."""
        listens = (
            "select count(*) >= $1 from pg_stat_activity where application_name = 'erp worker listener'"
            " and datname = current_database() and (query ilike 'listen%' or query = 'SELECT 1') "
            " and backend_start > coalesce($2::timestamptz, '-infinity')"
        )
        await eventually(lambda: self.value(listens, number, after), seconds=40)

    def others(self, than: Process) -> list[Process]:
        return [process for process in self.workers if process.pid != than.pid]

    @contextlib.contextmanager
    def paused(self, process: Process) -> Iterator[None]:
        process.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.signal(signal.SIGCONT)

    # exports

    async def hold(self) -> Hold:
        connection = await self.connect()
        await connection.execute("select pg_advisory_lock($1)", HOLD)
        self._stack.push_async_callback(connection.close)
        return Hold(connection)

    async def submit(self, client: httpx.AsyncClient) -> str:
        answer = await client.post(JOBS, json={"dataset": "items", "force_new": True})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    async def in_the_middle(self, export_id: str, attempt: int = 1) -> Process:
        """Returns the attempt's worker, once it has written a part of its file and waits for the lock."""
        part = self.part(export_id, attempt)

        async def halfway() -> bool:
            held = "select count(*) from pg_locks where locktype = 'advisory' and objid = $1 and not granted"
            return part.exists() and part.stat().st_size > 0 and await self.value(held, HOLD) >= 1

        await eventually(halfway, seconds=40)
        return await self.runner(export_id)

    def part(self, export_id: str, attempt: int) -> Path:
        return self.files / f"{export_id}.{attempt}.csv.part"

    async def part_gone(self, export_id: str, attempt: int) -> None:
        async def gone() -> bool:
            return not self.part(export_id, attempt).exists()

        await eventually(gone, seconds=40)

    async def ends(self, export_id: str, status: str = "succeeded", *, seconds: float = 60) -> asyncpg.Record:
        """The export's row, once it has ended; its status must be this one."""

        async def ended() -> asyncpg.Record | None:
            rows = await self.fetch(
                "select * from export_jobs where id = $1 and status not in ('queued', 'running', 'canceling')",
                export_id,
            )
            return rows[0] if rows else None

        row = await eventually(ended, seconds=seconds)
        assert row is not None
        assert row["status"] == status, dict(row)
        return row

    async def starts(self, export_id: str) -> int:
        """The number of attempts that began."""
        return int(
            await self.value(
                "select count(distinct attempt) from traces where export_id = $1 and attempt > 0", export_id
            )
        )

    async def began(self, export_id: str, attempt: int, *, seconds: float = 60) -> datetime:
        """The time at which the attempt claimed the export."""
        when = "select min(at) from traces where export_id = $1 and attempt = $2 and status = 'running'"
        found = await eventually(lambda: self.value(when, export_id, attempt), seconds=seconds)
        assert isinstance(found, datetime)
        return found

    async def deaths(self) -> int:
        """The number of deaths that were counted for all jobs."""
        return int(await self.value("select count(*) from deaths"))

    async def proven(self, *export_ids: str, killed: Collection[int] = ()) -> str:
        """Each has succeeded with one whole file, byte for byte what the table holds, and nothing else is left.

        But for the parts of attempts that were `killed`: those are the upkeep's, after its grace."""
        expected = await self._expected()
        for export_id in export_ids:
            row = await self.ends(export_id)
            published = self.files / row["file_key"]
            assert self._files_of(export_id, killed) == [published.name]
            assert hashlib.sha256(published.read_bytes()).hexdigest() == row["sha256"] == expected
            assert row["result_rows"] == row["rows_done"] == ROWS
            told = "select count(*) from audit_log where action = 'export.succeeded' and entity_id = $1"
            assert await self.value(told, export_id) == 1
        await self._nothing_left(export_ids)
        return f"{len(export_ids)} file" + "s" * (len(export_ids) > 1)

    async def no_file(self, export_id: str, killed: Collection[int] = ()) -> str:
        async def none() -> bool:
            return not self._files_of(export_id, killed)

        await eventually(none, seconds=40)
        await self._nothing_left([export_id])
        return "no file"

    def _files_of(self, export_id: str, killed: Collection[int]) -> list[str]:
        left = {self.part(export_id, attempt).name for attempt in killed}
        return sorted(path.name for path in self.files.glob(f"{export_id}.*") if path.name not in left)

    async def _nothing_left(self, export_ids: tuple[str, ...] | list[str]) -> None:
        unfinished = (
            "select not exists (select from export_jobs e join procrastinate_jobs j on j.id = e.queue_job_id"
            " where e.id = any($1::uuid[]) and j.status in ('todo', 'doing'))"
        )
        await eventually(lambda: self.value(unfinished, list(export_ids)), seconds=40)
        copying = (
            "select not exists (select from pg_stat_activity where application_name = 'erp export'"
            " and datname = current_database() and query ilike 'copy%' and state = 'active')"
        )
        await eventually(lambda: self.value(copying), seconds=40)

    async def _expected(self) -> str:
        digest = hashlib.sha256()

        async def add(data: bytes) -> None:
            digest.update(data)

        connection = await self.connect()
        try:
            await connection.copy_from_query(psql_text(ITEMS), output=add, format="csv", header=True, encoding="UTF8")
        finally:
            await connection.close()
        return digest.hexdigest()

    async def promptly(self, client: httpx.AsyncClient) -> float:
        """Runs an export; returns the seconds from its submission to its claim by a worker."""
        export_id = await self.submit(client)
        begun = await self.began(export_id, 1)
        submitted = await self.value("select min(at) from traces where export_id = $1", export_id)
        await self.ends(export_id)
        return float((begun - submitted).total_seconds())


def since(moment: datetime, until: datetime | None = None) -> float:
    """Seconds between the two; tests and Postgres share one machine's clock."""
    return ((until or datetime.now(UTC)) - moment).total_seconds()
