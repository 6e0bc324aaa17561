"""Real worker processes on a real Postgres, and the traces that their tasks leave."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg

from erp_service.db.engine import Database
from erp_service.queue.jobs import defer
from erp_service.settings import Settings
from tests.support.waiting import eventually

HERE = Path(__file__).parent
TRACES = """
create table traces (
    id bigint generated always as identity primary key,
    job_id bigint, attempt integer, pid integer, what text, at timestamptz default clock_timestamp()
);
grant select, insert on traces to public;
grant usage on sequence traces_id_seq to public"""


class Shop:
    """The database, as the tests read it, and the worker processes that they start."""

    def __init__(self, settings: Settings, database: Database, logs: Path) -> None:
        self.settings, self.database, self.logs = settings, database, logs
        self._started: list[subprocess.Popen[bytes]] = []

    async def start(
        self, *options: str, ready: bool = True, grace: float = 30, stalled: float = 30, reconnect_grace: float = 1
    ) -> subprocess.Popen[bytes]:
        """Starts a worker by the command line of Procrastinate; returns after its first heartbeat if `ready`."""
        environment = {
            **os.environ,
            "WORKSHOP_URL": self.settings.database_url,
            "WORKSHOP_GRACE": str(grace),
            "WORKSHOP_STALLED": str(stalled),
            "WORKSHOP_RECONNECT_GRACE": str(reconnect_grace),
            "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])]),
        }
        with (self.logs / f"worker-{len(self._started)}.log").open("wb") as output:
            worker = subprocess.Popen(
                [sys.executable, "-m", "procrastinate", "--app=workshop.app", "worker", *options],
                env=environment,
                stdout=output,
                stderr=output,
            )
        self._started.append(worker)
        if ready:
            await eventually(lambda: self.fetch("select from queue_workers where pid = $1", worker.pid))
        return worker

    async def settled(self) -> None:
        """Returns once every worker has been connected for longer than the reconnect grace, so that all can rescue."""
        await eventually(
            lambda: self.value(
                "select coalesce(bool_and(backend_start < now() - interval '1.3 s'), false)"
                " from pg_stat_activity where application_name = 'erp worker lifeline' and datname = current_database()"
            )
        )

    async def defer(self, task: str, *, lock: str | None = None, **arguments: str) -> int:
        async with self.database.write() as db:
            return await defer(db, f"workshop:{task}", queue="work", lock=lock, arguments=arguments)

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.settings.migration_database_url or "")
        try:
            return list(await connection.fetch(query, *arguments))
        finally:
            await connection.close()

    async def value(self, query: str, *arguments: object) -> object:
        rows = await self.fetch(query, *arguments)
        return rows[0][0] if rows else None

    async def status(self, job_id: int) -> object:
        return await self.value("select status from procrastinate_jobs where id = $1", job_id)

    async def traces(self, job_id: int, what: str) -> list[asyncpg.Record]:
        return await self.fetch("select * from traces where job_id = $1 and what = $2 order by id", job_id, what)

    async def traced(self, job_id: int, what: str, times: int = 1, *, seconds: float = 20) -> list[asyncpg.Record]:
        """The traces of that kind, once there are at least so many."""

        async def enough() -> list[asyncpg.Record]:
            found = await self.traces(job_id, what)
            return found if len(found) >= times else []

        return await eventually(enough, seconds=seconds)

    def of(self, pid: int) -> subprocess.Popen[bytes]:
        return next(worker for worker in self._started if worker.pid == pid)

    def log_of(self, worker: subprocess.Popen[bytes]) -> str:
        return (self.logs / f"worker-{self._started.index(worker)}.log").read_text()

    def stop(self) -> None:
        for worker in self._started:
            if worker.poll() is None:
                worker.kill()
            worker.wait(10)


async def left(worker: subprocess.Popen[bytes], *, seconds: float = 20) -> int:
    """The exit status, once the process has ended."""

    async def ended() -> bool:
        return worker.poll() is not None

    await eventually(ended, seconds=seconds)
    return worker.returncode


@contextlib.asynccontextmanager
async def keeping_shop(settings: Settings, database: Database, logs: Path) -> AsyncIterator[Shop]:
    shop = Shop(settings, database, logs)
    owner = await asyncpg.connect(settings.migration_database_url or "")
    await owner.execute(TRACES)
    await owner.close()
    try:
        yield shop
    finally:
        shop.stop()


@contextlib.contextmanager
def paused(worker: subprocess.Popen[bytes]) -> Iterator[None]:
    worker.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        worker.send_signal(signal.SIGCONT)


async def lifelines(shop: Shop, number: int) -> None:
    """Returns once so many workers hold their lock."""
    held = """
        select count(distinct objid) = $1 from pg_locks
        where locktype = 'advisory' and objsubid = 2 and granted
          and database = (select oid from pg_database where datname = current_database())
    """
    await eventually(lambda: shop.value(held, number), seconds=30)
