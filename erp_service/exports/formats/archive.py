"""The dataset `all`: every dataset that the person may read, at one instant, in one zip archive with a manifest.

The manifest is the last file in it and gives the rows, size and digest of the others: an archive that has one is whole.
Its members are deflated, so no compression is put around it."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import datetime
from importlib.metadata import version
from typing import NamedTuple
from uuid import UUID

import msgspec

from erp_service.access.roles import Role
from erp_service.errors import Fault
from erp_service.exports.catalogue import DATASETS
from erp_service.exports.formats.base import Format, Kind, Options, Write
from erp_service.exports.formats.csv_options import CsvOptions
from erp_service.exports.formats.zip_stream import Zip
from erp_service.exports.planning.selection import Query, Spec, query, text_select_list
from erp_service.exports.run.output import PIECE
from erp_service.registry.datasets import Column, ColumnType, Dataset

NAME = "all"
ROLE = Role.VIEWER
DESCRIPTION = "Every dataset that you may read, at one instant, in one zip archive with a manifest."
KIND = Kind("application/zip", "zip")
MANIFEST = "manifest.json"

# of deflate: for text, and for what is compressed already
_LEVEL, _PACKED = 1, 0

Select = Callable[[Sequence[Column], Options], str]


class ManifestColumn(msgspec.Struct):
    name: str
    type: ColumnType
    description: str


class ManifestFile(msgspec.Struct):
    """`sha256` and `bytes` are of the file as it is when it has been taken out."""

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
    rows: int
    files: list[ManifestFile]


def readable(role: Role) -> list[str]:
    """What the archive holds for somebody with this role."""
    return [dataset.name for dataset in DATASETS.values() if role.includes(dataset.role)]


class Member(NamedTuple):
    """A dataset in a file, and what it reads."""

    dataset: Dataset
    query: Query


Copied = Callable[[Member, Write], Awaitable[int]]
"""Writes a member's file on the one snapshot, and returns the rows."""


def archive_faults(columns: object, filter_: object, sort: object, compression: str) -> Iterator[Fault]:
    """What cannot be said of all datasets at once."""
    for name, given in (("columns", columns), ("filter", filter_), ("sort", sort)):
        if given:
            yield Fault("is for one dataset: for all of them, leave it out", pointer=f"/{name}")
    if compression != "none":
        yield Fault("must be none for all datasets: the archive is compressed already", pointer="/compression")


def members(dataset: str, spec: Spec, select: Select = text_select_list) -> list[Member]:
    """What the file of a job holds. Raises errors.Invalid that names what is wrong with the spec."""
    if dataset != NAME:
        return [Member(DATASETS[dataset], query(DATASETS[dataset], spec, select))]
    return [_whole(DATASETS[name], spec, select) for name in spec.datasets or []]


def _whole(dataset: Dataset, spec: Spec, select: Select) -> Member:
    """What was deleted is in it too, since movements refer to it."""
    lifted = {known.name: True for known in dataset.filters if known.lifts}
    return Member(dataset, query(dataset, Spec(filter={**lifted}, csv=spec.csv), select))


def manifest(export_id: UUID, user_id: int, at: datetime, spec: Spec, format_: Format) -> Manifest:
    """What it says before there are files."""
    return Manifest(
        export_id=export_id,
        snapshot_at=at,
        version=version("erp-service"),
        created_by=user_id,
        format=format_.name,
        csv=spec.csv,
        rows=0,
        files=[],
    )


async def write(members: Sequence[Member], format_: Format, copied: Copied, sink: Write, found: Manifest) -> None:
    """The archive, into the sink, with each member as `copied` writes it; the manifest is completed on the way."""
    archive = Archive(sink, found.snapshot_at)
    for member in members:
        name = f"{member.dataset.name}.{format_.extension}"
        async with archive.file(name, _LEVEL if format_.compressible else _PACKED) as file:
            rows = await copied(member, file.write)
        columns = [ManifestColumn(column.name, column.type, column.description) for column in member.query.columns]
        found.files.append(ManifestFile(name, member.dataset.name, rows, file.bytes, file.sha256, columns))
        found.rows += rows
    async with archive.file(MANIFEST) as file:
        await file.write(msgspec.json.format(msgspec.json.encode(found)))
    await archive.finish()


class Archive:
    """One file after the other, then `finish`. Digests and deflates in threads, a piece at a time."""

    def __init__(self, sink: Write, at: datetime) -> None:
        self._sink = sink
        self._zip = Zip(_LEVEL, at)

    @contextlib.asynccontextmanager
    async def file(self, name: str, level: int = _LEVEL) -> AsyncIterator["ArchivedFile"]:
        await self._sink(self._zip.begin(name, level))
        file = ArchivedFile(self._zip, self._sink)
        yield file
        await file.flush()
        await self._sink(await asyncio.to_thread(self._zip.end))

    async def finish(self) -> None:
        await self._sink(self._zip.directory())


class ArchivedFile:
    """A file in the archive. `sha256` and `bytes` are of what went in, and right when it has been left."""

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
        if len(self._buffer) >= PIECE:
            await self.flush()

    async def flush(self) -> None:
        piece, self._buffer = bytes(self._buffer), bytearray()
        await self._sink(await asyncio.to_thread(self._packed, piece))

    def _packed(self, piece: bytes) -> bytes:
        self.bytes += len(piece)
        self._digest.update(piece)
        return self._zip.add(piece)
