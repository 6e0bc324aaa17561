"""The drill: a company is backed up while it trades, destroyed and restored, and its books hold."""

import asyncio
import hashlib
import os
import shutil
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from erp_service.db import migrate, revisions
from erp_service.db.engine import Database
from erp_service.exports.storage.registry import open_store, store_fault
from erp_service.operations.verify import verify
from erp_service.settings import Settings
from erp_service.standalone import postgres
from erp_service.standalone.postgres import Cluster
from tests.acceptance.instances import instance, worker
from tests.backup.commands import Keys, Result, archived_wal
from tests.backup.company import Company, receive, references, trade
from tests.chaos.ground import HOLD, HOLDING
from tests.support.databases import connected
from tests.support.settings import settings_for
from tests.support.users import token_of
from tests.support.waiting import eventually

JOBS = "/exports/jobs"
Command = Callable[..., Result]


async def test_dump_taken_while_trade_goes_on_is_restored_with_the_sums_of_its_snapshot(
    company: Company, backup: Command, restore: Command, cluster: Cluster, empty: str, keys: Keys, tmp_path: Path
) -> None:
    to = tmp_path / "backups"
    async with trade(company) as counted:
        await eventually(lambda: _reached(counted, 40))
        before = counted[0]
        taken = await asyncio.to_thread(
            backup, "dump", "--to", to, "--recipients", keys.recipients, "--identity", keys.identity
        )
        after = counted[0]
        await eventually(lambda: _reached(counted, after + 20))
    assert taken.status == 0, taken.log
    assert taken.result["checked"] == "content"
    assert taken.result["encrypted"]

    url = cluster.owner_url(empty)
    done = await asyncio.to_thread(
        restore, "dump", to / taken.result["backup"], "--database", url, "--identity", keys.identity
    )

    assert done.status == 0, done.log
    assert done.result["verified"]
    assert "The books hold." in done.log
    async with connected(url) as db:
        entries = await db.fetchval("select count(*) from stock_ledger")
        # each of four people may have had two postings without an answer yet
        assert before <= entries <= after + 8
        assert await db.fetchval("select count(*) from stock_ledger") < counted[0]
        assert await db.fetchval("select action from audit_log order by id desc limit 1") == "database.restored"
    assert await verify(settings_for(cluster, empty, tmp_path)) == []


async def test_time_between_two_postings_can_be_restored(
    company: Company, backup: Command, restore: Command, cluster: Cluster, clusters: Path, keys: Keys, tmp_path: Path
) -> None:
    to, database = tmp_path / "backups", cluster_database(company.settings)
    encrypted = ["--recipients", keys.recipients, "--identity", keys.identity]
    async with connected(cluster.owner_url(database)) as db, company.client() as client:
        with archived_wal(cluster, database, to, "--recipients", keys.recipients, "--spool", tmp_path / "spool"):
            await receive(client, reference="before the backup")
            taken = await asyncio.to_thread(backup, "base", "--to", to, *encrypted)
            assert taken.status == 0, taken.log
            await receive(client, reference="the first")
            time: datetime = await db.fetchval("select clock_timestamp()")
            await receive(client, reference="the second")
    assert not [path for path in to.rglob("*") if path.is_file() and b"before the backup" in path.read_bytes()]

    first = clusters / "first" / "cluster"
    known = ["--identity", keys.identity, "--data-directory"]
    done = await asyncio.to_thread(restore, "base", to, *known, first, "--until", time.isoformat())
    assert done.status == 0, done.log
    assert done.result["verified"]
    assert await references(first.parent, database) == ["before the backup", "the first"]

    # without a time, all WAL is replayed
    latest = clusters / "latest" / "cluster"
    done = await asyncio.to_thread(restore, "base", to, *known, latest)
    assert done.status == 0, done.log
    assert await references(latest.parent, database) == ["before the backup", "the first", "the second"]

    late = await asyncio.to_thread(restore, "base", to, *known, clusters / "late", "--until", "2126-01-01T00:00:00Z")
    assert late.status == 1
    assert "the WAL ends before the time asked for" in late.result["error"]
    early = await asyncio.to_thread(restore, "base", to, *known, clusters / "early", "--until", "2020-01-01T00:00:00Z")
    assert "no base backup that had ended by 2020" in early.result["error"]
    for gone in (clusters / "late", clusters / "early"):
        assert not gone.exists()

    # the restored server does not have the last received position: archiving goes on from the server's own
    spool = next((tmp_path / "spool").glob("wal-*"))
    assert [path.name[:8] for path in spool.glob("*.partial")] == ["00000001"]
    with (
        postgres.running(latest.parent) as restored,
        archived_wal(restored, database, to, "--recipients", keys.recipients, "--spool", tmp_path / "spool"),
    ):
        await eventually(partial(_archived, to, "00000002.history.gz.age"))
    assert [path.name[:8] for path in spool.glob("*.partial")] == ["00000002"]
    for there in (first, latest):
        shutil.rmtree(there.parent)


