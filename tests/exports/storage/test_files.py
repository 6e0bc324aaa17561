"""What only a directory does."""

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

import pytest
from uuid_utils.compat import uuid7

from erp_service.exports.storage.base import FileKey
from erp_service.exports.storage.files import FileStore


async def put(store: FileStore) -> None:
    async with store.writing(FileKey(uuid7(), 1, "csv")) as sink:
        await sink(b"x")


async def test_published_file_is_synced_before_and_its_directory_after_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut there must be either no file or the whole file."""
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
    await put(FileStore(tmp_path))
    assert did == ["sync file", "rename", "sync directory"]


async def test_disk_that_is_full_when_the_file_is_synced_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network disk accepts writes, and reports only at fsync that it is full."""

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space") as told:
        await put(FileStore(tmp_path))
    assert told.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


async def test_write_that_is_cancelled_while_the_file_is_opened_leaves_nothing(tmp_path: Path) -> None:
    """A thread opens it, which nobody can stop; a file that stays open is a warning, and so an error here."""
    store, key = FileStore(tmp_path), FileKey(uuid7(), 1, "csv")
    for turns in range(12):

        async def write() -> None:
            async with store.writing(key):
                await asyncio.Event().wait()

        task = asyncio.create_task(write())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert list(tmp_path.iterdir()) == []
