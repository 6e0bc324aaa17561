"""Where export files live: put a stream, open a range, delete, list. A file is whole under its key, or not there."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Literal, Protocol
from uuid import UUID

import msgspec

Sink = Callable[[bytes], Awaitable[None]]

_KEY = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.([0-9]{1,9})\.([a-z0-9]{1,16}(?:\.[a-z0-9]{1,16})?)")


class FileKey(msgspec.Struct, frozen=True):
    """The name of a file carries its export and the attempt that wrote it, so no two writers ever share one."""

    export_id: UUID
    attempt: int
    extension: str

    def __str__(self) -> str:
        return f"{self.export_id}.{self.attempt}.{self.extension}"

    @classmethod
    def read(cls, name: str) -> "FileKey | None":
        """None for a name that no export has: it holds a path, or is a stranger's."""
        if (match := _KEY.fullmatch(name)) is None:
            return None
        return cls(UUID(match[1]), int(match[2]), match[3])


class StoredFile(msgspec.Struct, frozen=True):
    """What lies in the store. `whole` is false for what an attempt that was cut short left behind."""

    key: FileKey
    bytes: int
    modified_at: datetime
    whole: bool


class Missing(Exception):
    """The store holds no file of this key, or a shorter one."""


class Described(msgspec.Struct, frozen=True):
    """What a store that hands out files by itself says of one: the values of these two headers."""

    content_type: str
    content_disposition: str


class Unreachable(OSError):
    """The store does not answer, or refuses: nothing is known of what it holds, and another moment may do better."""


Method = Literal["GET", "HEAD"]

ADDRESS_SECONDS = 300
"""For how long an address that a store signed can be asked; a download that has begun goes on."""


class Store(Protocol):
    """All raise OSError when the store does not answer; ENOSPC when it is full.

    No message of these holds a secret, or what a server answered."""

    def writing(self, key: FileKey, described: Described | None = None) -> AbstractAsyncContextManager[Sink]:
        """Inside, each call of the sink appends. When left, the file is durable and whole under its key; when left by
        an exception, nothing of it is there. Raises FileExistsError while another writes under this key."""

    async def size(self, key: FileKey) -> int | None:
        """In bytes; None if there is no such file."""

    def read(self, key: FileKey, start: int, stop: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to but not including `stop`, in pieces; raises Missing."""

    async def address(self, key: FileKey, method: Method) -> str | None:
        """Where anybody can ask the store itself for the file, for ADDRESS_SECONDS; None if it cannot be asked."""

    async def delete(self, key: FileKey) -> None:
        """The file and what an attempt left of it; nothing if neither is there."""

    def kept(self) -> AsyncIterator[StoredFile]:
        """All that lies in the store under names of exports."""

    async def identity(self) -> str | None:
        """What `claim` wrote, on whichever instance; None for a new store."""

    async def claim(self, identity: str) -> str:
        """Write the identity unless there is one, atomically; returns the one that is there now."""

    async def close(self) -> None:
        """Let go of what it holds. It is not used after that."""
