"""A file to import, as one unchanging text: decompressed once into a temporary file, which is then digested and read.

What compresses it is told by its first bytes, not by its name. Memory stays under about 130 MB even for a file that
was made to expand without end, for it is taken in small bites; for honest files it is a few MB.
"""

import hashlib
import lzma
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import msgspec
import zstandard

from erp_service.imports.csv_table import ImportRefused

STDIN = "-"

Reading = Callable[[int, int], None]
"""Told how many bytes of the file have been read, and of how many; 0 of a pipe, whose size nobody knows."""

_BITE = 4 * 1024  # zstd makes at most 128 KiB of 4 bytes
_PLAIN_BITE = 1024 * 1024


class Decompressor(Protocol):
    """What lzma, zlib and zstandard have in common: one stream each, and what follows it left over."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...


_FORMATS: dict[bytes, Callable[[], Any]] = {
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
    """The decompressed bytes in a temporary file of ours, positioned by whoever reads it; `lines` counts line feeds."""

    file: BinaryIO
    name: str
    sha256: str
    size: int
    lines: int


@contextmanager
def spooled(path: str | Path, reading: Reading) -> Iterator[Spooled]:
    """Copy the file, or standard input for `-`, so that nobody can change it between checking and posting.

    Raises ImportRefused when it is damaged, cut short, empty, or no text at all; OSError when it cannot be opened."""
    with ExitStack() as stack:
        temporary = stack.enter_context(tempfile.TemporaryFile(prefix="erp-import-"))
        if str(path) == STDIN:
            source, name, size = sys.stdin.buffer, STDIN, 0
        else:
            source = stack.enter_context(Path(path).open("rb"))
            name, size = Path(path).name, Path(path).stat().st_size
        digest, written, lines = hashlib.sha256(), 0, 0
        for piece in _decompressed(source, lambda done: reading(done, size)):
            digest.update(piece)
            written += len(piece)
            lines += piece.count(b"\n")
            temporary.write(piece)
        if not written:
            raise ImportRefused.because("The file is empty.")
        temporary.flush()
        yield Spooled(temporary, name, digest.hexdigest(), written, lines)


def _decompressed(source: BinaryIO, reading: Callable[[int], None]) -> Iterator[bytes]:
    beginning = source.read(_BITE)
    for magic, what in _FOREIGN.items():
        if beginning.startswith(magic):
            raise ImportRefused.because(f"The file {what}.")
    make = next((make for magic, make in _FORMATS.items() if beginning.startswith(magic)), None)
    bites = _bites(source, beginning, _PLAIN_BITE if make is None else _BITE, reading)
    if make is None:
        yield from bites
        return
    try:
        yield from _streams(bites, make)
    except (lzma.LZMAError, zlib.error, zstandard.ZstdError):
        raise ImportRefused.because("The compressed file is damaged.") from None


def _bites(source: BinaryIO, bite: bytes, size: int, reading: Callable[[int], None]) -> Iterator[bytes]:
    done, told = 0, 0
    while bite:
        yield bite
        done += len(bite)
        if done - told >= _PLAIN_BITE:
            reading(told := done)
        bite = source.read(size)
    reading(done)


def _streams(bites: Iterator[bytes], make: Callable[[], Decompressor]) -> Iterator[bytes]:
    """One after the other, as `cat a.xz b.xz` and parallel compressors leave them; zeros between are padding."""
    stream: Decompressor | None = None
    for whole_bite in bites:
        bite = whole_bite
        while bite := bite if stream else bite.lstrip(b"\0"):
            stream = stream or make()
            yield stream.decompress(bite)
            bite, stream = (stream.unused_data, None) if stream.eof else (b"", stream)
    # the decompressors say nothing of it by themselves
    if stream is not None:
        raise ImportRefused.because("The compressed file is cut short.")
