"""What every store must do; `KINDS` has them all."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from uuid_utils.compat import uuid7

from erp_service.db.engine import Database
from erp_service.exports import maintenance
from erp_service.exports.storage.base import FileHeaders, FileKey, Missing, Store, StoredFile
from erp_service.exports.storage.files import FileStore
from erp_service.exports.storage.registry import open_store
from erp_service.settings import Settings
from erp_service.standalone.postgres import Cluster
from tests.acceptance.instances import environment
from tests.exports.storage.stores import EDGES, KINDS, ObjectServer, having, paged
from tests.support.databases import as_owner
from tests.support.settings import settings_for

FAR = maintenance.GRACE * 1000


@pytest.fixture(scope="module")
async def base(cluster: Cluster, template: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Settings]:
    """One database for all tests here, since most of them leave nothing in it."""
    name = f"stores_{os.getpid()}"
    await as_owner(cluster, f'create database "{name}" template "{template}"')
    yield settings_for(cluster, name, tmp_path_factory.mktemp("stores"))
    await as_owner(cluster, f'drop database "{name}" with (force)')


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def having_it(kind: str, base: Settings, object_server: ObjectServer, tmp_path: Path) -> Settings:
    return having(base, kind, object_server, tmp_path)


@pytest.fixture
async def store(having_it: Settings, base: Settings) -> AsyncIterator[Store]:
    store = open_store(having_it)
    yield store
    await store.close()
    owner = await asyncpg.connect(base.migration_database_url or "")
    await owner.execute("truncate export_files, export_chunks")
    await owner.close()


@pytest.fixture
def key() -> FileKey:
    return a_key()


def a_key(attempt: int = 1) -> FileKey:
    return FileKey(uuid7(), attempt, "csv")


async def put(store: Store, key: FileKey, content: bytes, piece: int = 100_000) -> None:
    async with store.writing(key) as sink:
        for start in range(0, len(content), piece):
            await sink(content[start : start + piece])


async def got(store: Store, key: FileKey, start: int, stop: int) -> bytes:
    return b"".join([piece async for piece in store.read(key, start, stop)])


async def listed(store: Store) -> list[StoredFile]:
    return [kept async for kept in store.list_files()]


def around(edges: list[int], most: int) -> st.SearchStrategy[int]:
    """Sizes at which a store goes from one piece to the next, and one byte more or less."""
    near = [times * edge + by for edge in edges for times in (0, 1, 2) for by in (-1, 0, 1)]
    return st.sampled_from([size for size in [*near, 7 * most // 5] if 0 <= size <= 2 * most])


@examples(max_examples=12, suppress_health_check=list(HealthCheck))
@given(data=st.data())
async def test_what_was_put_is_read_back_whole_and_in_any_part(kind: str, store: Store, data: st.DataObject) -> None:
    edges = EDGES[kind]
    key, size = a_key(), data.draw(around(edges, max(edges)), "size")
    content = (os.urandom(4096) * (size // 4096 + 1))[:size]
    # also pieces larger than the store's buffer; small ones only where there are few of them
    piece = data.draw(st.sampled_from([n for n in (1, 7, 4099, 100_000, *edges, 3 * edges[-1]) if size / n < 2000]))
    await put(store, key, content, piece)
    assert await store.size(key) == size
    assert await got(store, key, 0, size) == content
    for _ in range(3):
        start, stop = sorted((data.draw(around(edges, size), "start"), data.draw(around(edges, size), "stop")))
        if stop <= size:
            assert await got(store, key, start, stop) == content[start:stop]
    await store.delete(key)


async def test_empty_file_is_a_file(store: Store, key: FileKey) -> None:
    await put(store, key, b"")
    assert await store.size(key) == 0
    assert await got(store, key, 0, 0) == b""
    assert [(kept.key, kept.whole, kept.bytes) for kept in await listed(store)] == [(key, True, 0)]


async def test_ranges_at_the_edges(kind: str, store: Store, key: FileKey) -> None:
    edge = EDGES[kind][0]
    content = os.urandom(2 * edge + 5)
    await put(store, key, content)
    size = len(content)
    for start, stop in [(0, 0), (0, 1), (edge - 1, edge + 1), (edge, 2 * edge), (size - 1, size), (7, size)]:
        assert await got(store, key, start, stop) == content[start:stop]


async def test_half_written_file_is_nowhere(kind: str, store: Store, key: FileKey) -> None:
    size = EDGES[kind][-1] + 1
    async with store.writing(key) as sink:
        await sink(bytes(size))
        assert await store.size(key) is None
        with pytest.raises(Missing):
            await got(store, key, 0, 1)
        assert [(kept.key, kept.whole) for kept in await listed(store)] == [(key, False)]
    assert [(kept.key, kept.whole, kept.bytes) for kept in await listed(store)] == [(key, True, size)]


@pytest.mark.parametrize("why", [RuntimeError, asyncio.CancelledError, KeyboardInterrupt])
@pytest.mark.parametrize("pieces", [0, 1, 3])
async def test_failed_writing_leaves_nothing(
    kind: str, store: Store, key: FileKey, why: type[BaseException], pieces: int
) -> None:
    async def fail() -> None:
        async with store.writing(key) as sink:
            for _ in range(pieces):
                await sink(bytes(EDGES[kind][-1]))
            raise why

    with pytest.raises(why):
        await fail()
    assert await store.size(key) is None
    assert await listed(store) == []


async def test_writer_canceled_in_the_middle_leaves_nothing(kind: str, store: Store, key: FileKey) -> None:
    begun = asyncio.Event()

    async def write() -> None:
        async with store.writing(key) as sink:
            while True:
                await sink(bytes(EDGES[kind][-1]))
                begun.set()

    writing = asyncio.create_task(write())
    await begun.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert await store.size(key) is None
    assert await listed(store) == []


async def test_killed_writer_leaves_nothing_to_read_and_the_upkeep_removes_the_rest(
    store: Store, having_it: Settings, database: Database, key: FileKey
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.exports.storage.endless_writer", str(key)),
        env=environment(having_it),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        # more than any store buffers before it writes
        await asyncio.wait_for(process.stdout.readexactly(20), 40)
    finally:
        process.kill()
        await process.wait()
    assert await store.size(key) is None
    with pytest.raises(Missing):
        await got(store, key, 0, 1)
    (left,) = await listed(store)
    assert (left.key, left.whole) == (key, False)
    assert await maintenance.remove_orphans(database, store, older_than=left.modified_at + FAR) == 1
    assert await listed(store) == []


async def test_two_attempts_at_once_never_mix(kind: str, store: Store, key: FileKey) -> None:
    size = EDGES[kind][-1] // 2 + 1
    keys = [key, FileKey(key.export_id, 2, key.extension)]

    async def write(key: FileKey) -> None:
        async with store.writing(key) as sink:
            for _ in range(5):
                await sink(bytes([key.attempt]) * size)
                await asyncio.sleep(0)

    await asyncio.gather(*(write(key) for key in keys))
    for found in keys:
        assert await got(store, found, 0, 5 * size) == bytes([found.attempt]) * 5 * size
    await store.delete(keys[0])
    assert await store.size(keys[1]) == 5 * size


async def test_second_writer_of_one_attempt_is_refused_and_harms_nothing(store: Store, key: FileKey) -> None:
    async with store.writing(key) as sink:
        await sink(b"mine")
        with pytest.raises(FileExistsError):
            async with store.writing(key):
                pass
    assert await got(store, key, 0, 4) == b"mine"


async def test_deleted_file_is_gone_and_deleting_again_is_harmless(kind: str, store: Store, key: FileKey) -> None:
    await put(store, key, bytes(3 * EDGES[kind][-1]))
    for _ in range(2):
        await store.delete(key)
    assert await store.size(key) is None
    assert await listed(store) == []
    with pytest.raises(Missing):
        await got(store, key, 0, 1)


async def test_file_shorter_than_the_range_is_told_and_not_cut(kind: str, store: Store, key: FileKey) -> None:
    size = EDGES[kind][0]
    await put(store, key, bytes(size))
    for start, stop in [(0, size + 1), (size - 1, size + 1), (size, size + 1), (2 * size, 2 * size + 1)]:
        with pytest.raises(Missing):
            await got(store, key, start, stop)


async def test_download_of_a_file_that_is_deleted_ends_right_or_not_at_all(
    kind: str, store: Store, key: FileKey
) -> None:
    content = os.urandom(4 * EDGES[kind][0])
    await put(store, key, content)
    pieces = []
    try:
        async for piece in store.read(key, 0, len(content)):
            pieces.append(piece)
            await store.delete(key)
    except Missing:
        assert kind != "files", "an open file outlives its name"
        assert content.startswith(b"".join(pieces))
    else:
        assert b"".join(pieces) == content


async def test_listing_of_a_new_store_is_empty_and_strangers_are_not_in_it(store: Store, key: FileKey) -> None:
    assert await listed(store) == []
    await put(store, key, b"x")
    await store.claim("a/b")
    if isinstance(store, FileStore):
        (store.directory / "notes.txt").write_text("a stranger's")
    assert [kept.key for kept in await listed(store)] == [key]


async def test_listing_goes_on_where_a_page_ends(
    store: Store, having_it: Settings, object_server: ObjectServer
) -> None:
    keys = {a_key() for _ in range(5)}
    for key in keys:
        await put(store, key, b"x")
    in_pages = paged(having_it, object_server, listed=2)
    assert {kept.key for kept in await listed(in_pages)} == keys
    await in_pages.close()


async def test_identity_of_two_who_claim_at_once_is_one(store: Store) -> None:
    claims = await asyncio.gather(*(store.claim(f"database/{n}") for n in range(10)))
    assert len(set(claims)) == 1
    assert await store.identity() == claims[0]


async def test_only_an_object_store_can_be_asked_by_others(kind: str, store: Store, key: FileKey) -> None:
    async with store.writing(key, FileHeaders("text/csv", 'attachment; filename="x.csv"')) as sink:
        await sink(b"x")
    assert (await store.address(key, "GET") is not None) == (kind == "objects")


SOME_ID = "01a208c3-82e2-7174-8a6e-dfbc272fa017"


@given(st.text(alphabet="abcdef0123456789-./\\~\0 csv", max_size=60))
def test_no_name_is_a_key_that_leads_elsewhere(name: str) -> None:
    key = FileKey.read(name)
    assert key is None or (str(key) == name and Path(name).name == name and "/" not in name)


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "", "x.csv", f"{SOME_ID}.csv", f"{SOME_ID}.1.csv/..", f"../{SOME_ID}.1.c"]
)
def test_names_of_strangers_are_no_keys(name: str) -> None:
    assert FileKey.read(name) is None
