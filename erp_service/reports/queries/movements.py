"""Movements by item and period, in one statement: so that opening + movements = closing at one time."""

from datetime import date
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Date,
    DateTime,
    Integer,
    Numeric,
    Text,
    bindparam,
    column,
    exists,
    literal,
    select,
    text,
    true,
)
from sqlalchemy.sql.selectable import LateralFromClause

from erp_service.db.base import among
from erp_service.db.pagination import SortKey, SortOrder, page
from erp_service.db.sessions import Session
from erp_service.inventory.models import Item, StockBalance
from erp_service.inventory.queries.shares import of_item, share
from erp_service.reports.periods import Span
from erp_service.reports.queries.entries import entries_since
from erp_service.reports.schemas import MovementsLine, MovementsPage, Period
from erp_service.timestamps import postgres_zone

_KINDS = ("received", "issued", "adjusted", "assembled", "transferred")

# Periods are known by their first day: -infinity is before the span, infinity after it. What was on hand at an earlier
# time is what is there now without what occurred since; so the cost grows with what occurred since, whatever happened
# before.
_ENTRIES = f"""
  entries as (
    select e.*, case
        when e.occurred_at >= cast(:until as timestamptz) then date 'infinity'
        else cast(date_trunc(cast(:period as text), e.occurred_at, cast(:zone as text)) at time zone
          cast(:zone as text) as date)
      end as period
    from ({entries_since("items.id", "cast(:since as timestamptz)")}) e
  )"""  # noqa: S608 constants

# over all locations: the sums of the entries, backwards from now
_OF_ALL = """
  here as (select * from entries),
  changes as (
    select period, sum(quantity) as quantity, sum(value) as value from entries group by period
  ),
  levels as (
    select c.period,
      coalesce(v.on_hand, 0) - sum(c.quantity) over since as opening_quantity,
      coalesce(v.on_hand, 0) - sum(c.quantity) over since + c.quantity as closing_quantity,
      coalesce(v.value, 0) - sum(c.value) over since as opening_value,
      coalesce(v.value, 0) - sum(c.value) over since + c.value as closing_value
    from changes c left join stock_values v on v.item_id = items.id
    window since as (order by c.period desc)
  )"""

# At some locations, the shares that they have of the item's value at the end of each period in which the item moved
# anywhere: a movement elsewhere changes them too.
_CHANGES = """
    select period, location_id, sum(quantity) as quantity, sum(value) as value from entries group by 1, 2"""
_ENDS = """
    select p.period, coalesce(v.value, 0) - sum(p.value) over (order by p.period desc) + p.value as item_value
    from (
      select period, sum(value) as value from changes group by period union all select date '-infinity', 0
    ) p left join stock_values v on v.item_id = items.id"""
_AT_END = """
      select d.period, b.location_id, d.item_value, b.on_hand + coalesce(c.quantity, 0)
        - sum(coalesce(c.quantity, 0)) over (partition by b.location_id order by d.period desc) as on_hand
      from ends d cross join stock_balances b
        left join changes c on c.period = d.period and c.location_id = b.location_id
      where b.item_id = items.id"""
_LEVELS = "select l.*, sum(l.on_hand) over (partition by l.period) as item_on_hand from at_end l"
_AT_SOME = f"""
  here as (select * from entries where location_id = any (cast(:locations as bigint[]))),
  changes as ({_CHANGES}),
  ends as ({_ENDS}),
  at_end as ({_AT_END}),
  closing as (
    select l.period, sum(l.on_hand) as quantity, sum({share("l.location_id", "l.on_hand", "i")}) as value
    from at_end l join ({of_item(_LEVELS, ", period")} group by period) i on i.period = l.period
    where l.location_id = any (cast(:locations as bigint[])) group by l.period
  ),
  levels as (
    select period, lag(quantity) over periods as opening_quantity, quantity as closing_quantity,
      lag(value) over periods as opening_value, value as closing_value
    from closing window periods as (order by period)
  )"""  # noqa: S608 constants