async def test_export_that_ran_when_the_backup_was_taken_runs_again_by_itself(
    company: Company, backup: Command, restore: Command, cluster: Cluster, empty: str, tmp_path: Path
) -> None:
    to, database = tmp_path / "backups", cluster_database(company.settings)
    async with connected(cluster.owner_url(database)) as db, company.client() as client:
        await db.execute(HOLDING)
        async with worker(company.settings, tmp_path / "worker.log"):
            ready = await reaches(client, await submitted(client, "locations"), "succeeded")
            # the export is stopped in the middle of its file
            await db.execute("select pg_advisory_lock($1)", HOLD)
            cut = await submitted(client)
            await reaches(client, cut, "running")
            taken = await asyncio.to_thread(backup, "dump", "--to", to)
            await db.execute("select pg_advisory_unlock_all()")
    assert taken.status == 0, taken.log

    done = await asyncio.to_thread(restore, "dump", to / taken.result["backup"], "--database", cluster.owner_url(empty))
    assert done.status == 0, done.log

    restored = settings_for(cluster, empty, tmp_path / "elsewhere")
    async with instance(restored, tmp_path / "restored.log") as process, worker(restored, tmp_path / "again.log"):
        # sessions from before are ended: a role that was taken away since the backup would be back
        async with _client(process.url, company.token) as old:
            assert (await old.get("/auth/me")).status_code == 401
        async with _client(process.url, token_of(restored, company.user_id, version=1001)) as new:
            assert (await reaches(new, cut, "succeeded", seconds=40))["attempt"] == 2
            # its file stayed in the store of the original: it is expired, and can be made again
            gone = await new.get(f"/exports/jobs/{ready['id']}/download")
            assert (gone.status_code, gone.json()["type"]) == (410, "/problems/export-expired")
            again = await new.post(f"/exports/jobs/{ready['id']}/retry")
            made = await reaches(new, again.json()["id"], "succeeded")
            file = await new.get(f"/exports/jobs/{made['id']}/download")
            assert hashlib.sha256(file.content).hexdigest() == ready["result"]["sha256"]
    assert await verify(restored) == []


async def test_copy_beside_its_original_never_takes_that_ones_store(
    company: Company, backup: Command, restore: Command, cluster: Cluster, empty: str, tmp_path: Path
) -> None:
    to = tmp_path / "backups"
    taken = await asyncio.to_thread(backup, "dump", "--to", to)
    done = await asyncio.to_thread(restore, "dump", to / taken.result["backup"], "--database", cluster.owner_url(empty))
    assert done.status == 0, done.log
    beside = msgspec.structs.replace(company.settings, database_url=cluster.app_url(empty))
    database = Database(beside)
    async with database.read() as db:
        fault = await store_fault(db, database, open_store(beside))
    await database.close()
    assert fault == "The export store belongs to another database."


