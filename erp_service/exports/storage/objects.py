"""Object stores, through obstore: Amazon S3 and S3-compatible stores, Google Cloud Storage, Azure Blob Storage."""

import asyncio
import contextlib
import errno
import re
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any

import obstore
from obstore.exceptions import BaseError, NotSupportedError
from obstore.store import from_url

from erp_service.exports.storage.base import (
    ADDRESS_SECONDS,
    FileHeaders,
    FileKey,
    Method,
    Missing,
    Sink,
    StoredFile,
)
from erp_service.exports.storage.object_errors import translated

IDENTITY = ".erp-export-store"
MARK = ".part"
"""Suffix of an empty object that exists while a file is written, since no listing shows parts that were sent. Parts of
a killed process stay until the bucket's own rule for incomplete uploads removes them."""
PIECE = 2 * 1024 * 1024
PART = 8 * 1024 * 1024
"""Stores accept 10,000 parts of a file, so the largest file has 80 GB."""
_AT_ONCE = 2  # parts that are being sent: one export holds four in memory at most
_LISTED = 500
_ABORT_SECONDS = 20.0

# for one request, whose body is a part at most
_CLIENT = {"timeout": "60s", "connect_timeout": "5s", "user_agent": "erp-service"}
# obstore takes these options apart from the store's own, and panics if one is among those
_CLIENT_OPTIONS = re.compile(
    "allow_http|allow_invalid_certificates|(connect_|read_)?timeout|default_content_type|http[12]_\\w+|pool_\\w+"
    "|proxy_(url|excludes|ca_certificate)|randomize_addresses|root_certificate|user_agent"
)
_RETRIES: Any = {
    "max_retries": 4,
    "retry_timeout": timedelta(seconds=30),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5), "base": 2},
}


def connected(address: str, options: Mapping[str, str], *, listed: int = _LISTED) -> "ObjectStore":
    """Credentials and the endpoint come from `options`, else from the environment variables of each provider's own
    tools (`AWS_...`, `GOOGLE_...`, `AZURE_...`), else from the host; an endpoint without TLS needs the option
    `allow_http`. Connects to nothing yet.

    Raises ValueError, which repeats no value, for an address or option that cannot be used."""
    client = {name: value for name, value in options.items() if _CLIENT_OPTIONS.fullmatch(name)}
    config: Any = {name: value for name, value in options.items() if name not in client}
    client_options: Any = {**_CLIENT, **client}
    try:
        store = from_url(address, config=config, client_options=client_options, retry_config=_RETRIES)
    except (BaseError, ValueError) as exc:
        why = re.match(r"Configuration key: '[a-z0-9_]+' is not valid|.*Account must be specified", str(exc))
        raise ValueError(why[0] if why else "the address or an option is not of this kind of store") from None
    return ObjectStore(store, listed=listed)


