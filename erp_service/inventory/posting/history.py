"""Whether what is posted with an earlier time fits what happened since: all that a posting asks the ledger."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from sqlalchemy import text

from erp_service.db.sessions import WriteSession
from erp_service.db.statements import Prepared, number_array, text_array
from erp_service.inventory.posting.row_locks import BalanceKey


class Shortage(NamedTuple):
    """The first moment at which less than zero is left at a location, and what could have gone out since then."""

    key: BalanceKey
    at: datetime
    available: Decimal


# What was on hand after a moment is what is on hand now, less all that came later. So only the entries since the
# earliest time of the document are read, by the index over item, location and time. Where a moment was below zero
# before this document, the document is refused only if it makes that worse.
_FIRST_SHORTAGE = Prepared(
    text("""
with asked as materialized (
  select * from unnest(
    cast(cast(:items as text) as bigint[]), cast(cast(:locations as text) as bigint[]),
    cast(cast(:times as text) as timestamptz[])
  ) a (item_id, location_id, since)
), moments as (
  select a.item_id, a.location_id, e.occurred_at, sum(e.quantity) as moved,
    coalesce(sum(e.quantity) filter (where e.id >= cast(:first_id as bigint)), 0) as own
  from asked a join stock_ledger e
    on e.item_id = a.item_id and e.location_id = a.location_id and e.occurred_at >= a.since
  group by 1, 2, 3
), left_over as (
  select m.item_id, m.location_id, m.occurred_at,
    b.on_hand - coalesce(sum(m.moved) over later, 0) as on_hand,
    sum(m.own) over (partition by m.item_id, m.location_id order by m.occurred_at) as own
  from moments m join stock_balances b using (item_id, location_id)
  where not b.allows_negative
  window later as (
    partition by m.item_id, m.location_id order by m.occurred_at desc
    rows between unbounded preceding and 1 preceding
  )
)
select distinct on (item_id, location_id) item_id, location_id, occurred_at,
  min(on_hand - own) over (partition by item_id, location_id) as available
from left_over where on_hand < 0 and own < 0
order by item_id, location_id, occurred_at limit 1
""")
)


async def first_shortage(db: WriteSession, first_id: int, since: Mapping[BalanceKey, datetime]) -> Shortage | None:
    """The first moment since the given times at which what was written leaves less than zero.

    `first_id` is that of the first entry that was written: nobody else adds entries to balances that are locked."""
    rows = await db.execute(
        _FIRST_SHORTAGE,
        {
            "items": number_array([item_id for item_id, _ in since]),
            "locations": number_array([location_id for _, location_id in since]),
            "times": text_array([time.isoformat() for time in since.values()]),
            "first_id": first_id,
        },
    )
    row = rows.one_or_none()
    return None if row is None else Shortage((row[0], row[1]), row[2], row[3])
