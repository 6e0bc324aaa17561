"""The file as it is written: compressed, counted and digested on its way to the store."""

import asyncio
import hashlib

from erp_service.exports.formats.compression import Compressor
from erp_service.exports.storage.base import Sink

PIECE = 256 * 1024


class Output:
    """Compresses, counts and digests what goes into a sink, in large pieces, in threads.

    While one piece is dealt with and written the next one arrives; there are never more than the two. `received` counts
    what was given, `bytes` what is in the sink."""

    def __init__(self, sink: Sink, compressor: Compressor | None = None) -> None:
        self._sink = sink
        self._compressor = compressor
        self._digest = hashlib.sha256()
        self._buffer = bytearray()
        self._writing: asyncio.Task[None] | None = None
        self.bytes = self.received = 0

    @property
    def idle(self) -> bool:
        """Nothing is under way in the sink: who waits, waits for the server."""
        return self._writing is None or self._writing.done()

    async def write(self, data: bytes) -> None:
        self.received += len(data)
        self._buffer += data
        if len(self._buffer) >= PIECE:
            await self._flush()

    async def finish(self) -> str:
        """Everything has reached the sink; returns the SHA-256 of it in hexadecimal."""
        await self._flush()
        await self._settled()
        if self._compressor is not None:
            await self._keep(await asyncio.to_thread(self._last, self._compressor))
        return self._digest.hexdigest()

    async def abandon(self) -> None:
        """For whoever stopped in the middle: nothing of ours is still under way in the sink."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)

    async def _flush(self) -> None:
        await self._settled()
        piece, self._buffer = bytes(self._buffer), bytearray()
        self._writing = asyncio.create_task(self._put(piece))

    async def _settled(self) -> None:
        if self._writing is not None:
            await self._writing

    async def _put(self, piece: bytes) -> None:
        await self._keep(await asyncio.to_thread(self._made, piece))

    async def _keep(self, made: bytes) -> None:
        # a compressor often has nothing to give yet
        if made:
            await self._sink(made)
            self.bytes += len(made)

    def _made(self, piece: bytes) -> bytes:
        made = piece if self._compressor is None else self._compressor.compress(piece)
        self._digest.update(made)
        return made

    def _last(self, compressor: Compressor) -> bytes:
        last = compressor.flush()
        self._digest.update(last)
        return last
