"""Compressed files: common tools read them back, they are the same each time, and damage is detected."""

import asyncio
import gzip
import io
import subprocess
import threading
import zlib
from pathlib import Path

import asyncpg
import httpx
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from erp_service.exports.catalogue import DATASETS
from erp_service.exports.formats.compression import COMPRESSIONS
from erp_service.exports.planning.selection import psql_text
from erp_service.exports.run.output import PIECE, Output
from erp_service.exports.storage.base import FileKey
from tests.exports.data import many_items
from tests.exports.formats.text_files import downloaded
from tests.exports.jobs import JOBS, done
from tests.support.psql import Psql
from tests.support.workers import Work


def opened(compression: str, file: bytes) -> bytes:
    if compression == "gzip":
        return gzip.decompress(file)
    with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(file)) as reader:
        return reader.read()


@pytest.mark.parametrize(
    ("compression", "media_type", "extension"),
    [("gzip", "application/gzip", "gz"), ("zstd", "application/zstd", "zst")],
)
async def test_compressed_file_holds_what_the_plain_one_does(
    compression: str,
    media_type: str,
    extension: str,
    viewer: httpx.AsyncClient,
    owner: asyncpg.Connection,
    work: Work,
    psql: Psql,
) -> None:
    await many_items(owner, 20_000)
    async with work():
        job = await done(viewer, "items", compression=compression)
        lines = await done(viewer, "items", compression=compression, format="jsonl")
        answer = await viewer.get(f"{JOBS}/{job['id']}/download")
        # the file is compressed, not the response: no proxy decompresses it, and ranges are ranges of the file
        assert "Content-Encoding" not in answer.headers
        assert answer.headers["Content-Type"] == media_type == job["result"]["media_type"]
        assert job["result"]["filename"].endswith(f".csv.{extension}")
        assert lines["result"]["filename"].endswith(f".jsonl.{extension}")
        part = await viewer.get(f"{JOBS}/{job['id']}/download", headers={"Range": "bytes=100-199"})
        assert (part.status_code, part.content) == (206, answer.content[100:200])
        plain = opened(compression, await downloaded(viewer, job))
        expected = psql(psql_text(DATASETS["items"]))
        assert plain.splitlines()[0] == expected.splitlines()[0]
        assert plain == expected
        assert job["result"]["bytes"] < len(expected) / 4
        assert opened(compression, await downloaded(viewer, lines)).count(b"\n") == 20_000


@pytest.mark.parametrize("compression", sorted(COMPRESSIONS))
async def test_cut_or_damaged_file_is_refused_by_its_reader(compression: str) -> None:
    file = await packed(compression, [b"some rows\n" * 1000, b"more\n" * 1000])
    for cut in (1, 4, len(file) // 2):
        with pytest.raises((EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError)):
            strictly(compression, file[:-cut])
    damaged = bytearray(file)
    damaged[-6] ^= 0xFF
    with pytest.raises((EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError)):
        strictly(compression, bytes(damaged))
    assert strictly(compression, file) == b"some rows\n" * 1000 + b"more\n" * 1000


def strictly(compression: str, file: bytes) -> bytes:
    if compression == "gzip":
        return gzip.decompress(file)
    decompressor = zstandard.ZstdDecompressor().decompressobj()
    whole = decompressor.decompress(file)
    if not decompressor.eof:
        raise EOFError
    return whole


async def packed(compression: str, pieces: list[bytes]) -> bytes:
    held = bytearray()

    async def sink(data: bytes) -> None:
        held.extend(data)

    output = Output(sink, COMPRESSIONS[compression].compressor())
    for piece in pieces:
        await output.write(piece)
    await output.finish()
    assert output.bytes == len(held)
    return bytes(held)


@given(pieces=st.lists(st.binary(max_size=2000), max_size=6), repeated=st.integers(1, 300))
async def test_any_bytes_come_back_and_are_the_same_each_time(pieces: list[bytes], repeated: int) -> None:
    pieces = [piece * repeated for piece in pieces]
    for compression in COMPRESSIONS:
        file = await packed(compression, pieces)
        assert opened(compression, file) == b"".join(pieces)
        assert await packed(compression, pieces) == file


async def test_the_command_line_tools_of_everybody_read_it(tmp_path: Path) -> None:
    target = tmp_path / "items.csv.gz"
    target.write_bytes(await packed("gzip", [b"id,sku\n", b"1,A\n" * 100_000]))
    assert subprocess.run(["gzip", "-dc", target], check=True, capture_output=True).stdout.count(b"\n") == 100_001


def test_names_of_compressed_files_are_keys_of_the_store() -> None:
    for name in ("csv.gz", "jsonl.zst"):
        key = FileKey.read(f"018f0000-0000-7000-8000-000000000000.1.{name}")
        assert key is not None
        assert key.extension == name


async def test_an_export_that_compresses_does_not_freeze_the_server() -> None:
    """A compressor that ends only after the event loop has run once: called in the loop, it would never end."""
    gone_round, took = threading.Event(), []

    class Slow:
        def compress(self, data: bytes) -> bytes:
            took.append(gone_round.wait(10))
            return data

        def flush(self) -> bytes:
            took.append(gone_round.wait(10))
            return b"end"

    async def sink(_: bytes) -> None:
        pass

    output = Output(sink, Slow())
    writing = asyncio.create_task(output.write(b"x" * PIECE))
    await writing
    asyncio.get_running_loop().call_soon(gone_round.set)
    await output.finish()
    assert took == [True, True, True]
