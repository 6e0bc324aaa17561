"""Where export files live: put a stream, open a range, delete, list. A file is whole under its key, or not there."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec

Sink = Callable[[bytes], Awaitable[None]]

_KEY = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.([0-9]{1,9})\.([a-z0-9]{1,16}(?:\.[a-z0-9]{1,16})?)")


class Key(msgspec.Struct, frozen=True):
    """The name of a file carries its export and the attempt that wrote it, so no two writers ever share one."""

    export_id: UUID
    attempt: int
    extension: str

    def __str__(self) -> str:
        return f"{self.export_id}.{self.attempt}.{self.extension}"

    @classmethod
    def read(cls, name: str) -> "Key | None":
        """None for a name that no export has: it holds a path, or is a stranger's."""
        if (match := _KEY.fullmatch(name)) is None:
            return None
        return cls(UUID(match[1]), int(match[2]), match[3])


class Kept(msgspec.Struct, frozen=True):
    """What lies in the store. `whole` is false for what an attempt that was cut short left behind."""

    key: Key
    bytes: int
    modified_at: datetime
    whole: bool


class Missing(Exception):
    """The store holds no file of this key, or a shorter one."""


class Store(Protocol):
    """All raise OSError when the store does not answer; ENOSPC when it is full."""

    def writing(self, key: Key) -> AbstractAsyncContextManager[Sink]:
        """Inside, each call of the sink appends. When left, the file is durable and whole under its key; when left by
        an exception, nothing of it is there."""

    async def size(self, key: Key) -> int | None:
        """In bytes; None if there is no such file."""

    def read(self, key: Key, start: int, stop: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to but not including `stop`, in pieces; raises Missing."""

    async def delete(self, key: Key) -> None:
        """The file and what an attempt left of it; nothing if neither is there."""

    def kept(self) -> AsyncIterator[Kept]:
        """All that lies in the store under names of exports."""

    async def identity(self) -> str | None:
        """What `claim` wrote, on whichever instance; None for a new store."""

    async def claim(self, identity: str) -> str:
        """Write the identity unless there is one, atomically; returns the one that is there now."""
