"""What only the database as a store does: transactions, locks, connections."""

import asyncio
import contextlib
import errno
import os
from collections.abc import AsyncIterator

import asyncpg
import msgspec
import pytest
from sqlalchemy import text
from uuid_utils.compat import uuid7

from erp_service.db.engine import Database
from erp_service.exports.storage.base import FileKey
from erp_service.exports.storage.postgres import CHUNK, PostgresStore
from erp_service.settings import Settings
from tests.support.waiting import eventually

NAME = "erp export store"


@pytest.fixture
async def pool(settings: Settings) -> AsyncIterator[Database]:
    pool = Database(msgspec.structs.replace(settings, pool_size=2), name=NAME)
    yield pool
    await pool.close()


@pytest.fixture
def store(pool: Database) -> PostgresStore:
    return PostgresStore(pool)


@pytest.fixture
def key() -> FileKey:
    return FileKey(uuid7(), 1, "csv")


async def rows(owner: asyncpg.Connection) -> tuple[int, int]:
    """Of files and of chunks."""
    found = await owner.fetchrow("select (select count(*) from export_files), (select count(*) from export_chunks)")
    return found[0], found[1]


async def test_long_export_holds_no_transaction_open(
    store: PostgresStore, owner: asyncpg.Connection, key: FileKey
) -> None:
    """An open transaction would hold back vacuum in every table for as long as the export runs."""
    async with store.writing(key) as sink:
        await sink(os.urandom(3 * CHUNK))
        assert await rows(owner) == (1, 3)
        states = await owner.fetch("select state, backend_xmin from pg_stat_activity where application_name = $1", NAME)
        assert states
        assert {tuple(row) for row in states} == {("idle", None)}


async def test_slow_download_holds_no_connection_between_pieces(
    store: PostgresStore, pool: Database, key: FileKey
) -> None:
    async with store.writing(key) as sink:
        await sink(bytes(3 * CHUNK))
    readers = [store.read(key, 0, 3 * CHUNK) for _ in range(5)]
    for _ in range(3):
        for reader in readers:
            assert len(await anext(reader)) == CHUNK
            assert pool.pool()["in_use"] == 0


async def test_a_range_reads_only_the_chunks_it_needs_and_of_these_only_a_part(
    store: PostgresStore, owner: asyncpg.Connection, key: FileKey
) -> None:
    async with store.writing(key) as sink:
        await sink(bytes(5 * CHUNK))
    # neither compressed, which must be undone to read from the middle, nor stored in the row
    storage = await owner.fetchval(
        "select attstorage from pg_attribute where attrelid = 'export_chunks'::regclass and attname = 'data'"
    )
    assert storage == b"e"
    await owner.execute("delete from export_chunks where number <> 3")
    found = b"".join([piece async for piece in store.read(key, 3 * CHUNK + 7, 4 * CHUNK)])
    assert len(found) == CHUNK - 7


async def test_only_the_publishing_waits_for_the_disk(store: PostgresStore, pool: Database, key: FileKey) -> None:
    """Chunks do not wait for the disk; the next user of the connection must wait again."""
    async with store.writing(key) as sink:
        await sink(bytes(CHUNK))
        async with pool.write() as db:
            assert await db.scalar(text("show synchronous_commit")) == "on"


async def test_full_disk_of_the_database_is_told(store: PostgresStore, owner: asyncpg.Connection, key: FileKey) -> None:
    await owner.execute("""
        create function full_disk() returns trigger language plpgsql as $$
        begin raise exception 'could not extend file' using errcode = '53100'; end $$;
        create trigger full_disk before insert on export_chunks for each row when (new.number = 2)
          execute function full_disk();
    """)
    with pytest.raises(OSError, match="full") as told:
        async with store.writing(key) as sink:
            await sink(bytes(5 * CHUNK))
    assert told.value.errno == errno.ENOSPC
    assert await rows(owner) == (0, 0)


async def test_database_that_is_away_is_told(settings: Settings, key: FileKey) -> None:
    away = Database(msgspec.structs.replace(settings, database_url="postgresql://nobody@127.0.0.1:1/none"), name=NAME)
    with pytest.raises(ConnectionError):
        await PostgresStore(away).size(key)
    await away.close()


async def test_file_that_is_removed_while_it_is_written_stays_removed(
    store: PostgresStore, owner: asyncpg.Connection, key: FileKey
) -> None:
    """By maintenance, which takes its writer for dead, before or after the next chunk."""
    for after in (0, 1, 2):

        async def write() -> None:
            async with store.writing(key) as sink:
                while True:
                    await sink(bytes(CHUNK))

        writing = asyncio.create_task(write())

        async def growing(least: int = after) -> bool:
            return (await rows(owner))[1] > least

        await eventually(growing)
        await store.delete(key)
        with pytest.raises(FileNotFoundError):
            await writing
        assert await rows(owner) == (0, 0)


async def test_file_is_deleted_in_small_transactions(pool: Database, owner: asyncpg.Connection, key: FileKey) -> None:
    store = PostgresStore(pool, deleted=2)
    async with store.writing(key) as sink:
        await sink(bytes(7 * CHUNK))
    await owner.execute("""
        create table deletions (transaction xid8 primary key, chunks integer);
        create function note() returns trigger language plpgsql security definer set search_path = public as $$
        begin
          insert into deletions select pg_current_xact_id(), count(*) from gone;
          return null;
        end $$;
        create trigger note after delete on export_chunks referencing old table as gone
          for each statement execute function note();
    """)
    await store.delete(key)
    assert await rows(owner) == (0, 0)
    assert {row["chunks"] for row in await owner.fetch("select chunks from deletions where chunks > 0")} == {1, 2}


async def test_deletion_that_was_cut_short_is_not_seen_and_can_be_repeated(
    store: PostgresStore, owner: asyncpg.Connection, key: FileKey
) -> None:
    async with store.writing(key) as sink:
        await sink(bytes(3 * CHUNK))
    await owner.execute("update export_files set state = 'deleting'")
    await owner.execute("delete from export_chunks where number = 0")
    assert await store.size(key) is None
    assert [(kept.whole, kept.bytes) async for kept in store.list_files()] == [(False, 2 * CHUNK)]
    with contextlib.suppress(OSError):
        await store.delete(key)
    assert await rows(owner) == (0, 0)
