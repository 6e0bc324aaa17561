"""A large COPY as several COPYs of key ranges on one snapshot, whose bytes in order are those of a single COPY.

The ranges are small, and each connection takes the next one when it has finished its last. Bytes that arrive before
their turn are held in memory up to a limit; then their connection waits, and Postgres with it. So neither a range that
is larger than the others nor wide rows make memory grow, and nothing is written twice.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from erp_service.exports.planning.selection import Query
from erp_service.exports.run.connection import SnapshotConnection
from erp_service.exports.storage.base import Sink

RANGE = 4 * 1024 * 1024
"""Bytes that a range is meant to have: enough to make the time for planning it negligible."""

MOST_BUFFERED = 16 * 1024 * 1024
"""Bytes of all ranges that may wait for their turn before connections have to wait."""

_PIECE = 256 * 1024
_FIRST_BUFFERED = 1024 * 1024  # bytes of the range whose turn it is
FEWEST, _MOST = 1000, 50_000  # rows of a range

Copy = Callable[[SnapshotConnection, Query, Sink], Awaitable[int]]


class RangeBuffer:
    """Bytes of one range that have arrived and were not passed on yet."""

    def __init__(self) -> None:
        self.pieces: deque[bytes] = deque()
        self.bytes = 0
        self.ended = False

    def take(self) -> bytes:
        """About one piece at most, so that nothing larger is ever copied in memory."""
        taken, size = [], 0
        while self.pieces and size < _PIECE:
            taken.append(self.pieces.popleft())
            size += len(taken[-1])
        self.bytes -= size
        return b"".join(taken)


class OrderedMerge:
    """The buffers of the ranges, in order, with at most about `most_bytes` in them. For one event loop; every change
    that somebody may wait for sets an event."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._buffers: deque[RangeBuffer] = deque()
        self._complete = False
        self._arrived, self._left = asyncio.Event(), asyncio.Event()
        self.bytes = 0

    async def room(self) -> None:
        """Return when another range may begin."""
        while self.bytes >= self._most_bytes:
            await self._leaving()

    def join(self) -> RangeBuffer:
        """The buffer of the next range."""
        self._buffers.append(RangeBuffer())
        return self._buffers[-1]

    async def put(self, buffer: RangeBuffer, data: bytes) -> None:
        buffer.pieces.append(data)
        buffer.bytes += len(data)
        self.bytes += len(data)
        self._arrived.set()
        # the range whose turn it is always proceeds, whatever the others hold
        while buffer.bytes >= _FIRST_BUFFERED if buffer is self._buffers[0] else self.bytes >= self._most_bytes:
            await self._leaving()

    def end(self, buffer: RangeBuffer) -> None:
        buffer.ended = True
        self._arrived.set()

    def close(self) -> None:
        """No range will follow."""
        self._complete = True
        self._arrived.set()

    async def drain(self, sink: Sink) -> None:
        """Pass on everything in order; returns when the last range has ended."""
        while self._buffers or not self._complete:
            buffer = self._buffers[0] if self._buffers else None
            if buffer is not None and buffer.pieces:
                data = buffer.take()
                self.bytes -= len(data)
                self._left.set()
                await sink(data)
            elif buffer is not None and buffer.ended:
                self._buffers.popleft()
                self._left.set()
            else:
                self._arrived.clear()
                await self._arrived.wait()

    async def _leaving(self) -> None:
        self._left.clear()
        await self._left.wait()


class Ranges:
    """Finds the bounds of each next range by walking `rows` entries of the key's index, so that no gap or crowd of ids
    makes a range much larger than another. Together the ranges cover all keys, whatever the table holds."""

    def __init__(self, query: Query, rows: int) -> None:
        key = query.key
        if key is None:
            raise ValueError("the order of the query is not that of a key")
        beyond, order = ("<", " desc") if key.descending else (">", "")
        select = f"select {key.column} from {key.table}"  # noqa: S608 constants of the catalogue
        then = f" order by {key.column}{order} offset $1 limit 1"
        self._first, self._next = select + then, f"{select} where {key.column} {beyond} $2{then}"
        self._query, self._rows, self._descending = query, rows, key.descending
        self._reached: int | None = None
        self._ended = False

    async def next(self, reader: SnapshotConnection) -> Query | None:
        """None after the last."""
        if self._ended:
            return None
        since = self._reached
        if since is None:
            until = await reader.value(self._first, self._rows)
        else:
            until = await reader.value(self._next, self._rows, since)
        self._reached, self._ended = until, until is None
        return self._query.between(until, since) if self._descending else self._query.between(since, until)


def rows_per_range(width: int, *, range_bytes: int = RANGE, fewest: int = FEWEST) -> int:
    """For rows of `width` bytes, as the planner expects them."""
    return min(max(range_bytes // max(width, 1), fewest), _MOST)


async def copy_ranges(
    readers: Sequence[SnapshotConnection], query: Query, rows: int, copy: Copy, sink: Sink, merge: OrderedMerge
) -> int:
    """Copy all of the query into the sink, in ranges of `rows` by all readers; returns the number of rows. One failure
    stops all."""
    ranges, turn = Ranges(query, rows), asyncio.Lock()
    total = 0

    async def take(reader: SnapshotConnection) -> None:
        nonlocal total
        while True:
            # whoever gets the next bounds must also get the next buffer
            async with turn:
                await merge.room()
                part = await ranges.next(reader)
                if part is None:
                    merge.close()
                    return
                buffer = merge.join()

            async def put(data: bytes, buffer: RangeBuffer = buffer) -> None:
                await merge.put(buffer, data)

            # in two steps: `total` may change during the wait
            copied = await copy(reader, part, put)
            total += copied
            merge.end(buffer)

    await together(merge.drain(sink), *(take(reader) for reader in readers))
    return total


async def together(*works: Coroutine[Any, Any, None]) -> None:
    """Return when all are done. The first that fails stops the others, and its error is raised unchanged."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
