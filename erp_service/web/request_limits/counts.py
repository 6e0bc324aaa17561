"""The counts that all instances share: one row for each caller in rate_limits, and one statement for all demands of an
instance at once."""

from collections.abc import Sequence

from sqlalchemy import text

from erp_service.db.sessions import AutocommitSession
from erp_service.db.statements import Prepared
from erp_service.web.request_limits.leases import Demand, Grant

# Rows are locked in one order, so that two instances do not wait for each other. What is given back of a window that is
# over gives nothing back. Those who wait get a use each; ahead of them an eighth of what remains, and so nothing at all
# of the last seven. A caller who has no row yet has used nothing.
_SETTLE = Prepared(
    text("""
    with demands as materialized (
      select * from unnest(
        cast(:keys as text[]), cast(:most as int[]), cast(:waiting as int[]), cast(:ahead as int[]),
        cast(:unused as int[]), cast(:windows as timestamptz[])
      ) as demand (key, most, waiting, ahead, unused, ends_at)
    )
    insert into rate_limits as present (key, taken, granted, resets_at)
    select key, granted, granted, clock_timestamp() + make_interval(secs => cast(:seconds as float8))
    from demands
    cross join lateral (select least(most, waiting + least(ahead, (most - waiting) / 8))) as share (granted)
    order by key
    on conflict (key) do update set (taken, granted, resets_at) = (
      select counted.taken + share.granted, share.granted, counted.resets_at
      from demands
      cross join lateral (select present.resets_at <= clock_timestamp()) as present_window (is_over)
      cross join lateral (
        select
          case when is_over then 0
               when present.resets_at = demands.ends_at then greatest(present.taken - unused, 0)
               else present.taken end,
          case when is_over then excluded.resets_at else present.resets_at end
      ) as counted (taken, resets_at)
      cross join lateral (select greatest(most - counted.taken, 0)) as free (uses)
      cross join lateral (select least(uses, waiting + least(ahead, (uses - waiting) / 8))) as share (granted)
      where demands.key = present.key
    )
    returning key, granted, taken, resets_at, cast(extract(epoch from resets_at - clock_timestamp()) as float8)
    """)
)


async def settle(db: AutocommitSession, demands: Sequence[Demand], *, seconds: float) -> list[Grant]:
    """Meet the demands, of which no two are for the same key, out of windows of so many seconds. A window starts with
    the first demand after the end of the one before. Raises whatever the database raises."""
    rows = await db.execute(
        _SETTLE,
        {
            "keys": [demand.key for demand in demands],
            "most": [demand.most for demand in demands],
            "waiting": [demand.waiting for demand in demands],
            "ahead": [demand.ahead for demand in demands],
            "unused": [demand.unused for demand in demands],
            "windows": [demand.window for demand in demands],
            "seconds": seconds,
        },
    )
    return [Grant(*row) for row in rows]
