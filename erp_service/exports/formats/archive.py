"""The file of the dataset `all`: one zip archive of a file for each dataset, with a manifest.

The manifest is the last file in the archive and gives rows, size and digest of the others: an archive that has one is
complete. The files are deflated, so no compression is put around the archive."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from importlib.metadata import version
from typing import NamedTuple
from uuid import UUID

import msgspec

from erp_service.exports.formats.base import Format, Kind, Write
from erp_service.exports.formats.csv_options import CsvOptions
from erp_service.exports.formats.zip_stream import Zip
from erp_service.registry.datasets import Column, ColumnType

KIND = Kind("application/zip", "zip")
MANIFEST = "manifest.json"

# levels of deflate: for text, and for formats that are compressed already
_TEXT_LEVEL, _STORED = 1, 0
_PIECE = 256 * 1024


class ManifestColumn(msgspec.Struct):
    name: str
    type: ColumnType
    description: str


class ManifestFile(msgspec.Struct):
    """`sha256` and `bytes` are those of the extracted file."""

    name: str
    dataset: str
    rows: int
    bytes: int
    sha256: str
    columns: list[ManifestColumn]


class Manifest(msgspec.Struct, kw_only=True):
    """Every file holds what was committed before `snapshot_at`, and nothing of what was committed later."""

    export_id: UUID
    snapshot_at: datetime
    service: str = "erp-service"
    version: str
    created_by: int
    format: str
    csv: CsvOptions | None
    timezone: str
    rows: int
    files: list[ManifestFile]


class ArchiveMember(NamedTuple):
    """One dataset of the archive. `copy` writes its file and returns the number of rows."""

    dataset: str
    columns: Sequence[Column]
    copy: Callable[[Write], Awaitable[int]]


def empty_manifest(
    export_id: UUID,
    user_id: int,
    snapshot_at: datetime,
    format_: Format,
    csv: CsvOptions | None,
    timezone: str = "UTC",
) -> Manifest:
    return Manifest(
        export_id=export_id,
        snapshot_at=snapshot_at,
        version=version("erp-service"),
        created_by=user_id,
        format=format_.name,
        csv=csv,
        timezone=timezone,
        rows=0,
        files=[],
    )


async def write(members: Sequence[ArchiveMember], format_: Format, sink: Write, manifest: Manifest) -> None:
    """Write the archive into the sink, member by member; `manifest` is completed on the way and written last."""
    archive = Archive(sink, manifest.snapshot_at)
    for member in members:
        name = f"{member.dataset}.{format_.extension}"
        async with archive.file(name, _TEXT_LEVEL if format_.compressible else _STORED) as file:
            rows = await member.copy(file.write)
        columns = [ManifestColumn(column.name, column.type, column.description) for column in member.columns]
        manifest.files.append(ManifestFile(name, member.dataset, rows, file.bytes, file.sha256, columns))
        manifest.rows += rows
    async with archive.file(MANIFEST) as file:
        await file.write(msgspec.json.format(msgspec.json.encode(manifest)))
    await archive.finish()


class Archive:
    """Write one file after the other, then `finish`. Digests and deflates in threads, one piece at a time."""

    def __init__(self, sink: Write, at: datetime) -> None:
        self._sink = sink
        self._zip = Zip(_TEXT_LEVEL, at)

    @contextlib.asynccontextmanager
    async def file(self, name: str, level: int = _TEXT_LEVEL) -> AsyncIterator["ArchivedFile"]:
        await self._sink(self._zip.begin(name, level))
        file = ArchivedFile(self._zip, self._sink)
        yield file
        await file.flush()
        await self._sink(await asyncio.to_thread(self._zip.end))

    async def finish(self) -> None:
        await self._sink(self._zip.directory())


class ArchivedFile:
    """A file in the archive. `sha256` and `bytes` are of the uncompressed content, and final once it is closed."""

    def __init__(self, archive: Zip, sink: Write) -> None:
        self._zip = archive
        self._sink = sink
        self._digest = hashlib.sha256()
        self._buffer = bytearray()
        self.bytes = 0

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    async def write(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) >= _PIECE:
            await self.flush()

    async def flush(self) -> None:
        piece, self._buffer = bytes(self._buffer), bytearray()
        await self._sink(await asyncio.to_thread(self._deflated, piece))

    def _deflated(self, piece: bytes) -> bytes:
        self.bytes += len(piece)
        self._digest.update(piece)
        return self._zip.add(piece)
