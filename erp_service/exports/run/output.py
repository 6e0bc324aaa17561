"""The bytes of the file on their way to the store: compressed, counted and digested."""

import asyncio
import hashlib

from erp_service.exports.formats.compression import Compressor
from erp_service.exports.storage.base import Sink

PIECE = 256 * 1024


class Output:
    """Compresses, counts and digests what goes into a sink, in large pieces and in threads.

    While one piece is processed and written, the next one arrives; there are never more than these two. `received`
    counts the bytes that were given, `bytes` those in the sink."""

    def __init__(self, sink: Sink, compressor: Compressor | None = None) -> None:
        self._sink = sink
        self._compressor = compressor
        self._digest = hashlib.sha256()
        self._buffer = bytearray()
        self._task: asyncio.Task[None] | None = None
        self.bytes = self.received = 0

    @property
    def idle(self) -> bool:
        """Nothing is being written to the sink: whoever waits, waits for the server."""
        return self._task is None or self._task.done()

    async def write(self, data: bytes) -> None:
        self.received += len(data)
        self._buffer += data
        if len(self._buffer) >= PIECE:
            await self._flush()

    async def finish(self) -> str:
        """Returns when everything is in the sink: the SHA-256 of it in hexadecimal."""
        await self._flush()
        await self._settle()
        if self._compressor is not None:
            await self._put(await asyncio.to_thread(self._last, self._compressor))
        return self._digest.hexdigest()

    async def abandon(self) -> None:
        """For an end in the middle: afterwards nothing is being written to the sink."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _flush(self) -> None:
        await self._settle()
        piece, self._buffer = bytes(self._buffer), bytearray()
        self._task = asyncio.create_task(self._process(piece))

    async def _settle(self) -> None:
        if self._task is not None:
            await self._task

    async def _process(self, piece: bytes) -> None:
        await self._put(await asyncio.to_thread(self._compressed, piece))

    async def _put(self, data: bytes) -> None:
        # a compressor often has nothing to give yet
        if data:
            await self._sink(data)
            self.bytes += len(data)

    def _compressed(self, piece: bytes) -> bytes:
        data = piece if self._compressor is None else self._compressor.compress(piece)
        self._digest.update(data)
        return data

    def _last(self, compressor: Compressor) -> bytes:
        data = compressor.flush()
        self._digest.update(data)
        return data
