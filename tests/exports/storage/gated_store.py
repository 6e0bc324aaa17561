"""A store whose writing a test holds."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from erp_service.exports.storage.base import FileHeaders, FileKey, Sink, Store


class GatedStore:
    """The real store, whose sink waits for `gate` once the first piece has `reached` it: in the middle of the COPY."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.reached, self.gate = asyncio.Event(), asyncio.Event()

    @contextlib.asynccontextmanager
    async def writing(self, key: FileKey, headers: FileHeaders | None = None) -> AsyncIterator[Sink]:
        async with self._store.writing(key, headers) as sink:

            async def write(data: bytes) -> None:
                self.reached.set()
                await self.gate.wait()
                await sink(data)

            yield write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)
