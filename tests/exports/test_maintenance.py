"""Maintenance of exports: expiry, orphaned files, and missed admissions."""

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import httpx
import pytest
from uuid_utils.compat import uuid7

from erp_service.db.engine import Database
from erp_service.exports import maintenance
from erp_service.exports.context import ExportContext
from erp_service.exports.storage.base import FileKey, Store
from erp_service.exports.storage.files import FileStore
from erp_service.features import FEATURES
from erp_service.queue import background
from erp_service.queue.jobs import defer
from erp_service.registry.background import BackgroundStep
from erp_service.registry.feature import load
from erp_service.worker_services import WorkerServices
from tests.exports.jobs import JOBS, done, reaches, row_of, submitted
from tests.support.workers import Work

LONG_AGO = (datetime.now(UTC) - timedelta(days=1)).timestamp()


@pytest.fixture
def directory(store: Store) -> Path:
    assert isinstance(store, FileStore)
    return store.directory


def age(directory: Path) -> None:
    for path in directory.iterdir():
        os.utime(path, (LONG_AGO, LONG_AGO))


async def test_expired_export_loses_its_file_and_keeps_its_record(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, work: Work, resources: ExportContext, directory: Path
) -> None:
    async with work():
        kept, old = await done(viewer, retention_hours=72), await done(viewer, retention_hours=1)
    await owner.execute("update export_jobs set expires_at = now() where id = $1::text::uuid", old["id"])
    await maintenance.run(resources)
    assert [path.name for path in directory.glob("*.csv")] == [f"{kept['id']}.1.csv"]
    job = (await viewer.get(f"{JOBS}/{old['id']}")).json()
    assert (job["status"], job["result"]["sha256"]) == ("expired", old["result"]["sha256"])
    assert (await viewer.get(f"{JOBS}/{old['id']}/download")).status_code == 410
    assert (await viewer.get(f"{JOBS}/{kept['id']}/download")).status_code == 200
    assert (await row_of(owner, old["id"]))["file_key"] is None


async def test_orphans_go_and_named_running_young_and_strange_files_stay(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, work: Work, resources: ExportContext, directory: Path
) -> None:
    async with work():
        job = await done(viewer)
    running = await submitted(viewer)
    await owner.execute("update export_jobs set status = 'running', attempt = 2 where id = $1::text::uuid", running)
    named = f"{job['id']}.1.csv"
    stay = {named, f"{running}.2.csv.part", "notes.txt", ".erp-export-store"}
    go = {
        f"{job['id']}.2.csv",
        f"{running}.1.csv.part",
        f"{running}.1.csv",
        f"{uuid7()}.1.csv",
        f"{uuid7()}.1.csv.part",
    }
    for name in (stay | go) - {named, ".erp-export-store"}:
        (directory / name).write_text("x")
    age(directory)
    young = f"{uuid7()}.7.csv"
    (directory / young).write_text("x")
    await maintenance.run(resources)
    assert {path.name for path in directory.iterdir()} == stay | {young}
    assert (await viewer.get(f"{JOBS}/{job['id']}/download")).status_code == 200


async def test_store_of_another_database_is_not_swept(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, resources: ExportContext, directory: Path
) -> None:
    await maintenance.run(resources)
    await owner.execute("update export_store set database_id = gen_random_uuid()")
    stranger = directory / f"{uuid7()}.1.csv"
    stranger.write_text("x")
    age(directory)
    await maintenance.run(resources)
    assert stranger.exists()


async def test_export_whose_queue_job_is_gone_is_ended_and_the_next_one_admitted(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, resources: ExportContext
) -> None:
    ids = [await submitted(viewer) for _ in range(4)]
    first = await row_of(owner, ids[0])
    await owner.execute("delete from procrastinate_jobs where id = $1", first["queue_job_id"])
    await maintenance.run(resources)
    statuses = [(await viewer.get(f"{JOBS}/{export_id}")).json()["status"] for export_id in ids]
    assert statuses == ["failed", "queued", "queued", "queued"]
    assert (
        await owner.fetchval("select count(*) from export_jobs where status = 'queued' and queue_job_id is not null")
        == 2
    )


async def test_worker_does_the_upkeep(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, work: Work, database: Database
) -> None:
    async with work():
        job = await done(viewer)
        await owner.execute("update export_jobs set expires_at = now()")
        async with database.write() as db:
            await defer(db, "exports:upkeep", queue="exports", arguments={"timestamp": 0})
        await reaches(viewer, job["id"], "expired")


async def test_export_is_ended_as_soon_as_its_job_is_given_up(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, worker_services: WorkerServices
) -> None:
    export_id = await submitted(viewer)
    steps = load(FEATURES, "background", BackgroundStep)
    watching = asyncio.create_task(background.run_background(worker_services, steps))
    try:
        await owner.execute("update procrastinate_jobs set status = 'failed'")
        job = await reaches(viewer, export_id, "failed", seconds=10)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    assert job["error"]["type"] == "/problems/export-abandoned"


async def test_export_whose_job_waits_is_not_ended(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, resources: ExportContext
) -> None:
    export_id = await submitted(viewer)
    await maintenance.abandon_ended(resources)
    assert (await row_of(owner, export_id))["status"] == "queued"


async def test_deleting_that_was_cut_short_is_finished(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, work: Work, resources: ExportContext, store: Store
) -> None:
    async with work():
        job = await done(viewer)
    # the row was committed, and the instance died before it deleted the file
    await owner.execute("update export_jobs set status = 'expired', deleted_at = now()")
    key = FileKey.read(f"{job['id']}.1.csv")
    assert key is not None
    assert await store.size(key) is not None
    await maintenance.run(resources)
    assert await store.size(key) is None
