"""Files encoded from a SELECT without an export job, for tests of a format alone."""

import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg

from erp_service.exports.catalogue import DATASETS
from erp_service.exports.formats.base import About, Format, Options
from erp_service.registry.datasets import Column

ABOUT = About("things", "What <there> is & was.", datetime(2026, 1, 31, 12, 30, tzinfo=UTC))


class File:
    """The output of an encoder."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    async def write(self, data: bytes) -> None:
        self.pieces.append(data)

    @property
    def content(self) -> bytes:
        return b"".join(self.pieces)


async def encoded(
    connection: asyncpg.Connection, format_: Format, columns: Sequence[Column], source: str, *arguments: Any
) -> bytes:
    """`source` is what follows FROM, with `$1` ... for the arguments."""
    file, options = File(), Options()
    encoder = format_.encoder(columns, options, file.write, ABOUT)
    await encoder.begin()
    query = f"select {format_.select(columns, options)} from {source}"
    tag = await connection.copy_from_query(query, *arguments, output=encoder.write, **format_.copy(options))
    await encoder.finish(int(tag.removeprefix("COPY ")))
    return file.content


def everything(name: str) -> dict[str, bool]:
    """The filter with which the dataset leaves no row out."""
    return {"include_deleted": True} if any(known.lifts for known in DATASETS[name].filters) else {}


async def records(connection: asyncpg.Connection, name: str) -> list[tuple[Any, ...]]:
    """The stored rows in the order of exports; uuids and JSON as texts."""
    dataset, cast = DATASETS[name], {"uuid": "::text", "json": "::text"}
    selected = ", ".join(f"({known.sql}){cast.get(known.type, '')} as {known.name}" for known in dataset.columns)
    query = f"select {selected} from {dataset.source} order by {', '.join(dataset.key)}"
    return list(map(tuple, await connection.fetch(query)))


_MEASURED = """
import asyncio, sys
from erp_service.exports.formats.base import Options
from erp_service.exports.formats.registry import FORMATS
from erp_service.registry.datasets import Column
from tests.exports.formats.encoded import ABOUT, peak

async def main(name, row, rows):
    async def write(data):
        pass
    columns = [Column("id", "integer", "", ""), Column("name", "text", "", "")]
    encoder = FORMATS[name].encoder(columns, Options(), write, ABOUT)
    idle = peak()
    await encoder.begin()
    piece = row.encode().decode("unicode_escape").encode() * 1000
    for _ in range(rows // 1000):
        await encoder.write(piece)
    await encoder.finish(rows)
    print(peak() - idle)

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


def peak() -> int:
    """The peak memory of this process in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def memory_for(format_: str, row: str, rows: int) -> int:
    """The peak memory, in bytes above its idle size, of a process that encodes so many rows like this one."""
    command = [sys.executable, "-c", _MEASURED, format_, row, str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stderr
    return int(done.stdout)