class ObjectStore:
    """Implements storage.base.Store. `store` is one of obstore's, whose prefix only this database uses; `listed` is the
    number of objects in a page of a listing."""

    def __init__(self, store: Any, *, listed: int = _LISTED) -> None:
        self._store = store
        self._listed = listed

    @contextlib.asynccontextmanager
    async def writing(self, key: FileKey, headers: FileHeaders | None = None) -> AsyncIterator[Sink]:
        if not await self.create(f"{key}{MARK}", b""):
            raise FileExistsError(errno.EEXIST, "another writes this attempt's file", str(key))
        upload = _Upload(self._store, str(key), _attributes(headers))
        try:
            yield upload.write
            await upload.finish()
        except BaseException:
            await upload.abandon()
            # during an outage, housekeeping removes the rest later; the caller needs the first error
            with contextlib.suppress(OSError):
                await self.delete(key)
            raise
        # if the mark stays, the listing ignores it, since its file is complete
        with contextlib.suppress(OSError):
            await self._delete(f"{key}{MARK}")

    async def size(self, key: FileKey) -> int | None:
        try:
            with translated():
                return int((await obstore.head_async(self._store, str(key)))["size"])
        except FileNotFoundError:
            return None

    async def read(self, key: FileKey, start: int, stop: int) -> AsyncIterator[bytes]:
        # one request per piece: a single request would have to stay open as long as the slowest client
        ahead: asyncio.Task[bytes] | None = None
        try:
            while start < stop or ahead is not None:
                piece, ahead = ahead, None
                if start < stop:
                    end = min(start + PIECE, stop)
                    ahead = asyncio.create_task(self._piece(key, start, end))
                    start = end
                if piece is not None:
                    yield await piece
        finally:
            if ahead is not None:
                ahead.cancel()
                await asyncio.wait({ahead})

    async def address(self, key: FileKey, method: Method) -> str | None:
        with translated():
            expires = timedelta(seconds=ADDRESS_SECONDS)
            return await obstore.sign_async(self._store, method, str(key), expires)

    async def delete(self, key: FileKey) -> None:
        await self._delete(str(key))
        await self._delete(f"{key}{MARK}")

    async def list_files(self) -> AsyncIterator[StoredFile]:
        pages = aiter(obstore.list(self._store, chunk_size=self._listed))
        while True:
            with translated():
                page = await anext(pages, None)
            if page is None:
                return
            for entry in page:
                name = entry["path"]
                whole = not name.endswith(MARK)
                key = FileKey.read(name.removesuffix(MARK))
                # a mark that outlived its upload must not make a complete file look incomplete
                if key is not None and (whole or await self.size(key) is None):
                    yield StoredFile(key, entry["size"], entry["last_modified"], whole)

    async def identity(self) -> str | None:
        try:
            with translated():
                answer = await obstore.get_async(self._store, IDENTITY)
                return bytes(await answer.bytes_async()).decode(errors="replace")
        except FileNotFoundError:
            return None

    async def claim(self, identity: str) -> str:
        await self.create(IDENTITY, identity.encode())
        # read back, since not every store can create an object only if it does not exist
        return await self.identity() or identity

    async def close(self) -> None:
        pass

    async def _piece(self, key: FileKey, start: int, stop: int) -> bytes:
        try:
            with translated():
                piece = bytes(await obstore.get_range_async(self._store, str(key), start=start, end=stop))
        except FileNotFoundError:
            raise Missing(str(key)) from None
        if len(piece) != stop - start:
            raise Missing(str(key))
        return piece

    async def create(self, name: str, content: bytes) -> bool:
        """False if an object of this name exists already."""
        try:
            with translated():
                try:
                    await obstore.put_async(self._store, name, content, mode="create")
                except NotSupportedError:
                    await obstore.put_async(self._store, name, content)
        except FileExistsError:
            return False
        return True

    async def _delete(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError), translated():
            await obstore.delete_async(self._store, name)


class _Upload:
    """One request for a small file, else parts of PART bytes each."""

    def __init__(self, store: Any, name: str, attributes: Any) -> None:
        self._store, self._name, self._attributes = store, name, attributes
        self._buffer = bytearray()
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=1)
        self._given_up = False
        self._sending: asyncio.Task[None] | None = None

    async def write(self, data: bytes) -> None:
        if self._sending is None:
            self._buffer += data
            if len(self._buffer) < PART:
                return
            data, self._buffer = bytes(self._buffer), bytearray()
            self._sending = asyncio.create_task(self._send())
        await self._hand_over(data, self._sending)

    async def finish(self) -> None:
        if self._sending is None:
            await self._put(bytes(self._buffer), use_multipart=False)
            return
        await self._hand_over(None, self._sending)
        # not `await`: a cancellation of the caller must not cancel it, since then nobody would remove its parts
        await asyncio.wait({self._sending})
        self._sending.result()

    async def abandon(self) -> None:
        """Have the store drop the parts that were sent. Does nothing if it has the whole file already."""
        if self._sending is None:
            return
        self._given_up = True
        while not self._pieces.empty():
            self._pieces.get_nowait()
        self._pieces.put_nowait(None)
        done, _ = await asyncio.wait({self._sending}, timeout=_ABORT_SECONDS)
        for task in done:
            task.exception()

    async def _hand_over(self, piece: bytes | None, sending: asyncio.Task[None]) -> None:
        putting = asyncio.create_task(self._pieces.put(piece))
        try:
            await asyncio.wait({putting, sending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            putting.cancel()
        if sending.done():
            sending.result()

    async def _send(self) -> None:
        await self._put(self._parts(), use_multipart=True, chunk_size=PART, max_concurrency=_AT_ONCE)

    async def _parts(self) -> AsyncIterator[bytes]:
        while (piece := await self._pieces.get()) is not None:
            yield piece
        if self._given_up:
            # obstore aborts an upload if its source fails, and has no other way to ask for that
            raise _GivenUp

    async def _put(self, content: Any, **how: Any) -> None:
        with translated():
            await obstore.put_async(self._store, self._name, content, attributes=self._attributes, **how)


class _GivenUp(Exception):
    pass


def _attributes(headers: FileHeaders | None) -> dict[str, str]:
    attributes = {"Cache-Control": "private, no-transform"}
    if headers is None:
        return attributes
    return attributes | {"Content-Type": headers.content_type, "Content-Disposition": headers.content_disposition}
