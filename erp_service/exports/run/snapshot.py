"""COPY on one snapshot, over one connection or several. The rows never become Python objects."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from time import monotonic
from typing import NamedTuple

import asyncpg

from erp_service.db.engine import Database
from erp_service.exports.planning.planner import COUNTED, plan
from erp_service.exports.planning.selection import Query
from erp_service.exports.run import key_ranges
from erp_service.exports.run.connection import SnapshotConnection
from erp_service.exports.run.pace import Pace
from erp_service.exports.storage.base import Sink
from erp_service.observability.telemetry import log

_SPARSE = 4
"""A query that selects less than a quarter of its table may know a better way to its rows than along the key."""


class Splitting(NamedTuple):
    """Which queries are copied in ranges of their key, and how large the ranges are."""

    counted: int = COUNTED
    """Expected rows, above which a query is copied in ranges and its total is an estimate."""
    range_bytes: int = key_ranges.RANGE
    fewest_rows: int = key_ranges.FEWEST
    held_bytes: int = key_ranges.MOST_BUFFERED


SPLITTING = Splitting()


class Total(NamedTuple):
    """How many rows there will be, or about how many."""

    rows: int
    is_estimate: bool


class Snapshot:
    """What was committed before `at`, and nothing later.

    `rows` are those of the COPYs that have ended, `received` the bytes that have arrived. `expecting` is true while
    there is nothing to do here until the server sends more."""

    at: datetime

    def __init__(self, reader: SnapshotConnection, most_parts: int, splitting: Splitting, pace: Pace) -> None:
        self.readers = [reader]
        self._pace = pace
        self._most_parts = most_parts
        self._splitting = splitting
        self.rows = self.received = 0
        self.expecting = False

    @property
    def on_replica(self) -> bool:
        return self.readers[0].on_replica

    @property
    def backends(self) -> list[int]:
        return [reader.backend for reader in self.readers]

    async def total(self, query: Query) -> Total:
        """Counted if the planner expects few rows, else what it expects."""
        expected = await plan(self.readers[0].value, query.sql, *query.arguments)
        if expected.rows > self._splitting.counted:
            return Total(expected.rows, is_estimate=True)
        count = f"select count(*) from ({query.sql}) rows"  # noqa: S608 constants of the catalogue
        return Total(await self.readers[0].value(count, *query.arguments), is_estimate=False)

    async def copy(self, query: Query, sink: Sink, options: Mapping[str, str]) -> int:
        """`options` are those of asyncpg's `copy_from_query`; returns the rows that the server counted.

        Many rows in the order of their key come over several connections, and give the same bytes."""

        async def copy(reader: SnapshotConnection, part: Query, into: Sink) -> int:
            began = monotonic()

            async def receive(data: bytes) -> None:
                nonlocal began
                worked = monotonic() - began
                self.received += len(data)
                await into(data)
                await self._pace.rest(worked, connections=len(self.readers))
                began = monotonic()

            rows = await reader.copy(part, receive, options)
            self.rows += rows
            return rows

        async def pass_on(data: bytes) -> None:
            self.expecting = False
            await sink(data)
            self.expecting = True

        self.expecting = True
        try:
            if (rows := await self._rows_per_range(query)) is None:
                return await copy(self.readers[0], query, pass_on)
            await self._open_others()
            merge = key_ranges.OrderedMerge(self._splitting.held_bytes)
            return await key_ranges.copy_ranges(self.readers, query, rows, copy, pass_on, merge)
        finally:
            self.expecting = False

    async def _rows_per_range(self, query: Query) -> int | None:
        """None if one COPY of everything is better."""
        if query.key is None or self._most_parts == 1:
            return None
        value, splitting = self.readers[0].value, self._splitting
        expected = await plan(value, query.sql, *query.arguments)
        if expected.rows <= splitting.counted:
            return None
        table = await plan(value, f"select from {query.key.table}")
        if expected.rows * _SPARSE < table.rows:
            return None
        return key_ranges.rows_per_range(
            expected.width, range_bytes=splitting.range_bytes, fewest=splitting.fewest_rows
        )

    async def _open_others(self) -> None:
        """As many as are allowed, and as the server accepts."""
        name = None
        while len(self.readers) < self._most_parts:
            try:
                reader = await self.readers[0].open_another()
            except asyncpg.TooManyConnectionsError:
                log.warning("export goes on with fewer connections", connections=len(self.readers))
                return
            # before anything else can fail: `open_snapshot` closes every connection in this list
            self.readers.append(reader)
            name = name or await self.readers[0].export()
            await reader.join(name)


@contextlib.asynccontextmanager
async def open_snapshot(
    url: str,
    *,
    most_parts: int,
    splitting: Splitting = SPLITTING,
    replica_of: Database | None = None,
    pace: Pace | None = None,
) -> AsyncIterator[Snapshot]:
    """On the replica of `replica_of` if it has replayed everything committed before the call, else on `url`.

    Leaving it by a cancellation stops every COPY at once, in the server too."""
    reader = None if replica_of is None else await SnapshotConnection.open_on_replica(replica_of)
    snapshot = Snapshot(reader or await SnapshotConnection.open(url), most_parts, splitting, pace or Pace())
    try:
        snapshot.at = await snapshot.readers[0].begin()
        yield snapshot
    finally:
        await asyncio.gather(*(reader.close() for reader in snapshot.readers))
