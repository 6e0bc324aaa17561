"""What `erp verify` proves of the trail: that nothing which it covers was changed, removed, added or moved."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg

from erp_service.audit.sealing.background import sealed_tables
from erp_service.audit.sealing.chain import START, Seal
from erp_service.audit.sealing.forms import AUDIT_LOG, digest_by_form
from erp_service.audit.trail_queries import PRUNED_THROUGH
from erp_service.registry.proofs import MOST_ROWS, Finding, Judge, Proof, SlowProof
from erp_service.registry.sealed import SealedTable
from erp_service.settings import Settings

WINDOW = 2_000
"""Positions that are read at once."""

_CHAIN = "trail"
_CHAIN_HOLDS = "each position follows from the one before it, and what it covers is as it was when it was sealed"


def _positions_sql() -> str:
    """The positions $1 to $2 with the digests of what they cover, as it is now; null for what is not there, or is not
    all there, and for a form of a later version."""
    entry = f"(select {digest_by_form(AUDIT_LOG.forms, 't.form')} from audit_log where id = t.audit_id)"  # noqa: S608
    rows = "".join(f" when '{table.table}' then {_rows_digest(table)}" for table in sealed_tables())
    return f"""
        select position, form, sealed_at, source, coalesce(audit_id::text, row_ids::text) as covers, through, digest,
          link, case when audit_id is not null then {entry} else case source{rows} end end as now
        from trail t where position between $1 and $2 order by position
    """  # noqa: S608 constants of the features


def _rows_digest(table: SealedTable) -> str:
    # by range, so that the index finds the rows of each; OFFSET 0 keeps the planner from turning that into a join, for
    # which it would read the whole table once for each position
    return f"""(
        select case when count(*) = (select sum(upper(r) - lower(r)) from unnest(t.row_ids) r)
          then sha256(string_agg({digest_by_form(table.forms, "t.form")}, ''::bytea order by id)) end
        from unnest(t.row_ids) r cross join lateral (
          select * from {table.table} where id >= lower(r) and id < upper(r) offset 0
        ) rows
    )"""  # noqa: S608 constants of the features


async def prepare(db: asyncpg.Connection, _settings: Settings) -> Judge:
    """What is in the trail never changes, so the snapshot need only say how far it goes, and what was removed."""
    head = await db.fetchval("select max(position) from trail") or 0
    pruned = await db.fetchval(PRUNED_THROUGH)

    async def judge(db: asyncpg.Connection) -> Finding | None:
        rows: list[dict[str, Any]] = []
        total = 0
        async for fault in faults(db, head, pruned):
            total += 1
            if total <= MOST_ROWS:
                rows.append(fault)
        return Finding(_CHAIN, _CHAIN_HOLDS, tuple(rows), total) if total else None

    return judge


async def faults(
    db: asyncpg.Connection, head: int, pruned: int, *, window: int = WINDOW
) -> AsyncIterator[dict[str, Any]]:
    """What is wrong with the positions up to `head`, window by window. Audit entries up to the position `pruned` may be
    gone; their digests are still there."""
    sql, expected, link = _positions_sql(), 1, START
    for first in range(1, head + 1, window):
        for row in await db.fetch(sql, first, min(first + window - 1, head)):
            if row["position"] != expected:
                yield {"position": _span(expected, row["position"] - 1), "fault": "it is not there"}
                # unknown, so that this position can only be compared with what it covers
                link = b""
            if row["now"] is None and row["position"] > pruned:
                # more may have been removed since
                pruned = await db.fetchval(PRUNED_THROUGH)
            for fault in _faults_of(row, link, may_be_gone=row["position"] <= pruned):
                yield {"position": row["position"], "covers": f"{row['source']} {row['covers']}", "fault": fault}
            expected, link = row["position"] + 1, row["link"]
    if expected <= head:
        yield {"position": _span(expected, head), "fault": "it is not there"}


def _faults_of(row: asyncpg.Record, before: bytes, *, may_be_gone: bool) -> Iterator[str]:
    seal = Seal(*(row[name] for name in ("form", "position", "sealed_at", "source", "covers", "through")))
    if before and seal.link(before, row["digest"]) != row["link"]:
        yield "its link does not follow from the one before: the trail itself was changed here"
    is_entry = row["source"] == AUDIT_LOG.table
    if row["now"] is None and not (is_entry and may_be_gone):
        yield "what it covers is not there, or not all of it"
    if row["now"] is not None and row["now"] != row["digest"]:
        yield "what it covers was changed"


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first} to {last}"


def _without_position() -> str:
    """Entries and rows that are older than what was sealed last, and have no position; and rows that have two."""
    parts = [
        """
        select 'audit_log' as source, id, 'it has no position' as fault from audit_log a
        where id <= (select through from trail where audit_id is not null order by position desc limit 1)
          and not exists (select from trail t where t.audit_id = a.id)
        """
    ]
    parts += [
        f"""
        select '{name}', id, 'no position covers it' from {name} r
        where id <= (
          select through from trail where source = '{name}' and audit_id is null order by position desc limit 1
        ) and not (
          select range_agg(row_ids) from trail where source = '{name}' and audit_id is null
        ) @> r.id
        """  # noqa: S608 constants of the features
        for name in (table.table for table in sealed_tables())
    ]
    parts.append("""
        select source, first, 'more than one position covers it' from (
          select source, lower(r) as first,
            max(upper(r)) over (
              partition by source order by lower(r), position rows between unbounded preceding and 1 preceding
            ) as end_before
          from trail cross join unnest(row_ids) r where audit_id is null
        ) ranges where first < end_before
    """)
    return " union all ".join(parts)


PROOFS = (
    SlowProof(_CHAIN, _CHAIN_HOLDS, prepare),
    Proof(
        "trail coverage",
        "each audit entry and each ledger entry that is older than the last ones sealed has exactly one position",
        _without_position(),
    ),
)
