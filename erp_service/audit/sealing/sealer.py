"""The one writer of the trail: takes what is committed and has no position yet, and gives it the next ones.

It reads the tables and writes only to the trail, so that those who post pay nothing for it. Two sealers at once cannot
happen, because the lock is held by the connection that writes; and if it happened, the second would fail at the primary
key of the position that both give. What it knows beside the trail itself are the gaps (gaps.py), which it finds again
after a restart."""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

import asyncpg
from msgspec import Struct

from erp_service.audit.sealing.chain import START, Seal
from erp_service.audit.sealing.forms import AUDIT_LOG, digest
from erp_service.audit.sealing.gaps import Gap, GapTracker, Ids
from erp_service.audit.trail_models import ANY_TYPE, CHANNEL
from erp_service.registry.sealed import SealedTable

ENTRIES = 2_000
"""Audit entries of one round: their digests, 100 kB, fit the buffers of a socket, so that the server never waits for a
sealer that is paused."""

ROWS = 10_000
"""Rows of a table that one position covers, at most."""


class Head(Struct, frozen=True):
    """The last position and its link."""

    position: int = 0
    link: bytes = START


class Round(Struct, frozen=True):
    """What one round has written. `is_full`: there may be more at once."""

    positions: int
    is_full: bool


class _Position(NamedTuple):
    seal: Seal
    digest: bytes
    link: bytes


def _look(table: SealedTable, columns: str) -> str:
    """The rows in the gaps, whose bounds are $2 and $3, and after $1; the first $4 of them in order of id."""
    # lateral: one index scan for each gap, whatever the planner thinks of their number
    return f"""
        select * from (
          (select found.* from unnest($2::bigint[], $3::bigint[]) gap (first, last) cross join lateral (
            select {columns} from {table.table} where id between gap.first and gap.last order by id limit $4
          ) found)
          union all
          (select {columns} from {table.table} where id > $1 order by id limit $4)
        ) found order by id limit $4
    """  # noqa: S608 constants of the features


def _entries_sql() -> str:
    columns = AUDIT_LOG.forms[AUDIT_LOG.form]
    found = _look(AUDIT_LOG, f"id, action, {digest(columns)} as digest")
    return f"select id, action, digest, clock_timestamp() as now from ({found}) found"  # noqa: S608 constants


def _rows_sql(table: SealedTable) -> str:
    found = _look(table, f"id, {digest(table.forms[table.form])} as digest")
    return f"""
        select range_agg(int8range(id, id, '[]'))::text as ids,
          sha256(string_agg(digest, ''::bytea order by id)) as digest,
          count(*) as count, clock_timestamp() as now
        from ({found}) found
    """  # noqa: S608 constants of the features


_WRITERS = """
select virtualtransaction from pg_locks
where locktype = 'relation' and mode = 'RowExclusiveLock' and granted and relation = $1::text::regclass
  and database = (select oid from pg_database where datname = current_database())
"""

_HEAD = "select position, link from trail order by position desc limit 1"
_ENTRIES_THROUGH = "select through from trail where audit_id is not null order by position desc limit 1"
_ROWS_THROUGH = "select through from trail where source = $1 and audit_id is null order by position desc limit 1"
_ENTRIES_AFTER = "select audit_id, audit_id from trail where audit_id > $1 order by audit_id"
_ROWS_AFTER = """
select row_ids::text from trail where source = $1 and audit_id is null and upper(row_ids) > $2 + 1
"""

_WRITE = """
with new as (
  insert into trail (position, audit_id, link, digest, sealed_at, source, row_ids, through, form)
  select position, audit_id, link, digest, sealed_at, source, row_ids::int8multirange, through, form
  from unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::bytea[], $5::timestamptz[], $6::text[], $7::text[],
    $8::bigint[], $9::smallint[]) n (position, audit_id, link, digest, sealed_at, source, row_ids, through, form)
)
select pg_notify($10, $11)
"""


