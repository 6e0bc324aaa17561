"""Whether a format can hold the rows, asked at submission, while there is somebody to tell."""

import json
from typing import Any

from erp_service.db.sessions import Session
from erp_service.exports.formats.base import Format
from erp_service.exports.planning.selection import Query
from erp_service.exports.problems import TooManyRows

_NEAR = 4
"""An estimate above that part of the limit is not relied on; far below it, the run itself finds out."""


async def demand_few_rows(db: Session, query: Query, format_: Format) -> None:
    """Raises TooManyRows. Counts no further than the limit, and only where the planner thinks it may be reached."""
    most = format_.most_rows
    if most is None or await estimated_rows(db, query) < most // _NEAR:
        return
    counted = f"select count(*) from (select from ({query.sql}) rows limit {most + 1}) counted"  # noqa: S608
    rows = (await db.exec_driver_sql(counted, query.arguments)).scalar_one()
    if rows > most:
        raise TooManyRows(
            f"{format_.name} holds {most:,} rows and the export has more."
            " Narrow it with `filter`, or choose csv, jsonl or parquet."
        )


async def estimated_rows(db: Session, query: Query) -> int:
    said = (await db.exec_driver_sql(f"explain (format json) {query.sql}", query.arguments)).scalar_one()
    plan: Any = json.loads(said) if isinstance(said, str) else said
    return int(plan[0]["Plan"]["Plan Rows"])
