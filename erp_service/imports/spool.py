"""A file to import, decompressed once into a temporary file, which then is digested and read, and cannot change.

The compression is recognised by the file's first bytes, not by its name. Memory stays under about 130 MB even for a
file that was made to expand without end, since it is decompressed in small chunks; for ordinary files it is a few MB.
"""

import hashlib
import lzma
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, TypeAlias

import msgspec
import zstandard

from erp_service.imports.csv_table import ImportRefused

STDIN = "-"

ReadProgress: TypeAlias = Callable[[int, int], None]
"""Called with the bytes of the file that are read, and its size; the size is 0 for a pipe, where it is unknown."""

_CHUNK = 4 * 1024  # zstd expands 4 bytes to 128 KiB at most
_PLAIN_CHUNK = 1024 * 1024


class Decompressor(Protocol):
    """The common part of lzma, zlib and zstandard: it reads one stream, and keeps what follows the stream."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...


_FORMATS: dict[bytes, Callable[[], Decompressor]] = {
    b"\xfd7zXZ\0": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ),
    b"\x1f\x8b": lambda: zlib.decompressobj(wbits=31),
    b"\x28\xb5\x2f\xfd": lambda: zstandard.ZstdDecompressor().decompressobj(),
}
_FOREIGN = {
    b"PK\x03\x04": "is a zip archive or a spreadsheet: save it as CSV in UTF-8",
    b"\xff\xfe": "is UTF-16: save it as UTF-8",
    b"\xfe\xff": "is UTF-16: save it as UTF-8",
}


class Spooled(msgspec.Struct, frozen=True):
    """The decompressed bytes in a temporary file of ours, which each reader positions; `lines` counts line feeds."""

    file: BinaryIO
    name: str
    sha256: str
    size: int
    lines: int


@contextmanager
def spooled(path: str | Path, progress: ReadProgress) -> Iterator[Spooled]:
    """Copy the file, or standard input for `-`, so that nobody can change it between checking and posting.

    Raises ImportRefused if it is damaged, cut short, empty, or not text; OSError if it cannot be opened."""
    with ExitStack() as stack:
        temporary = stack.enter_context(tempfile.TemporaryFile(prefix="erp-import-"))
        if str(path) == STDIN:
            source, name, size = sys.stdin.buffer, STDIN, 0
        else:
            source = stack.enter_context(Path(path).open("rb"))
            name, size = Path(path).name, Path(path).stat().st_size
        digest, written, lines = hashlib.sha256(), 0, 0
        for chunk in _decompressed(source, lambda done: progress(done, size)):
            digest.update(chunk)
            written += len(chunk)
            lines += chunk.count(b"\n")
            temporary.write(chunk)
        if not written:
            raise ImportRefused.because("The file is empty.")
        temporary.flush()
        yield Spooled(temporary, name, digest.hexdigest(), written, lines)


def _decompressed(source: BinaryIO, progress: Callable[[int], None]) -> Iterator[bytes]:
    beginning = source.read(_CHUNK)
    for magic, description in _FOREIGN.items():
        if beginning.startswith(magic):
            raise ImportRefused.because(f"The file {description}.")
    make = next((make for magic, make in _FORMATS.items() if beginning.startswith(magic)), None)
    chunks = _chunks(source, beginning, _PLAIN_CHUNK if make is None else _CHUNK, progress)
    if make is None:
        yield from chunks
        return
    try:
        yield from _streams(chunks, make)
    except (lzma.LZMAError, zlib.error, zstandard.ZstdError):
        raise ImportRefused.because("The compressed file is damaged.") from None


def _chunks(source: BinaryIO, chunk: bytes, size: int, progress: Callable[[int], None]) -> Iterator[bytes]:
    """`chunk`, which is read already, and those after it. Calls `progress` about once a megabyte, and at the end."""
    done, reported = 0, 0
    while chunk:
        yield chunk
        done += len(chunk)
        if done - reported >= _PLAIN_CHUNK:
            progress(reported := done)
        chunk = source.read(size)
    progress(done)


def _streams(chunks: Iterator[bytes], make: Callable[[], Decompressor]) -> Iterator[bytes]:
    """Decompresses stream after stream, as `cat a.xz b.xz` and parallel compressors write them, padded with zeros."""
    stream: Decompressor | None = None
    for chunk in chunks:
        rest = chunk
        while rest := rest if stream else rest.lstrip(b"\0"):
            stream = stream or make()
            yield stream.decompress(rest)
            rest, stream = (stream.unused_data, None) if stream.eof else (b"", stream)
    # the decompressors themselves do not report a stream that does not end
    if stream is not None:
        raise ImportRefused.because("The compressed file is cut short.")
