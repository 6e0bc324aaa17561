"""Compression of text formats: of the file itself and not as `Content-Encoding`, so that ranges stay valid.

Measured on CSV of stock movements, in MB of CSV per second of CPU, and the compressed size in per cent: ISA-L 440 and
24, zlib at its fastest level 103 and 27, zlib-ng 215 and 34, Zstandard 172 and 13. So one thread keeps up with several
COPYs."""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, Protocol

import zstandard
from isal import isal_zlib

CompressionName = Literal["none", "gzip", "zstd"]

_ISAL_LEVEL = 2  # of 0 to 3
_GZIP = 31  # a window of 32 KiB, and a gzip header without a time: the same bytes for the same rows
_ZSTD_LEVEL = 3


class Compressor(Protocol):
    """Compresses one file. May be called in threads, by one at a time."""

    def compress(self, data: bytes) -> bytes: ...

    def flush(self) -> bytes:
        """The rest of the data and the end of the file, without which readers take the file for truncated."""


class Compression(NamedTuple):
    name: CompressionName
    media_type: str
    extension: str
    compressor: Callable[[], Compressor]


def _gzip() -> Compressor:
    return isal_zlib.compressobj(_ISAL_LEVEL, isal_zlib.DEFLATED, _GZIP)


def _zstd() -> Compressor:
    # by the checksum, a reader recognises a damaged file
    return zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True).compressobj()


COMPRESSIONS: Mapping[str, Compression] = {
    "gzip": Compression("gzip", "application/gzip", "gz", _gzip),
    "zstd": Compression("zstd", "application/zstd", "zst", _zstd),
}
"""Without "none", which does nothing."""
