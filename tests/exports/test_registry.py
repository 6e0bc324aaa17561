"""Store and database know each other, so that two hosts with a directory each are told."""

import asyncio
from pathlib import Path

import asyncpg
import httpx
import msgspec
import pytest
from litestar import Litestar

from erp_service.db import Database
from erp_service.exports.storage.files import FileStore
from erp_service.exports.storage.registry import open_store, store_fault
from erp_service.settings import Settings, SettingsError


async def fault(database: Database, directory: Path) -> str | None:
    async with database.read() as db:
        return await store_fault(db, database, FileStore(directory))


async def test_first_instance_claims_the_store_and_the_others_find_it(database: Database, tmp_path: Path) -> None:
    assert await asyncio.gather(*(fault(database, tmp_path / "a") for _ in range(5))) == [None] * 5
    assert await fault(database, tmp_path / "a") is None


async def test_host_with_a_directory_of_its_own_is_told(database: Database, tmp_path: Path) -> None:
    assert await fault(database, tmp_path / "a") is None
    assert "not the one the database knows" in str(await fault(database, tmp_path / "b"))


async def test_of_two_hosts_at_once_with_a_directory_each_one_is_told(database: Database, tmp_path: Path) -> None:
    faults = await asyncio.gather(fault(database, tmp_path / "a"), fault(database, tmp_path / "b"))
    assert [found is None for found in faults].count(True) == 1


async def test_store_of_another_database_is_left_alone(
    database: Database, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    assert await fault(database, tmp_path / "a") is None
    await owner.execute("update export_store set database_id = gen_random_uuid(), store_id = null")
    assert await fault(database, tmp_path / "a") == "The export store belongs to another database."
    assert await owner.fetchval("select store_id from export_store") is None


async def test_claim_that_a_crash_cut_short_is_adopted(
    database: Database, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    assert await fault(database, tmp_path / "a") is None
    known = await owner.fetchval("select store_id from export_store")
    await owner.execute("update export_store set store_id = null")
    assert await fault(database, tmp_path / "a") is None
    assert await owner.fetchval("select store_id from export_store") == known


async def test_store_that_cannot_be_used_is_told(database: Database, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file")
    assert "cannot be used" in str(await fault(database, tmp_path / "a"))


async def test_instance_with_another_directory_is_not_ready_and_says_why(
    app: Litestar, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    assert (await client.get("/health/ready")).status_code == 200
    identity = next(tmp_path.rglob(".erp-export-store"))
    identity.rename(identity.with_name("elsewhere"))
    answer = await client.get("/health/ready")
    assert answer.status_code == 503
    assert "export store" in answer.json()["detail"]


@pytest.mark.parametrize("address", ["ftp://x/y", "file:///", "file://relative/path", "exports", "s4://bucket"])
def test_address_of_no_store_stops_the_start_with_a_sentence(address: str, settings: Settings) -> None:
    with pytest.raises(SettingsError):
        open_store(msgspec.structs.replace(settings, export_store=address))
