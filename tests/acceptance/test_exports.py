"""Exports with two instances and two workers, and the commands for exports, as real processes."""

import asyncio
import hashlib
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import asyncpg
import httpx
import pytest

from erp_service.access.roles import Role
from erp_service.db.engine import Database
from erp_service.settings import Settings
from tests.acceptance.instances import Process, environment, instance, worker
from tests.support.company import set_company
from tests.support.users import make_user, token_of
from tests.support.waiting import eventually

JOBS = "/api/v1/exports/jobs"


class Fleet(NamedTuple):
    instances: list[httpx.AsyncClient]
    workers: list[Process]
    token: str
    url: str


@pytest.fixture
async def fleet(
    settings: Settings, database: Database, owner: asyncpg.Connection, tmp_path: Path
) -> AsyncIterator[Fleet]:
    """Two instances, two workers, one database with 20,000 items in it, and a user who may export them."""
    await owner.execute(
        "insert into items (sku, name, unit) select 'SKU-' || n, 'Item, \"' || n || '\"', 'PCS'"
        " from generate_series(1, 20000) n"
    )
    await set_company(database, exports_waiting_per_user=50)
    token = token_of(settings, await make_user(database, Role.VIEWER))
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        instance(settings, tmp_path / "i1.log") as one,
        instance(settings, tmp_path / "i2.log") as two,
        worker(settings, tmp_path / "w1.log") as first,
        worker(settings, tmp_path / "w2.log") as second,
        httpx.AsyncClient(base_url=one.url, headers=headers, timeout=30) as a,
        httpx.AsyncClient(base_url=two.url, headers=headers, timeout=30) as b,
    ):
        yield Fleet([a, b], [first, second], token, one.url)


async def succeeded(client: httpx.AsyncClient, job_id: str) -> dict[str, object]:
    async def look() -> dict[str, object] | None:
        job = (await client.get(f"{JOBS}/{job_id}")).json()
        assert job["status"] not in ("failed", "canceled"), job
        return job if job["status"] == "succeeded" else None

    found = await eventually(look, seconds=60)
    assert found is not None
    return found


async def test_submit_on_one_instance_poll_and_download_on_another(fleet: Fleet) -> None:
    here, there = fleet.instances
    submitted = await here.post(JOBS, json={"dataset": "items"})
    assert submitted.status_code == 202, submitted.text
    job = await succeeded(there, submitted.json()["id"])
    file = await there.get(f"{JOBS}/{job['id']}/download")
    result = job["result"]
    assert isinstance(result, dict)
    assert result["rows"] == 20_000
    assert int(file.headers["content-length"]) == result["bytes"] == len(file.content)
    assert hashlib.sha256(file.content).hexdigest() == result["sha256"]
    assert (await here.get(f"{JOBS}/{job['id']}/download")).content == file.content


async def test_twenty_jobs_each_run_once(fleet: Fleet, owner: asyncpg.Connection) -> None:
    sent = [fleet.instances[n % 2].post(JOBS, json={"dataset": "items", "force_new": True}) for n in range(20)]
    ids = [answer.json()["id"] for answer in await asyncio.gather(*sent)]
    assert len(set(ids)) == 20
    jobs = await asyncio.gather(*(succeeded(fleet.instances[n % 2], i) for n, i in enumerate(ids)))
    assert {job["attempt"] for job in jobs} == {1}
    assert await owner.fetchval("select count(*) from audit_log where action = 'export.succeeded'") == 20


async def test_export_of_a_worker_that_was_killed_is_finished_by_another(
    fleet: Fleet, owner: asyncpg.Connection
) -> None:
    """A lock stops the COPY, so that the kill happens in the middle of it."""
    await owner.execute("begin; lock table items in access exclusive mode")
    job_id = (await fleet.instances[0].post(JOBS, json={"dataset": "items"})).json()["id"]

    async def held() -> int:
        # pg_locks, since within a transaction pg_stat_activity does not change after the first read
        return int(
            await owner.fetchval("select count(*) from pg_locks where not granted and relation = 'items'::regclass")
        )

    await eventually(held)
    pid = await owner.fetchval(
        "select w.pid from procrastinate_jobs j join queue_workers w using (worker_id) where j.status = 'doing'"
        " and j.queue_name = 'exports'"
    )
    (victim,) = [process for process in fleet.workers if process.pid == pid]
    victim.signal(signal.SIGKILL)
    await owner.execute("rollback")
    job = await succeeded(fleet.instances[1], job_id)
    assert isinstance(job["result"], dict)
    assert job["result"]["rows"] == 20_000
    assert job["attempt"] == 2


async def test_the_client_command_downloads_a_whole_file(fleet: Fleet, tmp_path: Path) -> None:
    env = {name: v for name, v in environment(Settings(database_url="-")).items() if not name.startswith("ERP_")}
    output = tmp_path / "items.csv"
    command = [sys.executable, "-m", "erp_service", "export", "items", "--url", fleet.url, "-o", str(output)]
    done = await asyncio.to_thread(
        subprocess.run, command, env=env | {"ERP_TOKEN": fleet.token}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    text = output.read_text()
    assert text.count("\n") == 20_001
    assert hashlib.sha256(text.encode()).hexdigest() in done.stderr
    assert not list(tmp_path.glob("*.part"))


async def test_the_client_command_says_what_the_service_refused(fleet: Fleet) -> None:
    command = [sys.executable, "-m", "erp_service", "export", "secrets", "--url", fleet.url]
    env = {"ERP_TOKEN": fleet.token, "PATH": "/usr/bin:/bin"}
    done = await asyncio.to_thread(subprocess.run, command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "secrets" in done.stderr or "dataset" in done.stderr
