"""A directory that all instances share: temporary name, fsync, rename, fsync of the directory."""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import aiofiles
from aiofiles.threadpool.binary import AsyncFileIO

from erp_service.exports.storage.base import FileHeaders, FileKey, Method, Missing, Sink, StoredFile

IDENTITY = ".erp-export-store"
PIECE = 256 * 1024
_PART = ".part"


class FileStore:
    """Implements storage.base.Store. The first write creates the directory, for this user alone."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @contextlib.asynccontextmanager
    async def writing(self, key: FileKey, headers: FileHeaders | None = None) -> AsyncIterator[Sink]:
        await asyncio.to_thread(self._create_directory)
        part = self._part(key)
        # "x": only one attempt may use the name, so an existing file means that another process runs the same attempt
        async with _created(part) as file:

            async def write(data: bytes) -> None:
                view = memoryview(data)
                while view:
                    view = view[await file.write(view) :]

            try:
                yield write
                await asyncio.to_thread(os.fsync, file.fileno())
                await asyncio.to_thread(self._publish, part, self._path(key))
            except BaseException:
                await asyncio.to_thread(part.unlink, missing_ok=True)
                raise

    async def size(self, key: FileKey) -> int | None:
        try:
            return (await asyncio.to_thread(self._path(key).stat)).st_size
        except FileNotFoundError:
            return None

    async def read(self, key: FileKey, start: int, stop: int) -> AsyncIterator[bytes]:
        try:
            # opened before the first piece: a file that is deleted meanwhile is still read to its end
            async with aiofiles.open(self._path(key), "rb", buffering=0) as file:
                await file.seek(start)
                while start < stop:
                    if not (piece := await file.read(min(PIECE, stop - start))):
                        raise Missing(str(key))
                    start += len(piece)
                    yield piece
        except FileNotFoundError:
            raise Missing(str(key)) from None

    async def address(self, key: FileKey, method: Method) -> str | None:
        return None

    async def delete(self, key: FileKey) -> None:
        for path in (self._path(key), self._part(key)):
            await asyncio.to_thread(path.unlink, missing_ok=True)

    async def list_files(self) -> AsyncIterator[StoredFile]:
        for file in await asyncio.to_thread(self._list):
            yield file

    async def identity(self) -> str | None:
        try:
            return await asyncio.to_thread((self.directory / IDENTITY).read_text)
        except FileNotFoundError:
            return None

    async def claim(self, identity: str) -> str:
        return await asyncio.to_thread(self._claim, identity)

    async def close(self) -> None:
        pass

    def _path(self, key: FileKey) -> Path:
        return self.directory / str(key)

    def _part(self, key: FileKey) -> Path:
        return self.directory / f"{key}{_PART}"

    def _create_directory(self) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _publish(self, part: Path, path: Path) -> None:
        part.rename(path)
        self._sync()

    def _sync(self) -> None:
        descriptor = os.open(self.directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _list(self) -> list[StoredFile]:
        files = []
        with contextlib.suppress(FileNotFoundError):
            for path in self.directory.iterdir():
                whole = not path.name.endswith(_PART)
                # a file may disappear meanwhile
                with contextlib.suppress(FileNotFoundError):
                    if (key := FileKey.read(path.name.removesuffix(_PART))) is not None:
                        status = path.stat()
                        files.append(
                            StoredFile(key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC), whole)
                        )
        return files

    def _claim(self, identity: str) -> str:
        self._create_directory()
        with tempfile.NamedTemporaryFile("w", dir=self.directory, prefix=IDENTITY, suffix=_PART) as file:
            file.write(identity)
            file.flush()
            os.fsync(file.fileno())
            # a link fails if the name exists, and is never visible half written
            with contextlib.suppress(FileExistsError):
                (self.directory / IDENTITY).hardlink_to(file.name)
        self._sync()
        return (self.directory / IDENTITY).read_text()


@contextlib.asynccontextmanager
async def _created(path: Path) -> AsyncIterator[AsyncFileIO]:
    """A new file, closed at the end. The thread that opens it cannot be stopped: if this is cancelled meanwhile, nobody
    else would close the file."""
    opening = asyncio.ensure_future(_create(path))
    try:
        file = await asyncio.shield(opening)
    except asyncio.CancelledError:
        file = await opening
        await file.close()
        await asyncio.to_thread(path.unlink, missing_ok=True)
        raise
    try:
        yield file
    finally:
        await file.close()


async def _create(path: Path) -> AsyncFileIO:
    return await aiofiles.open(path, "xb", buffering=0)
