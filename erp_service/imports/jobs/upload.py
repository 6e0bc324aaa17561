"""A file on its way into the store: piece by piece, digested, and limited in size and time. Holds no connection of the
database while the client sends."""

import asyncio
import contextlib
import hashlib
import re
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from time import monotonic
from typing import Any
from urllib.parse import unquote
from uuid import UUID

import msgspec

from erp_service import errors
from erp_service.exports.context import ExportContext
from erp_service.exports.problems import StoreFull, StoreUnavailable
from erp_service.exports.run import store_failures
from erp_service.exports.storage.base import FileKey, Sink
from erp_service.imports.jobs.kind import PREFIX
from erp_service.imports.jobs.problems import FileTooLarge, NotAFile, TooManyImports, UploadTooSlow
from erp_service.observability.telemetry import log
from erp_service.texts import nfc

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
"""The next event of the request, as ASGI has it."""

PIECE = 256 * 1024
"""Bytes that are given to the store at once."""


class Patience(msgspec.Struct, frozen=True):
    """How slow a client may be: in each `window` of seconds in which we wait for it, it must send `least` bytes; and
    the whole file must be there after `most` seconds, which is less than housekeeping's grace for files without a
    row."""

    window: float = 15.0
    least: int = 64 * 1024
    most: float = 1800.0


class Upload(msgspec.Struct, frozen=True):
    """A file that is whole in the store."""

    key: FileKey
    bytes: int
    sha256: str


MEDIA_TYPES = {
    **dict.fromkeys(("text/csv", "application/csv", "text/tab-separated-values", "application/vnd.ms-excel"), "csv"),
    **dict.fromkeys(
        ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonl"), "jsonl"
    ),
    **dict.fromkeys(("application/gzip", "application/x-gzip", "application/zstd", "application/x-xz"), "bin"),
    **dict.fromkeys(("application/octet-stream", ""), "bin"),
}
"""What a body may call itself, and the extension of its file. What it really is, its first bytes tell."""
_CODINGS = ("", "identity", "gzip", "x-gzip", "zstd")
# RFC 6266: the extended form wins
_EXTENDED = re.compile(r"filename\*=UTF-8''([^\s;]+)", re.IGNORECASE)
_FILENAME = re.compile(r"filename=\"?([^\";]+)", re.IGNORECASE)
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f]")

# one for each user on one instance: a browser tab sends one file, a script perhaps two
_AT_ONCE = 3
_arriving: Counter[int | None] = Counter()


def extension(media_type: str, coding: str) -> str:
    """Raises NotAFile for a body that calls itself something else."""
    known = MEDIA_TYPES.get(media_type.lower())
    if known is None:
        raise NotAFile(f"Send the file itself as text/csv or application/x-ndjson, not as {media_type[:100]}.")
    if coding.strip().lower() not in _CODINGS:
        raise NotAFile(
            "The body may be compressed by gzip or zstd.", headers={"Accept-Encoding": "gzip, zstd, identity"}
        )
    return known


def filename(disposition: str | None, dataset: str, extension: str) -> str:
    """The last part of the name in `Content-Disposition`, without what no name should have; or the dataset's."""
    given = _EXTENDED.search(disposition or "")
    plain = _FILENAME.search(disposition or "")
    stated = unquote(given[1]) if given is not None else plain[1] if plain is not None else ""
    name = _UNSAFE.sub("", nfc(stated)).replace("\\", "/").rpartition("/")[2].strip(" .")
    return name[:200] or f"{dataset}.{'csv' if extension == 'bin' else extension}"


@contextlib.contextmanager
def counted(user_id: int | None) -> Iterator[None]:
    """Raises TooManyImports while as many files of this user are arriving here."""
    if _arriving[user_id] >= _AT_ONCE:
        raise TooManyImports(f"{_AT_ONCE} of your files are arriving here.", headers={"Retry-After": "5"})
    _arriving[user_id] += 1
    try:
        yield
    finally:
        _arriving[user_id] -= 1
        if not _arriving[user_id]:
            del _arriving[user_id]


async def store_body(
    exports: ExportContext, receive: Receive, job_id: UUID, extension: str, *, patience: Patience | None = None
) -> Upload:
    """Write the body of a request into the store, as the file of this job. After an error nothing of it is there.

    Raises FileTooLarge, UploadTooSlow, errors.Malformed, errors.Invalid for an empty body, StoreFull,
    StoreUnavailable."""
    key = FileKey(job_id, 0, extension, PREFIX)
    pieces = _pieces(receive, exports.settings.import_bytes, patience or Patience())
    digest, size = hashlib.sha256(), 0
    try:
        async with exports.store.writing(key) as sink:
            async with contextlib.aclosing(pieces):
                size = await _write(pieces, sink, digest.update)
            if not size:
                raise errors.Invalid(None, errors.Fault("is empty: send the file as the body", pointer=""))
    except OSError as exc:
        log.error("a file to import cannot be stored", error=exc)
        problem = store_failures.problem_of(exc)
        if isinstance(problem, StoreFull):
            raise StoreFull("The disk for files is full.") from exc
        raise StoreUnavailable(headers={"Retry-After": "5"}) from exc
    return Upload(key, size, digest.hexdigest())


async def _write(pieces: AsyncIterator[bytes], sink: Sink, digest: Callable[[bytes], None]) -> int:
    size, buffer = 0, bytearray()
    async for piece in pieces:
        size += len(piece)
        buffer += piece
        if len(buffer) >= PIECE:
            await _put(bytes(buffer), sink, digest)
            buffer.clear()
    if buffer:
        await _put(bytes(buffer), sink, digest)
    return size


async def _put(data: bytes, sink: Sink, digest: Callable[[bytes], None]) -> None:
    await asyncio.to_thread(digest, data)
    await sink(data)


async def _pieces(receive: Receive, most_bytes: int, patience: Patience) -> AsyncGenerator[bytes, None]:
    """The body as it arrives. Only time that is spent waiting for the client counts against it."""
    began, waited, window_bytes, size, more = monotonic(), 0.0, 0, 0, True
    while more:
        asked = monotonic()
        try:
            async with asyncio.timeout(patience.window - waited):
                message = await receive()
        except TimeoutError:
            message = {"type": "http.request", "body": b"", "more_body": True}
        waited += monotonic() - asked
        if message["type"] != "http.request":
            raise errors.Malformed("The connection was closed before the end of the body.")
        piece, more = message.get("body", b""), message.get("more_body", False)
        size, window_bytes = size + len(piece), window_bytes + len(piece)
        if size > most_bytes:
            raise too_large(most_bytes)
        if piece:
            yield piece
        if not more:
            return
        if waited >= patience.window:
            if window_bytes < patience.least:
                detail = f"Less than {patience.least // 1024} KiB arrived within {patience.window:g} seconds."
                raise UploadTooSlow(detail, headers={"Connection": "close"})
            waited, window_bytes = 0.0, 0
        if monotonic() - began > patience.most:
            raise UploadTooSlow(f"It took more than {patience.most:g} seconds.", headers={"Connection": "close"})


def too_large(most_bytes: int) -> FileTooLarge:
    return FileTooLarge(f"A file may have at most {most_bytes:,} bytes here.", headers={"Connection": "close"})
