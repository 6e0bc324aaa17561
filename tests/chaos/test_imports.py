"""Workers that die, are paused or are told to stop in the middle of the COPY of an import: it loads exactly once."""

import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest

from erp_service.access.roles import Role
from erp_service.db.engine import Database
from erp_service.settings import Settings
from tests.acceptance.instances import Process, instance, signed_in, worker
from tests.imports.jobs import JOBS, ended, reaches, submitted
from tests.support.databases import connected
from tests.support.users import make_user
from tests.support.waiting import eventually

HOLD = 4712
LINES = 3_000
# the entry of one line waits for the test, in the middle of the COPY
HOLDING = f"""
create function hold_entry() returns trigger language plpgsql as $$
begin
  if new.notes = 'hold' then
    perform pg_advisory_xact_lock_shared({HOLD});
  end if;
  return new;
end $$;
create trigger hold_entry before insert on stock_ledger for each row execute function hold_entry();
insert into items (sku, name, unit) values ('A', 'Apples', 'PCS');
insert into locations (code, name, location_type) values ('MAIN', 'Main', 'WAREHOUSE');
"""
FILE = "occurred_at,type,sku,location,quantity,unit_cost,notes\n" + "".join(
    f"2026-01-01T10:00:00Z,IN,A,MAIN,1,2,{'hold' if number == LINES // 2 else number}\n" for number in range(LINES)
)


class Scene:
    """An instance, workers that are soon missed, and a submitted import."""

    def __init__(self, client: httpx.AsyncClient, workers: list[Process], owner: asyncpg.Connection) -> None:
        self.client, self.workers, self.owner = client, workers, owner

    async def in_the_middle(self, job: dict[str, Any], attempt: int = 1) -> Process:
        """The worker whose COPY waits for the test."""

        async def look() -> int | None:
            row = await self.owner.fetchrow("select attempt, status from import_jobs where id = $1", job["id"])
            waits = await self.owner.fetchval(
                "select count(*) from pg_locks l join pg_stat_activity a using (pid) where l.locktype = 'advisory'"
                " and not l.granted and a.application_name = $1",
                f"erp import {job['id']}",
            )
            if (row["attempt"], row["status"]) != (attempt, "running") or not waits:
                return None
            pid: int | None = await self.owner.fetchval(
                "select w.pid from queue_workers w join procrastinate_jobs q on q.worker_id = w.worker_id"
                " join import_jobs j on j.queue_job_id = q.id where j.id = $1",
                job["id"],
            )
            return pid

        pid = await eventually(look, seconds=60)
        return next(process for process in self.workers if process.pid == pid)

    async def proven(self, job: dict[str, Any]) -> None:
        """It is loaded once, and the books agree."""
        assert (await ended(self.client, job, seconds=60))["status"] == "succeeded"
        assert await self.owner.fetchval("select count(*) from stock_ledger") == LINES
        assert await self.owner.fetchval("select on_hand from stock_balances") == LINES
        assert await self.owner.fetchval("select count(*) from imports where kind = 'movements'") == 1
        assert await self.owner.fetchval("select count(*) from audit_log where action = 'import.movements'") == 1


@pytest.fixture
async def scene(
    settings: Settings, database: Database, owner: asyncpg.Connection, tmp_path: Path
) -> AsyncIterator[Scene]:
    await owner.execute(HOLDING)
    settings = msgspec.structs.replace(settings, heartbeat_seconds=0.2, stalled_seconds=1.0)
    user_id = await make_user(database, Role.ADMIN)
    async with contextlib.AsyncExitStack() as stack:
        api = await stack.enter_async_context(instance(settings, tmp_path / "api.log"))
        workers = [await stack.enter_async_context(worker(settings, tmp_path / f"{n}.log")) for n in range(2)]
        client = await stack.enter_async_context(signed_in(api, settings, user_id))
        yield Scene(client, workers, owner)


@pytest.fixture
async def hold(settings: Settings) -> AsyncIterator[asyncpg.Connection]:
    """While it is open, no COPY passes the line."""
    async with connected(settings.migration_database_url or "") as connection:
        await connection.execute("select pg_advisory_lock($1)", HOLD)
        yield connection


async def test_killed_in_the_middle(scene: Scene, hold: asyncpg.Connection) -> None:
    job = await submitted(scene.client, "movements", FILE)
    (await scene.in_the_middle(job)).signal(signal.SIGKILL)
    await scene.in_the_middle(job, 2)
    await hold.execute("select pg_advisory_unlock($1)", HOLD)
    await scene.proven(job)


async def test_paused_and_resumed_after_its_rescuer_has_loaded(scene: Scene, hold: asyncpg.Connection) -> None:
    job = await submitted(scene.client, "movements", FILE)
    paused = await scene.in_the_middle(job)
    paused.signal(signal.SIGSTOP)
    await scene.in_the_middle(job, 2)
    await hold.execute("select pg_advisory_unlock($1)", HOLD)
    await scene.proven(job)
    paused.signal(signal.SIGCONT)
    # it does other work again, and has done nothing more to this one
    other = await submitted(scene.client, "items", "sku,name,unit\nB,Bread,PCS\n")
    assert (await ended(scene.client, other))["status"] == "succeeded"
    await scene.proven(job)


async def test_canceled_in_the_middle_of_a_copy(scene: Scene, hold: asyncpg.Connection) -> None:
    job = await submitted(scene.client, "movements", FILE)
    await scene.in_the_middle(job)
    answer = await scene.client.post(f"{JOBS}/{job['id']}/cancel")
    assert answer.json()["status"] in ("canceling", "canceled")
    # although the server still waits for the test
    await reaches(scene.client, job, "canceled")
    assert await scene.owner.fetchval("select count(*) from stock_ledger") == 0
    await hold.execute("select pg_advisory_unlock($1)", HOLD)
    again = await submitted(scene.client, "movements", FILE)
    assert (await ended(scene.client, again, seconds=60))["status"] == "succeeded"
