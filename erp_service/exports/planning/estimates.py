"""How many rows, bytes and seconds an export would take: counted where that is cheap, else estimated.

Earlier exports with the same dataset, format, compression and columns are the best measure of the bytes per row and the
rows per second. The first of its kind is estimated from its first rows as text, and from rates that were measured once.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec
from sqlalchemy import text

from erp_service.db.sessions import WriteSession
from erp_service.exports.planning import planner
from erp_service.exports.planning.members import ALL
from erp_service.exports.planning.planner import COUNTED, Plan
from erp_service.exports.planning.request import PlannedExport
from erp_service.exports.planning.selection import Query
from erp_service.exports.schemas import Estimate

STARTING = 0.3
"""Seconds that the smallest export takes from its turn to its end."""

# Rows per second. Ratios to CSV were measured with 300,000 stock movements on two busy cores; CSV reaches 400,000 rows
# a second on a quiet machine.
_RATES: Mapping[str, float] = {"csv": 400_000, "jsonl": 230_000, "xlsx": 140_000, "parquet": 300_000}
# bytes of the file per byte of text in it
_SHRINK: Mapping[str, float] = {"csv": 1.0, "jsonl": 1.0, "xlsx": 0.5, "parquet": 0.2}
_COMPRESSED: Mapping[str, float] = {"none": 1.0, "gzip": 0.25, "zstd": 0.15}
_SAMPLE = 1000  # rows

# Only the 500 most recent exports, so that the cost stays the same after a million of them. Exports of fewer than
# 10,000 rows say nothing about the rate.
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
    """The size of one query's result. `width` is the size of a row as text, in bytes."""

    rows: int
    rows_is_estimate: bool
    width: float
    width_is_sampled: bool


class _Earlier(NamedTuple):
    """What earlier exports of the same kind measured: bytes of a row, and rows per second. None without any."""

    width: float | None
    rate: float | None


async def estimate(
    db: WriteSession, planned: PlannedExport, plans: Sequence[Plan], *, most_counted: int = COUNTED
) -> Estimate:
    """Changes nothing. `plans` are the planner's for the queries of `planned`."""
    sizes = [await _size(db, query, plan, most_counted) for query, plan in zip(planned.queries, plans, strict=True)]
    rows = sum(size.rows for size in sizes)
    earlier = await _earlier(db, planned)
    return Estimate(
        datasets=planned.datasets,
        rows=rows,
        rows_is_estimate=any(size.rows_is_estimate for size in sizes),
        bytes=math.ceil(_file_bytes(planned, sizes) if earlier.width is None else rows * earlier.width),
        bytes_from=_bytes_from(earlier, sizes),
        seconds=math.ceil(STARTING + rows / (earlier.rate or _RATES[planned.format.name])),
        seconds_from="typical" if earlier.rate is None else "exports",
        size="small" if planner.is_small(plans) else "large",
    )


def _bytes_from(earlier: _Earlier, sizes: Sequence[_Size]) -> Literal["exports", "sample", "planner"]:
    if earlier.width is not None:
        return "exports"
    return "sample" if all(size.width_is_sampled for size in sizes) else "planner"


def _file_bytes(planned: PlannedExport, sizes: Sequence[_Size]) -> float:
    """The bytes of the file, from the size of its rows as text."""
    compression = planned.compression
    if planned.dataset == ALL and planned.format.compressible:
        compression = "gzip"  # about what deflating the members gives
    text_bytes = 0.0
    for size, query in zip(sizes, planned.queries, strict=True):
        # JSON repeats the name in each row, with quotes, a colon and a comma, and puts quotes around most values
        names = sum(len(column.name) + 6 for column in query.columns) if planned.format.name == "jsonl" else 0
        text_bytes += size.rows * (size.width + names)
    return text_bytes * _SHRINK[planned.format.name] * _COMPRESSED[compression]


async def _size(db: WriteSession, query: Query, plan: Plan, most_counted: int) -> _Size:
    rows, is_estimate, most = plan.rows, True, 2 * most_counted
    if plan.rows <= most_counted:
        # the planner may expect far too few, so the count has a limit
        count = f"select count(*) from (select from ({query.sql}) selected limit {most}) rows"  # noqa: S608 constants
        counted = await planner.value_soon(db, count, query)
        if counted is not None and counted < most:
            rows, is_estimate = int(counted), False
    # a record as text is what CSV would make of it, except for the line end and the parentheses
    average = f"select avg(octet_length(sample::text) - 1) from ({query.sql} limit {_SAMPLE}) sample"  # noqa: S608
    width = await planner.value_soon(db, average, query)
    return _Size(rows, is_estimate, float(width or plan.width + len(query.columns)), width is not None)


async def _earlier(db: WriteSession, planned: PlannedExport) -> _Earlier:
    values = {
        "dataset": planned.dataset,
        "format": planned.format.name,
        "compression": planned.compression,
        "spec": msgspec.json.encode(planned.spec).decode(),
        "starting": STARTING,
    }
    row = (await db.execute(_EARLIER, values)).one()
    return _Earlier(*(None if value is None else float(value) for value in row))