async def test_store_that_outlived_the_database_is_used_again_and_missing_files_expire(
    company: Company, backup: Command, restore: Command, cluster: Cluster, empty: str, tmp_path: Path
) -> None:
    to, store = tmp_path / "backups", tmp_path / "exports"
    async with worker(company.settings, tmp_path / "worker.log"), company.client() as client:
        kept = await reaches(client, await submitted(client, "locations"), "succeeded")
        gone = await reaches(client, await submitted(client, "items"), "succeeded")
        packed = await asyncio.to_thread(backup, "dump", "--to", to, "--export-files", store)
        assert (await client.delete(f"/exports/jobs/{gone['id']}")).status_code == 204
        await eventually(lambda: _names(store, kept["id"], gone["id"], present=1))
    assert packed.status == 0, packed.log
    source = to / packed.result["backup"]

    done = await asyncio.to_thread(
        restore, "dump", source, "--database", cluster.owner_url(empty), "--same-store", "--store-directory", store
    )
    assert done.status == 0, done.log
    assert done.result["exports_missing"] == 1
    async with connected(cluster.owner_url(empty)) as db:
        rows = await db.fetch("select id::text, status from export_jobs")
    assert dict(rows) == {kept["id"]: "succeeded", gone["id"]: "expired"}
    assert await verify(msgspec.structs.replace(company.settings, database_url=cluster.app_url(empty))) == []

    # with the export files of the backup both are there, in a directory that belongs to the database
    unpacked = tmp_path / "unpacked"
    words = ["--replace", "--export-files", unpacked]
    done = await asyncio.to_thread(restore, "dump", source, "--database", cluster.owner_url(empty), *words)
    assert done.status == 0, done.log
    assert done.result["moved_aside"].startswith("before_restore_")
    there = msgspec.structs.replace(
        company.settings, database_url=cluster.app_url(empty), export_store=f"file://{unpacked}"
    )
    assert await verify(there) == []
    async with connected(cluster.owner_url(empty)) as db:
        assert await db.fetchval("select count(*) from export_jobs where status = 'succeeded'") == 2


async def test_roles_and_grants_come_with_the_database(
    backup: Command, restore: Command, database_name: str, clusters: Path, tmp_path: Path
) -> None:
    taken = await asyncio.to_thread(backup, "dump", "--to", tmp_path)
    with postgres.running(clusters / "bare", fsync=False) as bare:
        bare.create_database("erp")
        async with connected(bare.owner_url("postgres")) as db:
            await db.execute("drop role erp_app, erp_api, erp_worker, erp_reader")
        url = bare.owner_url("erp")
        done = await asyncio.to_thread(restore, "dump", tmp_path / taken.result["backup"], "--database", url)
        assert done.status == 0, done.log
        async with connected(bare.role_url("erp_api", "erp")) as db:
            await db.execute("insert into items (sku, name, unit) values ('A', 'A', 'PCS')")
            assert await db.fetchval("select erp_password_hash(1)") is None
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await db.execute("delete from stock_ledger")
        async with connected(bare.role_url("erp_worker", "erp")) as db:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await db.execute("select password_hash from users")
    shutil.rmtree(clusters / "bare")


async def test_backup_of_an_older_release_is_brought_to_what_this_one_needs(
    cluster: Cluster, backup: Command, restore: Command, database_name: str, empty: str, tmp_path: Path
) -> None:
    older = f"older_{os.getpid()}"
    cluster.create_database(older)
    engine = migrate.engine_of(cluster.owner_url(older))
    async with engine.begin() as connection:
        await connection.run_sync(_migrate_to_older)
    await engine.dispose()
    taken = await asyncio.to_thread(backup, "dump", "--to", tmp_path, "--database", cluster.owner_url(older))
    assert taken.status == 0, taken.log

    url = cluster.owner_url(empty)
    done = await asyncio.to_thread(restore, "dump", tmp_path / taken.result["backup"], "--database", url)

    assert done.status == 0, done.log
    database = Database(settings_for(cluster, empty, tmp_path))
    async with database.read() as db:
        assert await revisions.behind(db) is None
    await database.close()


def _migrate_to_older(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parents[2] / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "0006")


async def submitted(client: httpx.AsyncClient, dataset: str = "items") -> str:
    response = await client.post(JOBS, json={"dataset": dataset})
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


async def reaches(client: httpx.AsyncClient, export_id: str, status: str, seconds: float = 20) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        current: dict[str, Any] = (await client.get(f"{JOBS}/{export_id}")).json()
        return current if current["status"] == status else None

    job = await eventually(look, seconds=seconds)
    assert job is not None
    return job


def _client(url: str, token: str) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.AsyncClient(base_url=f"{url}/api/v1", headers=headers, timeout=20)


def cluster_database(settings: Settings) -> str:
    return settings.database_url.rpartition("@/")[2].partition("?")[0]


async def _reached(counted: list[int], number: int) -> bool:
    return counted[0] >= number


async def _names(store: Path, *ids: str, present: int) -> bool:
    return sum(any(store.glob(f"{id_}.*")) for id_ in ids) == present


async def _archived(directory: Path, name: str) -> bool:
    return any(directory.glob(f"wal-*/{name}"))
