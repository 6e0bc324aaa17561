"""Rate limits that hold across all instances: atomic upserts in an unlogged table.

It runs outside the transaction of the request, so that a use counts even if the request is rolled back."""

import math
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Double, Integer, Text, bindparam, func, text
from sqlalchemy.orm import Mapped, mapped_column

from erp_service import errors
from erp_service.db.base import Base
from erp_service.db.engine import Database
from erp_service.db.outages import DATABASE_ERRORS
from erp_service.db.sessions import AutocommitSession
from erp_service.observability import telemetry
from erp_service.registry.housekeeping import Pruning
from erp_service.web import limit_fields
from erp_service.web.limit_fields import Standing


class RateLimit(Base):
    """The uses of a key, in its present window or since its delays began, and when the window or the last delay ends.

    Unlogged: a crash of Postgres loses the counts, and nothing else."""

    __tablename__ = "rate_limits"
    __table_args__ = ({"prefixes": ["UNLOGGED"]},)

    key: Mapped[str] = mapped_column(Text, primary_key=True)
    taken: Mapped[int] = mapped_column(Integer)
    granted: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    """How many uses the last statement took: what it returns where an instance leases several (request_limits)."""
    resets_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)


_COUNT = text("""
    insert into rate_limits as present (key, taken, resets_at)
    values (:key, 1, clock_timestamp() + make_interval(secs => :seconds))
    on conflict (key) do update set
      taken = case when present.resets_at <= clock_timestamp() then 1 else present.taken + 1 end,
      resets_at = case when present.resets_at <= clock_timestamp() then excluded.resets_at else present.resets_at end
    returning taken, cast(extract(epoch from resets_at - clock_timestamp()) as float8) as remaining
""")
# One of several at once gets the row's lock first; the others then see the delay that it has set.
_DELAY = text("""
    with admitted as (
      insert into rate_limits as present (key, taken, resets_at)
      values (:key, 1, clock_timestamp() + make_interval(secs => case when :free > 1 then 0 else :first end))
      on conflict (key) do update set (taken, resets_at) = (
        select attempts, clock_timestamp() + make_interval(secs =>
          case when attempts < :free then 0 else least(:first * 2 ^ least(attempts - :free, 30), :longest) end)
        from (
          select case when present.resets_at <= clock_timestamp() - make_interval(secs => :forgotten_after)
                 then 1 else present.taken + 1 end
        ) as this (attempts)
      )
      where present.resets_at <= clock_timestamp()
      returning taken
    )
    select exists (select from admitted) as admitted, (
      select cast(extract(epoch from resets_at - clock_timestamp()) as float8) from rate_limits where key = :key
    ) as remaining
""").bindparams(
    bindparam("free", type_=Integer),
    bindparam("first", type_=Double),
    bindparam("longest", type_=Double),
    bindparam("forgotten_after", type_=Double),
)
_USES = text("select taken from rate_limits where key = :key and resets_at > clock_timestamp()")
# In one order, so that two that give back some of the same keys do not wait for each other.
_GIVE_BACK = text("""
    with present as (select key from rate_limits where key = any(cast(:keys as text[])) order by key for update)
    update rate_limits set taken = greatest(taken - 1, 0) from present where rate_limits.key = present.key
""")
_FORGET = text("delete from rate_limits where key = :key")


class Window(NamedTuple):
    """At most so many uses of the key in so many seconds; None counts them and refuses none."""

    key: str
    most: int | None
    seconds: float


class Delays(NamedTuple):
    """So many uses at once; after them each waits twice as long as the one before, in seconds. They are forgotten so
    many seconds after the last delay is over, an hour at most."""

    free: int
    first: float
    longest: float
    forgotten_after: float


async def take(database: Database, limit: str, key: object, *, most: int, seconds: int) -> Standing:
    """Count one use of `key`. Raises errors.TooMany, with `Retry-After`, for more than `most` in `seconds`, and
    errors.Unavailable while the counts cannot be written."""
    try:
        async with database.autocommit() as db:
            taken, remaining = await _count(db, window := Window(f"{limit}:{key}", most, seconds))
    except DATABASE_ERRORS as exc:
        raise uncounted() from exc
    return _standing(window, most - taken, remaining)


def uncounted() -> errors.Unavailable:
    """For what must not be done while it cannot be counted."""
    return errors.Unavailable("This cannot be counted at this moment, so it is not done.", headers={"Retry-After": "2"})


async def count(db: AutocommitSession, windows: Sequence[Window]) -> None:
    """Count one use of each key, in this order: what one refuses is not counted by those after it.

    Raises errors.TooMany at the first that had too many, and whatever the database raises."""
    for window in windows:
        await _count(db, window)


async def _count(db: AutocommitSession, window: Window) -> tuple[int, float]:
    """How many uses are taken now, and the seconds until the window ends."""
    row = (await db.execute(_COUNT, {"key": window.key, "seconds": window.seconds})).one()
    if window.most is not None and row.taken > window.most:
        raise too_many(row.remaining, window)
    return row.taken, row.remaining


async def delay(db: AutocommitSession, key: str, delays: Delays) -> None:
    """Count one use of the key if its delay is over. Raises errors.TooMany if it is not, and whatever the database
    raises."""
    row = (await db.execute(_DELAY, {"key": key, **delays._asdict()})).one()
    if not row.admitted:
        # none: the row is younger than the statement
        raise too_many(row.remaining or delays.first)


async def uses(db: AutocommitSession, key: str) -> int:
    """Of the key in its present window."""
    return await db.scalar(_USES, {"key": key}) or 0


async def give_back(database: Database, limit: str, *, keys: Sequence[str], forget: str | None = None) -> None:
    """Take back one use of each key, and all of the key `forget`. Fails open: a request that has succeeded is not
    refused because its count is wrong."""
    try:
        async with database.autocommit() as db:
            if forget is not None:
                await db.execute(_FORGET, {"key": forget})
            if keys:
                await db.execute(_GIVE_BACK, {"keys": list(keys)})
    except DATABASE_ERRORS:
        telemetry.failed_open.labels(limit).inc()


def too_many(remaining: float, window: Window | None = None) -> errors.TooMany:
    """For a limit that frees in so many seconds. Of a window, the answer has the fields that limit_fields.py names."""
    wait = whole_seconds(remaining)
    headers = {"Retry-After": str(wait)}
    if window is not None:
        standing = _standing(window, 0, remaining)
        headers |= {limit_fields.POLICY: standing.policy, limit_fields.LIMIT: standing.limit}
    return errors.TooMany(f"Try again in {wait} seconds.", headers=headers)


def whole_seconds(seconds: float) -> int:
    """How long to wait, for a client: never 0, which would be at once."""
    return max(1, math.ceil(seconds))


def _standing(window: Window, left: int, seconds: float) -> Standing:
    name, most = window.key.partition(":")[0], window.most or 0
    return Standing(name, most, math.ceil(window.seconds), left, whole_seconds(seconds))


HOUSEKEEPING = (
    Pruning(
        "rate limits",
        text("""
        delete from rate_limits where key in (
          select key from rate_limits where resets_at < now() - interval '1 hour' limit :batch)
        """),
    ),
)
