"""What an export would be in rows, bytes and seconds: counted where that is cheap, else from what is known.

Earlier exports of the same dataset, format, compression and columns say best how many bytes a row makes and how many
rows come in a second. The first of a kind is guessed from its first rows as text, and from rates measured once."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from erp_service import errors
from erp_service.db.sessions import WriteSession
from erp_service.exports import admission
from erp_service.exports.admission import Plan
from erp_service.exports.formats import archive
from erp_service.exports.planning.request import PlannedExport
from erp_service.exports.planning.selection import Query
from erp_service.exports.run.snapshot import COUNTED
from erp_service.exports.schemas import Estimate

STARTING = 0.3
"""Seconds that the smallest export takes from its turn to its end."""

_BRIEFLY = (text("set local lock_timeout to '100ms'"), text("set local statement_timeout to '3s'"))
_AS_EVER = (text("set local lock_timeout to default"), text("set local statement_timeout to default"))

# 300,000 stock movements on two busy cores, as ratios to CSV, which comes at 400,000 rows a second where it is quiet
_RATES: Mapping[str, float] = {"csv": 400_000, "jsonl": 230_000, "xlsx": 140_000, "parquet": 300_000}
# bytes of the file for each byte of text in it
_SHRINK: Mapping[str, float] = {"csv": 1.0, "jsonl": 1.0, "xlsx": 0.5, "parquet": 0.2}
_COMPRESSED: Mapping[str, float] = {"none": 1.0, "gzip": 0.25, "zstd": 0.15}
_SAMPLE = 1000  # rows

# the recent ones only, so that it costs the same after a million exports; tiny ones tell no rate
_EARLIER = text("""
    select sum(result_bytes) / nullif(sum(result_rows), 0) as width,
      sum(result_rows) filter (where result_rows >= 10000)
        / sum(greatest(extract(epoch from finished_at - started_at) - :starting, 0.05))
          filter (where result_rows >= 10000) as rate
    from (select * from export_jobs order by id desc limit 500) recent
    where result_rows > 0 and dataset = :dataset and format = :format and compression = :compression
      and spec->'columns' is not distinct from cast(:spec as jsonb)->'columns'
      and spec->'datasets' is not distinct from cast(:spec as jsonb)->'datasets'
""")


class _Size(NamedTuple):
    """Of one query. `width` is that of a row as text, in bytes."""

    rows: int
    rows_is_estimate: bool
    width: float
    width_is_sampled: bool


async def estimated(db: WriteSession, asked: PlannedExport, *, most_counted: int = COUNTED) -> Estimate:
    """Changes nothing. Raises errors.Unavailable when the tables are just being altered."""
    plans = await admission.planned(db, asked.queries)
    if plans is None:
        raise errors.Unavailable("The tables cannot be looked at now.", headers={"Retry-After": "5"})
    sizes = [await _size(db, query, plan, most_counted) for query, plan in zip(asked.queries, plans, strict=True)]
    rows = sum(size.rows for size in sizes)
    width, rate = await _earlier(db, asked.values)
    sampled = all(size.width_is_sampled for size in sizes)
    return Estimate(
        datasets=asked.values["spec"].get("datasets") or [asked.values["dataset"]],
        rows=rows,
        rows_is_estimate=any(size.rows_is_estimate for size in sizes),
        bytes=math.ceil(_guess(asked, sizes) if width is None else rows * width),
        bytes_from="exports" if width is not None else "sample" if sampled else "planner",
        seconds=math.ceil(STARTING + rows / (rate or _RATES[asked.format.name])),
        seconds_from="typical" if rate is None else "exports",
        size="small" if admission.small(plans) else "large",
    )


def _guess(asked: PlannedExport, sizes: list[_Size]) -> float:
    """Of the file's bytes, when there was none like it."""
    compression = asked.values["compression"]
    if asked.values["dataset"] == archive.NAME and asked.format.compressible:
        compression = "gzip"  # what its members come to
    text_bytes = 0.0
    for size, query in zip(sizes, asked.queries, strict=True):
        # JSON says the name in each row, with quotes, a colon and a comma, and quotes around most values
        names = sum(len(column.name) + 6 for column in query.columns) if asked.format.name == "jsonl" else 0
        text_bytes += size.rows * (size.width + names)
    return text_bytes * _SHRINK[asked.format.name] * _COMPRESSED[compression]


async def _size(db: WriteSession, query: Query, plan: Plan, most_counted: int) -> _Size:
    rows, is_estimate, most = plan.rows, True, 2 * most_counted
    if plan.rows <= most_counted:
        # the planner may be far too low, so not to the end
        count = f"select count(*) from (select from ({query.sql}) found limit {most}) rows"  # noqa: S608 constants
        counted = await _asked(db, count, query)
        if counted is not None and counted < most:
            rows, is_estimate = int(counted), False
    # a record as text is what CSV would make of it, but for the line end and the parentheses
    sample = f"select avg(octet_length(found::text) - 1) from ({query.sql} limit {_SAMPLE}) found"  # noqa: S608
    width = await _asked(db, sample, query)
    return _Size(rows, is_estimate, float(width or plan.width + len(query.columns)), width is not None)


async def _asked(db: WriteSession, statement: str, query: Query) -> Any:
    """None if it takes too long."""
    try:
        async with db.begin_nested():
            for setting in _BRIEFLY:
                await db.execute(setting)
            value = (await db.exec_driver_sql(statement, query.arguments)).scalar_one()
            for setting in _AS_EVER:
                await db.execute(setting)
            return value
    except DBAPIError as exc:
        if exc.connection_invalidated:
            raise
        return None


async def _earlier(db: WriteSession, values: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Bytes of a row, and rows a second."""
    found = {**values, "spec": msgspec.json.encode(values["spec"]).decode(), "starting": STARTING}
    names = ("dataset", "format", "compression", "spec", "starting")
    row = (await db.execute(_EARLIER, {name: found[name] for name in names})).one()
    width, rate = (None if value is None else float(value) for value in row)
    return width, rate
