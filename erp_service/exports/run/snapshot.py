"""COPY on one snapshot, through one connection or several: rows never become Python objects."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg

from erp_service.db.engine import Database
from erp_service.exports.planning.planner import COUNTED, plan
from erp_service.exports.planning.selection import Query
from erp_service.exports.run import key_ranges
from erp_service.exports.run.connection import SnapshotConnection
from erp_service.exports.storage.base import Sink
from erp_service.observability.telemetry import log

_SPARSE = 4
"""A query for less of a table than that part may know a better way to its rows than along the key."""


class Total(NamedTuple):
    """How many rows there will be, or about how many."""

    rows: int
    is_estimate: bool


class Snapshot:
    """What was committed before `at`, and nothing later, through one connection or several.

    `rows` are those of the COPYs that have ended, `received` the bytes that came; `expecting` is true while nothing is
    to be done here before the server sends more."""

    at: datetime

    def __init__(self, reader: SnapshotConnection, most_parts: int) -> None:
        self.readers = [reader]
        self._most_parts = most_parts
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
        estimate = (await plan(self.readers[0].value, query.sql, *query.arguments)).rows
        if estimate > COUNTED:
            return Total(estimate, is_estimate=True)
        count = f"select count(*) from ({query.sql}) rows"  # noqa: S608 constants of the catalogue
        return Total(await self.readers[0].value(count, *query.arguments), is_estimate=False)

    async def copy(self, query: Query, sink: Sink, options: Mapping[str, Any]) -> int:
        """`options` are those of asyncpg's `copy_from_query`; returns the rows that the server counted.

        Many rows in the order of their key come through several connections, as the same bytes."""

        async def copied(reader: SnapshotConnection, part: Query, into: Sink) -> int:
            async def receive(data: bytes) -> None:
                self.received += len(data)
                await into(data)

            rows = await reader.copy(part, receive, options)
            self.rows += rows
            return rows

        async def hand_on(data: bytes) -> None:
            self.expecting = False
            await sink(data)
            self.expecting = True

        self.expecting = True
        try:
            if (rows := await self._rows_of_part(query)) is None:
                return await copied(self.readers[0], query, hand_on)
            await self._open_others()
            return await key_ranges.copied(
                self.readers, query, rows, copied, hand_on, key_ranges.OrderedMerge(key_ranges.HELD)
            )
        finally:
            self.expecting = False

    async def _rows_of_part(self, query: Query) -> int | None:
        """None if it is better copied as one."""
        if query.key is None or self._most_parts == 1:
            return None
        value = self.readers[0].value
        expected = await plan(value, query.sql, *query.arguments)
        if expected.rows <= COUNTED:
            return None
        table = await plan(value, f"select from {query.key.table}")
        return None if expected.rows * _SPARSE < table.rows else key_ranges.rows_of(expected.width)

    async def _open_others(self) -> None:
        """As many as may be, and as the server takes."""
        name = None
        while len(self.readers) < self._most_parts:
            try:
                reader = await self.readers[0].open_another()
            except asyncpg.TooManyConnectionsError:
                log.warning("export goes on with fewer connections", connections=len(self.readers))
                return
            # before anything else can fail: whoever leaves the snapshot closes what is in there
            self.readers.append(reader)
            name = name or await self.readers[0].export()
            await reader.join(name)


@contextlib.asynccontextmanager
async def open_snapshot(url: str, *, most_parts: int, replica_of: Database | None = None) -> AsyncIterator[Snapshot]:
    """Of the replica of `replica_of` if it has all that was committed before, else of `url`.

    Leaving it by a cancellation stops each COPY in the middle, in the server too, within the blink of an eye."""
    reader = None if replica_of is None else await SnapshotConnection.open_on_replica(replica_of)
    seen = Snapshot(reader or await SnapshotConnection.open(url), most_parts)
    try:
        seen.at = await seen.readers[0].begin()
        yield seen
    finally:
        await asyncio.gather(*(reader.close() for reader in seen.readers))