def _sum(what: str, kind: str) -> str:
    sign = "-" if kind == "issued" else ""
    return f"coalesce({sign}sum({what}) filter (where kind = '{kind}'), 0)"


_SUMS = ", ".join(
    [
        *(f"{_sum('quantity', kind)} as {kind}" for kind in _KINDS),
        *(f"{_sum('value', kind)} as {kind}_value" for kind in _KINDS if kind != "transferred"),
        "coalesce(sum(quantity) filter (where entry_type = 'IN'), 0) as gross_in",
        "coalesce(-sum(quantity) filter (where entry_type = 'OUT'), 0) as gross_out",
        "count(*) as entries",
    ]
)
_LINES = f"""
  select l.period, l.opening_quantity, s.received, s.issued, s.adjusted, s.assembled, s.transferred,
    l.closing_quantity, l.opening_value, s.received_value, s.issued_value, s.adjusted_value, s.assembled_value,
    l.closing_value - l.opening_value - s.received_value + s.issued_value - s.adjusted_value - s.assembled_value
      as revalued_value,
    l.closing_value, s.gross_in, s.gross_out, l.closing_quantity - l.opening_quantity as net,
    l.closing_value - l.opening_value as value, s.entries
  from levels l cross join lateral (select {_SUMS} from here where here.period = l.period) s
  where isfinite(l.period) and (s.entries > 0 or l.closing_value <> l.opening_value)
"""  # noqa: S608 constants
_NUMBERS = (
    "opening_quantity", *_KINDS, "closing_quantity", "opening_value", "received_value", "issued_value",
    "adjusted_value", "assembled_value", "revalued_value", "closing_value", "gross_in", "gross_out", "net", "value",
)  # fmt: skip
_TRIMMED = ", ".join(f"trim_scale({name}) as {name}" for name in _NUMBERS)


async def movements(
    db: Session,
    *,
    currency: str,
    period: Period,
    span: Span,
    sku: str | None = None,
    item_id: int | None = None,
    locations: list[int] | None = None,
    limit: int,
    cursor: str | None = None,
) -> MovementsPage:
    """One page by item and period, also of items that are deleted by now; over all locations, or at some.

    Raises errors.Invalid for the cursor."""
    moved = _moved(period, span, locations)
    statement = (
        select(Item.id, Item.sku, Item.name, Item.unit, *moved.c, literal(currency))
        .select_from(Item)
        .join(moved, true())
    )
    if locations is not None:
        b = StockBalance
        statement = statement.where(exists().where(b.item_id == Item.id, among(b.location_id, locations)))
    if item_id is not None:
        statement = statement.where(Item.id == item_id)
    if sku is not None:
        statement = statement.where(Item.sku == sku)
    order = SortOrder([SortKey(Item.id, "item_id", int), SortKey(moved.c.period, "period", date)], leading=True)
    return await page(db, statement, MovementsLine, order, limit=limit, cursor=cursor, into=MovementsPage)


def _moved(period: Period, span: Span, locations: list[int] | None) -> LateralFromClause:
    """The lines of one item."""
    levels = _OF_ALL if locations is None else _AT_SOME
    lines = text(
        f"with {_ENTRIES}, {levels} select period, {_TRIMMED}, entries from ({_LINES}) lines"  # noqa: S608 constants
    )
    moment = DateTime(timezone=True)
    parameters: list[Any] = [
        bindparam("since", span.since, moment),
        bindparam("until", span.until, moment),
        bindparam("period", period, Text),
        bindparam("zone", postgres_zone(span.timezone), Text),
    ]
    if locations is not None:
        parameters.append(bindparam("locations", locations, ARRAY(BigInteger)))
    numbers = [column(name, Numeric) for name in _NUMBERS]
    columns = lines.bindparams(*parameters).columns(column("period", Date), *numbers, column("entries", Integer))
    return columns.lateral("moved")
