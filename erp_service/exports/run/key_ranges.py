"""A large COPY as several of key ranges, at once on one snapshot; their bytes, in order, are those of a single one.

The ranges are small, each connection takes the next one when it is done with its last, and what comes before its turn
is held in memory up to a bound: then its connection waits, and Postgres with it. So neither a range that is larger than
the others nor wide rows make memory grow, and nothing is written twice.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from erp_service.exports.planning.selection import Query
from erp_service.exports.run.connection import SnapshotConnection
from erp_service.exports.storage.base import Sink

RANGE = 4 * 1024 * 1024
"""Bytes that a range is meant to have: so many that planning it does not count."""

HELD = 16 * 1024 * 1024
"""Bytes that may wait for their turn, over all ranges, before connections are made to wait."""

_PIECE = 256 * 1024
_AHEAD = 1024 * 1024  # of the range whose turn it is
FEWEST, _MOST = 1000, 50_000  # rows of a range

Copy = Callable[[SnapshotConnection, Query, Sink], Awaitable[int]]


class RangeBuffer:
    """What has come of one range and was not handed on yet."""

    def __init__(self) -> None:
        self.pieces: deque[bytes] = deque()
        self.bytes = 0
        self.ended = False

    def take(self) -> bytes:
        """At most about a piece, so that nothing larger is ever copied around."""
        taken, size = [], 0
        while self.pieces and size < _PIECE:
            taken.append(self.pieces.popleft())
            size += len(taken[-1])
        self.bytes -= size
        return b"".join(taken)


class OrderedMerge:
    """Lanes in the order of their ranges. Of one event loop; every change that somebody may wait for sets an event."""

    def __init__(self, held: int) -> None:
        self._most = held
        self._lanes: deque[RangeBuffer] = deque()
        self._complete = False
        self._arrived, self._left = asyncio.Event(), asyncio.Event()
        self.bytes = 0

    async def room(self) -> None:
        """Return when another range may be begun."""
        while self.bytes >= self._most:
            await self._leaving()

    def join(self) -> RangeBuffer:
        self._lanes.append(RangeBuffer())
        return self._lanes[-1]

    async def put(self, lane: RangeBuffer, data: bytes) -> None:
        lane.pieces.append(data)
        lane.bytes += len(data)
        self.bytes += len(data)
        self._arrived.set()
        # whose turn it is always gets on, whatever the others hold
        while lane.bytes >= _AHEAD if lane is self._lanes[0] else self.bytes >= self._most:
            await self._leaving()

    def end(self, lane: RangeBuffer) -> None:
        lane.ended = True
        self._arrived.set()

    def close(self) -> None:
        """No lane will follow."""
        self._complete = True
        self._arrived.set()

    async def drain(self, sink: Sink) -> None:
        """Hand on everything in order; returns when the last lane has ended."""
        while self._lanes or not self._complete:
            lane = self._lanes[0] if self._lanes else None
            if lane is not None and lane.pieces:
                data = lane.take()
                self.bytes -= len(data)
                self._left.set()
                await sink(data)
            elif lane is not None and lane.ended:
                self._lanes.popleft()
                self._left.set()
            else:
                self._arrived.clear()
                await self._arrived.wait()

    async def _leaving(self) -> None:
        self._left.clear()
        await self._left.wait()


class Ranges:
    """Bounds of the next range, each found by walking `rows` entries of the key's index: no gap or crowd of ids makes
    one much larger than another. Together they are the whole line of keys, whatever the table holds."""

    def __init__(self, query: Query, rows: int) -> None:
        key = query.key
        if key is None:
            raise ValueError("the order of the query is not that of a key")
        beyond, order = ("<", " desc") if key.descending else (">", "")
        first = f"select {key.column} from {key.table}"  # noqa: S608 constants of the catalogue
        then = f" order by {key.column}{order} offset $1 limit 1"
        self._first, self._next = first + then, f"{first} where {key.column} {beyond} $2{then}"
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


def rows_of(width: int, *, range_bytes: int = RANGE, fewest: int = FEWEST) -> int:
    """How many rows a range has when one is `width` bytes wide, as the planner thinks."""
    return min(max(range_bytes // max(width, 1), fewest), _MOST)


async def copied(
    readers: Sequence[SnapshotConnection], query: Query, rows: int, copy: Copy, sink: Sink, line: OrderedMerge
) -> int:
    """All of the query, `rows` at a time by the readers, into the sink; returns how many. One failure stops all."""
    ranges, turn = Ranges(query, rows), asyncio.Lock()
    total = 0

    async def take(reader: SnapshotConnection) -> None:
        nonlocal total
        while True:
            # whoever gets the next bounds gets the next place in the line
            async with turn:
                await line.room()
                part = await ranges.next(reader)
                if part is None:
                    line.close()
                    return
                lane = line.join()

            async def put(data: bytes, lane: RangeBuffer = lane) -> None:
                await line.put(lane, data)

            # in two steps: the sum as it was before the wait is not the sum after it
            found = await copy(reader, part, put)
            total += found
            line.end(lane)

    await together(line.drain(sink), *(take(reader) for reader in readers))
    return total


async def together(*works: Coroutine[Any, Any, None]) -> None:
    """Return when all are done; the first that fails stops the others, and is raised as it is."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
