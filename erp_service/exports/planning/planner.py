"""What Postgres's planner expects of a query. The only module that runs EXPLAIN and reads its answer."""

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from asyncpg import PostgresError
from sqlalchemy import text

from erp_service import errors
from erp_service.db.sessions import Session, WriteSession
from erp_service.errors import Fault
from erp_service.exports.formats.base import Format
from erp_service.exports.planning.selection import Query
from erp_service.exports.problems import TooManyRows
from erp_service.registry.datasets import Value
from erp_service.timestamps import postgres_zone

T = TypeVar("T")

COUNTED = 200_000
"""Rows. An expected total up to this is counted, which takes a tenth of a second; larger ones are copied in ranges."""

SMALL_ROWS = 10_000
SMALL_COST = 100_000
"""In the planner's units: about half a second of reading, such as some million rows to find a few of them."""

_NEAR = 4
"""From a quarter of a format's limit on, an estimate is not trusted and the rows are counted."""

_SHORT_TIMEOUTS = text("select set_config('lock_timeout', '100ms', true), set_config('statement_timeout', '3s', true)")

FetchValue = Callable[..., Awaitable[Any]]
"""Runs a statement with the arguments for its `$1`, `$2` ... and returns the one value of the answer."""


class Plan(NamedTuple):
    """What the planner expects of a query: rows, bytes of one row, and the total cost in its own units."""

    rows: int
    width: int
    cost: float


async def plan(fetch_value: FetchValue, sql: str, *arguments: Value) -> Plan:
    """Takes about a millisecond, on whichever connection `fetch_value` uses."""
    answer = await fetch_value(f"explain (format json) {sql}", *arguments)
    top = (json.loads(answer) if isinstance(answer, str) else answer)[0]["Plan"]
    return Plan(top["Plan Rows"], top["Plan Width"], top["Total Cost"])


async def plans(db: WriteSession, queries: Sequence[Query]) -> list[Plan] | None:
    """One for each query; None if the planner cannot answer at once, as while a table is being altered."""

    async def explain() -> list[Plan]:
        return [await plan(_values(db), query.sql, *query.arguments) for query in queries]

    return await with_short_timeouts(db, explain)


async def value_soon(db: WriteSession, sql: str, query: Query) -> Any:
    """The one value that `sql` gives with the query's arguments; None if that takes too long."""
    return await with_short_timeouts(db, lambda: _values(db)(sql, *query.arguments))


async def with_short_timeouts(db: WriteSession, read: Callable[[], Awaitable[T]]) -> T | None:
    """What `read` gives; None if a lock, or the answer, does not come soon. `read` must not write.

    Its savepoint is rolled back in any case: that restores the timeouts, and releases the locks on the tables."""
    try:
        async with db.savepoint(keep=False):
            await db.execute(_SHORT_TIMEOUTS)
            return await read()
    except PostgresError:
        if db.driver.is_closed():
            raise
        return None


async def require_zone(db: WriteSession, timezone: str | None) -> None:
    """Raises errors.Invalid if the database, which has time zones of its own, does not know this one."""
    if timezone is None:
        return

    async def now_there() -> object:
        return await db.scalar(text("select now() at time zone :timezone"), {"timezone": postgres_zone(timezone)})

    if await with_short_timeouts(db, now_there) is None:
        unknown = Fault("is not the name of an IANA time zone that the database knows", pointer="/timezone")
        raise errors.Invalid(None, unknown)


def is_small(plans: Sequence[Plan] | None) -> bool:
    """Whether the export of these queries passes large ones. Without plans it is taken for large."""
    if plans is None:
        return False
    return sum(plan.rows for plan in plans) <= SMALL_ROWS and sum(plan.cost for plan in plans) <= SMALL_COST


async def require_rows_fit(
    db: Session, format_: Format, queries: Sequence[Query], plans: Sequence[Plan] | None
) -> None:
    """Raises TooManyRows if a query gives more rows than the format can hold.

    Counts no further than the limit, and only where the planner expects rows near it. In all other cases, and without
    plans, the run finds out."""
    most = format_.most_rows
    if most is None or plans is None:
        return
    for query, plan in zip(queries, plans, strict=True):
        if plan.rows < most // _NEAR:
            continue
        count = f"select count(*) from (select from ({query.sql}) rows limit {most + 1}) counted"  # noqa: S608 constants
        if await _values(db)(count, *query.arguments) > most:
            raise TooManyRows(
                f"{format_.name} holds {most:,} rows and the export has more."
                " Narrow it with `filter`, or choose csv, jsonl or parquet."
            )


def _values(db: Session) -> FetchValue:
    async def fetch_value(sql: str, *arguments: Value) -> Any:
        return await db.fetch_value(sql, *arguments)

    return fetch_value
