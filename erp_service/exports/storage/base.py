"""The store of export files: put a stream, open a range, delete, list. A file is complete under its key, or absent."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Literal, Protocol
from uuid import UUID

import msgspec

Sink = Callable[[bytes], Awaitable[None]]

_KEY = re.compile(
    r"(import\.|)([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.([0-9]{1,9})\.([a-z0-9]{1,16}(?:\.[a-z0-9]{1,16})?)"
)


class FileKey(msgspec.Struct, frozen=True):
    """A file's name contains its job and the attempt that wrote it, so no two writers ever share a name.

    `prefix` tells the files of imports apart: the housekeeping of exports, also that of an earlier version, leaves them
    alone."""

    export_id: UUID
    attempt: int
    extension: str
    prefix: str = ""

    def __str__(self) -> str:
        return f"{self.prefix}{self.export_id}.{self.attempt}.{self.extension}"

    @classmethod
    def read(cls, name: str) -> "FileKey | None":
        """None for a name that is not a job's: it contains a path, or belongs to another program."""
        if (match := _KEY.fullmatch(name)) is None:
            return None
        return cls(UUID(match[2]), int(match[3]), match[4], match[1])


class StoredFile(msgspec.Struct, frozen=True):
    """A file in the store. `whole` is false for one that an interrupted attempt left behind."""

    key: FileKey
    bytes: int
    modified_at: datetime
    whole: bool


class Missing(Exception):
    """The store has no file under this key, or a shorter one."""


class FileHeaders(msgspec.Struct, frozen=True):
    """The values of two headers, for a store that sends its files to clients itself."""

    content_type: str
    content_disposition: str


class Unreachable(OSError):
    """The store does not answer, or refuses. Nothing is known of its contents, and a later try may succeed."""


Method = Literal["GET", "HEAD"]

ADDRESS_SECONDS = 300
"""How long an address that a store has signed is valid; a download that has begun continues."""


class Store(Protocol):
    """All methods raise OSError when the store does not answer, with ENOSPC when it is full.

    Their messages contain no secret, and no text of a server's answer."""

    def writing(self, key: FileKey, headers: FileHeaders | None = None) -> AbstractAsyncContextManager[Sink]:
        """Inside, each call of the sink appends. After the exit, the file is durable and complete under its key; after
        an exit by an exception, nothing of it is left. Raises FileExistsError while another writes under this key."""

    async def size(self, key: FileKey) -> int | None:
        """In bytes; None if there is no such file."""

    def read(self, key: FileKey, start: int, stop: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to but not including `stop`, in pieces; raises Missing."""

    async def address(self, key: FileKey, method: Method) -> str | None:
        """The address at which anybody can get the file from the store itself, for ADDRESS_SECONDS; None if the store
        sends no files."""

    async def delete(self, key: FileKey) -> None:
        """Delete the file and what an attempt left of it; neither needs to exist."""

    def list_files(self) -> AsyncIterator[StoredFile]:
        """All files, complete or not, whose names are those of exports."""

    async def identity(self) -> str | None:
        """What `claim` wrote, on any instance; None for a new store."""

    async def claim(self, identity: str) -> str:
        """Write the identity unless the store has one, atomically; returns the one that it has now."""

    async def close(self) -> None:
        """Release connections. The store is not used afterwards."""