class Sealer:
    """Seals over one connection, which holds locks.TRAIL. After an error it must not be used any more: what it believes
    to be the head may not be it."""

    def __init__(
        self,
        connection: asyncpg.Connection,
        tables: Sequence[SealedTable],
        *,
        entries: int = ENTRIES,
        rows: int = ROWS,
    ) -> None:
        self._connection = connection
        self._tables = tables
        self._entries, self._rows = entries, rows
        self._trackers: dict[str, GapTracker] = {}
        self._rows_sql = {table.table: _rows_sql(table) for table in tables}
        self.head = Head()
        self._types: set[str] = set()

    async def start(self) -> None:
        """Find the head, and what was sealed beyond gaps. Cheap, however long the trail is."""
        if (head := await self._connection.fetchrow(_HEAD)) is not None:
            self.head = Head(head["position"], head["link"])
        tracker = GapTracker(await self._connection.fetchval(_ENTRIES_THROUGH) or 0)
        tracker.on_seen(merged(await self._connection.fetch(_ENTRIES_AFTER, tracker.through)))
        self._trackers[AUDIT_LOG.table] = tracker
        for table in self._tables:
            tracker = GapTracker(await self._connection.fetchval(_ROWS_THROUGH, table.table) or 0)
            after = await self._connection.fetch(_ROWS_AFTER, table.table, tracker.through)
            ids = (ids for (covers,) in after for ids in parsed(covers) if ids[1] > tracker.through)
            tracker.on_seen(merged(sorted(ids)))
            self._trackers[table.table] = tracker

    def gaps(self, table: str) -> Sequence[Gap]:
        """What is not visible yet, and may still be."""
        return self._trackers[table].gaps

    async def run(self) -> Round:
        """One round: seal what is committed by now, up to a batch of each table."""
        self._types = set()
        for name, tracker in self._trackers.items():
            if tracker.gaps:
                tracker.on_writers(frozenset(row[0] for row in await self._connection.fetch(_WRITERS, name)))
        new = [*await self._seal_entries()]
        is_full = len(new) == self._entries
        for table in self._tables:
            count, position = await self._seal_rows(table, new[-1] if new else None)
            new += position
            is_full |= count == self._rows
        if new:
            await self._write(new)
            self.head = Head(new[-1].seal.position, new[-1].link)
        return Round(len(new), is_full)

    async def _seal_entries(self) -> list[_Position]:
        tracker = self._trackers[AUDIT_LOG.table]
        entries = await self._connection.fetch(_ENTRIES_SQL, *_wanted(tracker), self._entries)
        if not entries:
            tracker.on_seen(())
            return []
        last = entries[-1]["id"] if len(entries) == self._entries else None
        tracker.on_seen(merged((entry["id"], entry["id"]) for entry in entries), up_to=last)
        self._types = {entry["action"] for entry in entries}
        before, now = self.head, entries[0]["now"]
        new: list[_Position] = []
        for position, entry in enumerate(entries, before.position + 1):
            seal = _seal(AUDIT_LOG, position, now, str(entry["id"]), tracker)
            link = seal.link(new[-1].link if new else before.link, entry["digest"])
            new.append(_Position(seal, entry["digest"], link))
        return new

    async def _seal_rows(self, table: SealedTable, before: _Position | None) -> tuple[int, list[_Position]]:
        tracker = self._trackers[table.table]
        found = await self._connection.fetchrow(self._rows_sql[table.table], *_wanted(tracker), self._rows)
        if found["ids"] is None:
            tracker.on_seen(())
            return 0, []
        ids = parsed(found["ids"])
        tracker.on_seen(ids, up_to=ids[-1][1] if found["count"] == self._rows else None)
        position, link = (self.head.position, self.head.link) if before is None else (before.seal.position, before.link)
        seal = _seal(table, position + 1, found["now"], found["ids"], tracker)
        return found["count"], [_Position(seal, found["digest"], seal.link(link, found["digest"]))]

    async def _write(self, new: Sequence[_Position]) -> None:
        seals = [position.seal for position in new]
        is_entry = [seal.source == AUDIT_LOG.table for seal in seals]
        await self._connection.execute(
            _WRITE,
            [seal.position for seal in seals],
            [int(seal.covers) if entry else None for seal, entry in zip(seals, is_entry, strict=True)],
            [position.link for position in new],
            [position.digest for position in new],
            [seal.sealed_at for seal in seals],
            [seal.source for seal in seals],
            [None if entry else seal.covers for seal, entry in zip(seals, is_entry, strict=True)],
            [seal.through for seal in seals],
            [seal.form for seal in seals],
            CHANNEL,
            notice(seals[-1].position, self._types),
        )


_ENTRIES_SQL = _entries_sql()


_LONGEST_NOTICE = 7_000  # of the 7,999 bytes that a notification takes


def notice(position: int, types: Iterable[str]) -> str:
    """What waiters are told: the last position, and the types of the new events, as far as there is room for them."""
    text = " ".join([str(position), *sorted(types)])
    return text if len(text) <= _LONGEST_NOTICE else f"{position} {ANY_TYPE}"


def _wanted(tracker: GapTracker) -> tuple[int, list[int], list[int]]:
    return tracker.last, [gap.first for gap in tracker.gaps], [gap.last for gap in tracker.gaps]


def _seal(table: SealedTable, position: int, now: datetime, covers: str, tracker: GapTracker) -> Seal:
    return Seal(table.form, position, now, table.table, covers, tracker.through)


def merged(ids: Iterable[Sequence[int]]) -> list[Ids]:
    """Ids in order, with neighbours as one."""
    ranges: list[Ids] = []
    for first, last in ids:
        if ranges and ranges[-1][1] + 1 == first:
            ranges[-1] = ranges[-1][0], last
        else:
            ranges.append((first, last))
    return ranges


_RANGE = re.compile(r"\[(\d+),(\d+)\)")


def parsed(covers: str) -> list[Ids]:
    """The ids of an int8multirange as PostgreSQL writes it: in order, apart from each other."""
    return [(int(first), int(end) - 1) for first, end in _RANGE.findall(covers)]
