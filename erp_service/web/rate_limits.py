"""Rate limits that hold across all instances: one atomic upsert in an unlogged table.

It runs outside the transaction of the request, so that a use counts even if the request is rolled back."""

import math
from datetime import datetime

from sqlalchemy import Integer, Text, TextClause, func, text
from sqlalchemy.orm import Mapped, mapped_column

from erp_service import errors
from erp_service.db.base import Base
from erp_service.db.engine import Database
from erp_service.db.outages import DATABASE_ERRORS
from erp_service.observability import telemetry
from erp_service.registry.housekeeping import Pruning


class RateLimit(Base):
    """The uses of a key in its present window. Unlogged: a crash of Postgres loses the counts, and nothing else."""

    __tablename__ = "rate_limits"
    __table_args__ = ({"prefixes": ["UNLOGGED"]},)

    key: Mapped[str] = mapped_column(Text, primary_key=True)
    taken: Mapped[int] = mapped_column(Integer)
    resets_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)


_TAKE = text("""
    insert into rate_limits as present (key, taken, resets_at)
    values (:key, 1, clock_timestamp() + make_interval(secs => :seconds))
    on conflict (key) do update set
      taken = case when present.resets_at <= clock_timestamp() then 1 else present.taken + 1 end,
      resets_at = case when present.resets_at <= clock_timestamp() then excluded.resets_at else present.resets_at end
    returning taken, cast(extract(epoch from resets_at - clock_timestamp()) as float8)
""")
_GIVE_BACK = text("update rate_limits set taken = greatest(taken - 1, 0) where key = :key")
_FORGET = text("delete from rate_limits where key = :key")


async def take(database: Database, limit: str, key: str, *, most: int, seconds: float) -> None:
    """Count one use of `key`. Raises errors.TooMany, with `Retry-After`, for more than `most` in `seconds`.

    Fails open: while the counts cannot be read, requests are let through, and a metric counts them."""
    try:
        async with database.autocommit() as db:
            taken, remaining = (await db.execute(_TAKE, {"key": f"{limit}:{key}", "seconds": seconds})).one()
    except DATABASE_ERRORS:
        telemetry.failed_open.labels(limit).inc()
        return
    if taken > most:
        wait = max(1, math.ceil(remaining))
        raise errors.TooMany(f"Try again in {wait} seconds.", headers={"Retry-After": str(wait)})


async def give_back(database: Database, limit: str, key: str) -> None:
    """Take back one use. Fails open: a request that has succeeded is not refused because its count is wrong."""
    await _lessen(database, limit, _GIVE_BACK, key)


async def forget(database: Database, limit: str, key: str) -> None:
    """Forget all uses of `key`, after a success. Fails open."""
    await _lessen(database, limit, _FORGET, key)


async def _lessen(database: Database, limit: str, statement: TextClause, key: str) -> None:
    try:
        async with database.autocommit() as db:
            await db.execute(statement, {"key": f"{limit}:{key}"})
    except DATABASE_ERRORS:
        telemetry.failed_open.labels(limit).inc()


HOUSEKEEPING = (
    Pruning(
        "rate limits",
        text("""
        delete from rate_limits where key in (
          select key from rate_limits where resets_at < now() - interval '1 hour' limit :batch)
        """),
    ),
)
