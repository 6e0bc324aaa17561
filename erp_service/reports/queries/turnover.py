"""How fast items sell, in one statement."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    DateTime,
    Integer,
    Numeric,
    bindparam,
    column,
    literal,
    select,
    text,
    true,
)
from sqlalchemy.sql.selectable import LateralFromClause

from erp_service.db.pagination import SortKey, SortOrder, page
from erp_service.db.sessions import Session
from erp_service.inventory.models import Item
from erp_service.reports.periods import Span
from erp_service.reports.queries.entries import entries_since
from erp_service.reports.schemas import TurnoverLine, TurnoverPage

_BY_ITEM = SortOrder([SortKey(Item.id, "item_id", int)])

# on hand at the end of the span is what is there now without what occurred since, and at its beginning likewise
_TURNOVER = """
with span as (
  select cast(:since as timestamptz) as since, cast(:until as timestamptz) as until,
    round(extract(epoch from cast(:until as timestamptz) - cast(:since as timestamptz)) / 86400, 6) as days
), here as (
  select b.location_id, b.on_hand, (
      select e.occurred_at from stock_ledger e
      where e.item_id = b.item_id and e.location_id = b.location_id and e.occurred_at < (select until from span)
        and e.entry_type = 'OUT' and e.origin is null
      order by e.occurred_at desc limit 1
    ) as last_out_at
  from stock_balances b where b.item_id = items.id {at_some}
), sums as (
  select
    coalesce(sum(e.quantity) filter (where e.occurred_at >= s.until), 0) as later,
    coalesce(sum(e.quantity) filter (where e.occurred_at < s.until), 0) as change,
    coalesce(sum(e.quantity * extract(epoch from s.until - e.occurred_at)) filter (where e.occurred_at < s.until), 0)
      / extract(epoch from s.until - s.since) as average_change,
    coalesce(-sum(e.quantity) filter (where e.kind = 'issued' and e.occurred_at < s.until), 0) as issued,
    coalesce(-sum(e.value) filter (where e.kind = 'issued' and e.occurred_at < s.until), 0) as issued_value
  from span s cross join ({entries}) e
  where e.location_id in (select location_id from here)
  group by s.since, s.until
), stock as (
  select count(*) as locations, sum(h.on_hand) - coalesce(max(m.later), 0) as on_hand,
    round(sum(h.on_hand) - coalesce(max(m.later + m.change - m.average_change), 0), 6) as average_on_hand,
    max(h.last_out_at) as last_out_at, coalesce(max(m.issued), 0) as issued,
    coalesce(max(m.issued_value), 0) as issued_value
  from here h left join sums m on true
)
select trim_scale(p.days) as days, trim_scale(s.on_hand) as on_hand, trim_scale(s.average_on_hand) as average_on_hand,
  trim_scale(s.issued) as issued, trim_scale(s.issued_value) as issued_value,
  trim_scale(case when s.average_on_hand > 0 then round(s.issued / s.average_on_hand, 6) end) as stock_turns,
  trim_scale(case when s.issued > 0 then round(greatest(s.on_hand, 0) * p.days / s.issued, 6) end) as days_of_cover,
  s.last_out_at, cast(floor(extract(epoch from p.until - s.last_out_at) / 86400) as integer) as days_since_last_out
from stock s cross join span p where s.locations > 0
"""
_NUMBERS = ("days", "on_hand", "average_on_hand", "issued", "issued_value", "stock_turns", "days_of_cover")


async def turnover(
    db: Session,
    *,
    currency: str,
    span: Span,
    sku: str | None = None,
    item_id: int | None = None,
    locations: list[int] | None = None,
    limit: int,
    cursor: str | None = None,
) -> TurnoverPage:
    """One page of the items that are not deleted and ever were in stock, over all locations or at some.

    Raises errors.Invalid for the cursor."""
    sold = _sold(span, locations)
    statement = (
        select(Item.id, Item.sku, Item.name, Item.unit, *sold.c, literal(currency))
        .select_from(Item)
        .join(sold, true())
        .where(Item.deleted_at.is_(None))
    )
    if item_id is not None:
        statement = statement.where(Item.id == item_id)
    if sku is not None:
        statement = statement.where(Item.sku == sku)
    return await page(db, statement, TurnoverLine, _BY_ITEM, limit=limit, cursor=cursor, into=TurnoverPage)


def _sold(span: Span, locations: list[int] | None) -> LateralFromClause:
    entries = entries_since("items.id", "cast(:since as timestamptz)")
    at_some = "" if locations is None else "and b.location_id = any (cast(:locations as bigint[]))"
    moment = DateTime(timezone=True)
    now = datetime.now(UTC)
    parameters: list[Any] = [
        bindparam("since", span.since, moment),
        bindparam("until", now if span.until is None else min(span.until, now), moment),
    ]
    if locations is not None:
        parameters.append(bindparam("locations", locations, ARRAY(BigInteger)))
    columns = [
        *(column(name, Numeric) for name in _NUMBERS),
        column("last_out_at", moment),
        column("days_since_last_out", Integer),
    ]
    lines = text(_TURNOVER.format(entries=entries, at_some=at_some)).bindparams(*parameters)
    return lines.columns(*columns).lateral("sold")
