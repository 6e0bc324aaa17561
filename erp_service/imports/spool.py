"""A file to import, decompressed once into a temporary file, which then is digested and read, and cannot change.

The compression is recognised by the file's first bytes, not by its name. Memory stays under about 130 MB even for a
file that was made to expand without end, since it is decompressed in small chunks; for ordinary files it is a few MB.
"""

import codecs
import errno
import hashlib
import lzma
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Protocol, TypeAlias

import msgspec
import zstandard

from erp_service.imports.files.faults import ImportRefused, LineFault

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
    b"PK\x03\x04": "is a workbook (.xlsx, .ods) or a zip archive: save the sheet as CSV in UTF-8",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "is an old workbook (.xls): save the sheet as CSV in UTF-8",
    b"BZh": "is compressed by bzip2: use xz, gzip or zstd",
    b"7z\xbc\xaf\x27\x1c": "is a 7z archive: unpack it first",
    b"Rar!": "is a rar archive: unpack it first",
    b"PAR1": "is a Parquet file: export it as CSV",
    b"%PDF": "is a PDF: export the table as CSV",
    b"<": "is HTML or XML, perhaps under the name of a workbook: save the sheet as CSV in UTF-8",
    b"[": "is JSON as one array: write an object a line (JSON Lines), or CSV",
}
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_LONGEST_MAGIC = 8


class CannotRead(Exception):
    """The file cannot be opened or read, or there is no room for a copy of it."""

    def __init__(self, error: OSError, path: str | Path) -> None:
        if error.errno == errno.ENOSPC:
            super().__init__(f"there is no room for a copy of the file in {tempfile.gettempdir()}")
        else:
            super().__init__(f"cannot read {path}: {error.strerror or error}")


class Spooled(msgspec.Struct, frozen=True):
    """The decompressed bytes in a temporary file of ours, which each reader positions; `lines` counts line feeds."""

    file: BinaryIO
    name: str
    sha256: str
    """Of the decompressed bytes, before they are made UTF-8."""
    size: int
    lines: int


@contextmanager
def spooled(path: str | Path, progress: ReadProgress, encoding: str | None = None) -> Iterator[Spooled]:
    """Copy the file, or standard input for `-`, so that nobody can change it between checking and posting.

    It is kept in UTF-8, whatever its `encoding` is. Raises ImportRefused if it is damaged, cut short, empty, or not
    text; CannotRead."""
    with ExitStack() as stack:
        try:
            if str(path) == STDIN:
                source, name, size = sys.stdin.buffer, STDIN, 0
            else:
                source = stack.enter_context(Path(path).open("rb"))
                name, size = Path(path).name, Path(path).stat().st_size
            content = stack.enter_context(spooled_from(source, name, lambda done: progress(done, size), encoding))
        except OSError as exc:
            raise CannotRead(exc, path) from exc
        yield content


@contextmanager
def spooled_from(
    source: BinaryIO,
    name: str,
    progress: Callable[[int], None],
    encoding: str | None = None,
    *,
    most_bytes: int | None = None,
) -> Iterator[Spooled]:
    """The same of an open file. Refuses what expands to more than `most_bytes`; raises OSError of the disk."""
    with tempfile.TemporaryFile(prefix="erp-import-") as temporary:
        content = hashlib.sha256()
        chunks = _digested(_recognised(_decompressed(source, progress)), content)
        written, lines = 0, 0
        for chunk in _in_utf_8(chunks, encoding):
            written += len(chunk)
            if most_bytes is not None and written > most_bytes:
                raise ImportRefused.because(f"The file has more than {most_bytes:,} bytes when it is unpacked.")
            lines += chunk.count(b"\n")
            temporary.write(chunk)
        if not written:
            raise ImportRefused.because("The file is empty.")
        temporary.flush()
        yield Spooled(temporary, name, content.hexdigest(), written, lines)


def _digested(chunks: Iterator[bytes], content: "hashlib._Hash") -> Iterator[bytes]:
    for chunk in chunks:
        content.update(chunk)
        yield chunk


def _recognised(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes, the first of them at once. Raises ImportRefused for what is certainly no CSV."""
    beginning = b""
    for chunk in chunks:
        beginning += chunk
        if len(beginning) >= _LONGEST_MAGIC:
            break
    for magic, description in _FOREIGN.items():
        if beginning.startswith(magic):
            raise ImportRefused.because(f"The file {description}.")
    yield beginning
    yield from chunks


def _in_utf_8(chunks: Iterator[bytes], encoding: str | None) -> Iterator[bytes]:
    """The text in UTF-8. UTF-8 itself passes as it is: csv_table.py names each line that is not."""
    beginning = next(chunks, b"")
    if encoding is None and beginning.startswith(_UTF_16):
        encoding = "utf-16"
    if encoding is None or codecs.lookup(encoding).name in ("utf-8", "utf-8-sig"):
        yield beginning
        yield from chunks
        return
    if beginning.startswith(codecs.BOM_UTF8):
        raise ImportRefused.because(f"The file begins with the mark of UTF-8, so it is not {encoding}.")
    decoder, lines = codecs.getincrementaldecoder(encoding)(), 0
    try:
        for chunk in chain((beginning,), chunks):
            text = decoder.decode(chunk)
            lines += text.count("\n")
            yield text.encode("utf-8", "surrogatepass")
        yield decoder.decode(b"", final=True).encode("utf-8", "surrogatepass")
    except UnicodeDecodeError as exc:
        line = lines + exc.object[: exc.start].count(b"\n") + 1
        raise ImportRefused([LineFault(f"is not {encoding}", line)], 1) from None


def _decompressed(source: BinaryIO, progress: Callable[[int], None]) -> Iterator[bytes]:
    beginning = source.read(_CHUNK)
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
