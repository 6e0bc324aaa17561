"""COPY on one snapshot, through one connection or several: rows never become Python objects."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg

from erp_service.db.engine import Database
from erp_service.exports.planning.selection import Query
from erp_service.exports.run import key_ranges
from erp_service.exports.run.connection import SnapshotConnection
from erp_service.exports.storage.base import Sink
from erp_service.observability.telemetry import log

COUNTED = 200_000
"""Rows. A total up to about that is counted, which takes a tenth of a second; more are copied in parts."""

_SPARSE = 4
"""A query for less of a table than that part may know a better way to its rows than along the key."""


class Splitting(NamedTuple):
    """Which queries are copied in ranges of their key, and how large the ranges are."""

    counted: int = COUNTED
    """Rows that the planner expects, above which a query is copied in ranges and its total is an estimate."""
    range_bytes: int = key_ranges.RANGE
    fewest_rows: int = key_ranges.FEWEST
    held_bytes: int = key_ranges.HELD


SPLITTING = Splitting()


class Total(NamedTuple):
    """How many rows there will be, or about how many."""

    rows: int
    is_estimate: bool


class Plan(NamedTuple):
    """What the planner thinks: rows, and bytes of one."""

    rows: int
    width: int


class Snapshot:
    """What was committed before `at`, and nothing later, through one connection or several.

    `rows` are those of the COPYs that have ended, `received` the bytes that came; `expecting` is true while nothing is
    to be done here before the server sends more."""

    at: datetime

    def __init__(self, reader: SnapshotConnection, most_parts: int, splitting: Splitting) -> None:
        self.readers = [reader]
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

    async def plan(self, query: Query) -> Plan:
        said = await self.readers[0].value(f"explain (format json) {query.sql}", *query.arguments)
        plan = json.loads(said)[0]["Plan"]
        return Plan(int(plan["Plan Rows"]), int(plan["Plan Width"]))

    async def total(self, query: Query) -> Total:
        estimate = (await self.plan(query)).rows
        if estimate > self._splitting.counted:
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
                self.readers, query, rows, copied, hand_on, key_ranges.OrderedMerge(self._splitting.held_bytes)
            )
        finally:
            self.expecting = False

    async def _rows_of_part(self, query: Query) -> int | None:
        """None if it is better copied as one."""
        if query.key is None or self._most_parts == 1:
            return None
        plan = await self.plan(query)
        split = self._splitting
        if plan.rows <= split.counted:
            return None
        table = f"explain (format json) select from {query.key.table}"
        entries = int(json.loads(await self.readers[0].value(table))[0]["Plan"]["Plan Rows"])
        if plan.rows * _SPARSE < entries:
            return None
        return key_ranges.rows_of(plan.width, range_bytes=split.range_bytes, fewest=split.fewest_rows)

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
async def open_snapshot(
    url: str, *, most_parts: int, splitting: Splitting = SPLITTING, replica_of: Database | None = None
) -> AsyncIterator[Snapshot]:
    """Of the replica of `replica_of` if it has all that was committed before, else of `url`.

    Leaving it by a cancellation stops each COPY in the middle, in the server too, within the blink of an eye."""
    reader = None if replica_of is None else await SnapshotConnection.open_on_replica(replica_of)
    seen = Snapshot(reader or await SnapshotConnection.open(url), most_parts, splitting)
    try:
        seen.at = await seen.readers[0].begin()
        yield seen
    finally:
        await asyncio.gather(*(reader.close() for reader in seen.readers))
