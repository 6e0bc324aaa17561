"""What every store must do; `STORES` has them all."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uuid_utils.compat import uuid7

from erp_service.exports.storage.base import Kept, Key, Missing, Store
from erp_service.exports.storage.files import PIECE, FileStore

STORES: dict[str, Callable[[Path], Store]] = {"files": lambda directory: FileStore(directory / "made" / "later")}
SIZES = [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 17]


@pytest.fixture(params=sorted(STORES))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return STORES[request.param](tmp_path)


@pytest.fixture
def key() -> Key:
    return a_key()


def a_key(attempt: int = 1) -> Key:
    found = Key.read(f"{uuid7()}.{attempt}.csv")
    assert found is not None
    return found


async def put(store: Store, key: Key, content: bytes, piece: int = 100_000) -> None:
    async with store.writing(key) as sink:
        for start in range(0, len(content), piece):
            await sink(content[start : start + piece])


async def got(store: Store, key: Key, start: int, stop: int) -> bytes:
    return b"".join([piece async for piece in store.read(key, start, stop)])


async def listed(store: Store) -> list[Kept]:
    return [kept async for kept in store.kept()]


@pytest.mark.parametrize("size", SIZES)
async def test_what_was_put_is_read_back(store: Store, key: Key, size: int) -> None:
    content = os.urandom(size)
    await put(store, key, content)
    assert await store.size(key) == size
    assert await got(store, key, 0, size) == content


async def test_ranges_at_the_edges(store: Store, key: Key) -> None:
    content = os.urandom(2 * PIECE + 5)
    await put(store, key, content)
    size = len(content)
    for start, stop in [(0, 0), (0, 1), (PIECE - 1, PIECE + 1), (PIECE, 2 * PIECE), (size - 1, size), (7, size)]:
        assert await got(store, key, start, stop) == content[start:stop]


async def test_half_written_file_is_nowhere(store: Store, key: Key) -> None:
    async with store.writing(key) as sink:
        await sink(b"half")
        assert await store.size(key) is None
        with pytest.raises(Missing):
            await got(store, key, 0, 1)
        assert [(kept.key, kept.whole) for kept in await listed(store)] == [(key, False)]
    assert [(kept.key, kept.whole, kept.bytes) for kept in await listed(store)] == [(key, True, 4)]


@pytest.mark.parametrize("why", [RuntimeError, asyncio.CancelledError, KeyboardInterrupt])
async def test_failed_writing_leaves_nothing(store: Store, key: Key, why: type[BaseException]) -> None:
    async def fail() -> None:
        async with store.writing(key) as sink:
            await sink(b"half")
            raise why

    with pytest.raises(why):
        await fail()
    assert await store.size(key) is None
    assert await listed(store) == []


async def test_second_writer_of_one_attempt_is_refused_and_harms_nothing(store: Store, key: Key) -> None:
    async with store.writing(key) as sink:
        await sink(b"mine")
        with pytest.raises(FileExistsError):
            async with store.writing(key):
                pass
    assert await got(store, key, 0, 4) == b"mine"


async def test_deleted_file_is_gone_and_deleting_again_is_harmless(store: Store, key: Key) -> None:
    await put(store, key, b"x")
    for _ in range(2):
        await store.delete(key)
    assert await store.size(key) is None
    with pytest.raises(Missing):
        await got(store, key, 0, 1)


async def test_file_shorter_than_the_range_is_told_and_not_cut(store: Store, key: Key) -> None:
    await put(store, key, b"short")
    with pytest.raises(Missing):
        await got(store, key, 0, 6)


async def test_download_that_has_begun_outlives_the_file(store: Store, key: Key) -> None:
    content = os.urandom(3 * PIECE)
    await put(store, key, content)
    pieces = []
    async for piece in store.read(key, 0, len(content)):
        pieces.append(piece)
        await store.delete(key)
    assert b"".join(pieces) == content


async def test_listing_of_a_new_store_is_empty_and_strangers_are_not_in_it(store: Store, key: Key) -> None:
    assert await listed(store) == []
    await put(store, key, b"x")
    await store.claim("a/b")
    if isinstance(store, FileStore):
        (store.directory / "notes.txt").write_text("a stranger's")
    assert [kept.key for kept in await listed(store)] == [key]


async def test_identity_is_given_once(store: Store) -> None:
    assert await store.identity() is None
    claims = await asyncio.gather(*(store.claim(f"database/{n}") for n in range(10)))
    assert len(set(claims)) == 1
    assert await store.identity() == claims[0]


async def test_published_file_is_synced_before_and_its_directory_after_the_rename(
    tmp_path: Path, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut must find either nothing or the whole."""
    did: list[str] = []
    sync, rename = os.fsync, Path.rename

    def synced(descriptor: int) -> None:
        did.append("sync directory" if Path(f"/proc/self/fd/{descriptor}").resolve().is_dir() else "sync file")
        sync(descriptor)

    def renamed(path: Path, target: Any) -> Path:
        did.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    await put(FileStore(tmp_path), key, b"x")
    assert did == ["sync file", "rename", "sync directory"]


SOME_ID = "01a208c3-82e2-7174-8a6e-dfbc272fa017"


@given(st.text(alphabet="abcdef0123456789-./\\~\0 csv", max_size=60))
def test_no_name_is_a_key_that_leads_elsewhere(name: str) -> None:
    key = Key.read(name)
    assert key is None or (str(key) == name and Path(name).name == name and "/" not in name)


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "", "x.csv", f"{SOME_ID}.csv", f"{SOME_ID}.1.csv/..", f"../{SOME_ID}.1.c"]
)
def test_names_of_strangers_are_no_keys(name: str) -> None:
    assert Key.read(name) is None
