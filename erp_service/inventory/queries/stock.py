"""Reads of what is on hand, and its value: present balances, or what they were before an earlier moment."""

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any, Generic, TypeVar

import msgspec
from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    DateTime,
    Numeric,
    Select,
    SQLColumnExpression,
    Text,
    any_,
    bindparam,
    column,
    func,
    literal_column,
    null,
    or_,
    select,
    text,
    true,
)
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.selectable import LateralFromClause

from erp_service.db.pagination import Listing, SortKey, SortOrder
from erp_service.db.sessions import Session
from erp_service.decimals import trimmed
from erp_service.inventory.models import Item, Location, StockBalance, StockEntry
from erp_service.inventory.queries.location_filter import location_ids
from erp_service.inventory.queries.shares import levels_before, levels_now, of_item, share, unit_value
from erp_service.inventory.reservations.live import live_reserved
from erp_service.inventory.schemas import StockLevel, StockPage

T = TypeVar("T", bound=msgspec.Struct)
P = TypeVar("P")

_ORDER = SortOrder(
    [
        SortKey(StockBalance.item_id, "item_id", int),
        SortKey(StockBalance.location_id, "location_id", int),
    ]
)
_AS_OF = bindparam("as_of", type_=DateTime(timezone=True))
_NOTHING = Decimal(0)


class StockList(Generic[T, P]):
    """Pages of levels by item and location. `kind` has the fields of StockLevel, and after `location` those of `more`
    columns."""

    def __init__(
        self, kind: type[T], into: Callable[[list[T], str | None], P], *more: InstrumentedAttribute[Any]
    ) -> None:
        self._now = _listing(_now(*more), _made_now(kind), into)
        self._before = _listing(_before(*more), _made_before(kind), into)

    async def page(
        self,
        db: Session,
        *,
        currency: str,
        sku: str | None = None,
        item_id: int | None = None,
        location_id: int | None = None,
        location: str | None = None,
        descendants: bool = False,
        as_of: datetime | None = None,
        include_zero: bool = True,
        limit: int,
        cursor: str | None = None,
    ) -> P:
        """One page: present balances, or what they were just before `as_of`.

        `descendants`: also the locations below the one that is named. Raises errors.Invalid for the cursor and the
        location."""
        places = await location_ids(db, location_id=location_id, location=location, descendants=descendants)
        parameters = {
            "currency": currency,
            "as_of": as_of,
            "item_id": item_id,
            "sku": sku,
            "location_ids": places,
            "not_zero": not include_zero,
        }
        return await (self._now if as_of is None else self._before).page(db, parameters, limit=limit, cursor=cursor)


def _listing(
    statement: Select[*tuple[Any, ...]], make: Callable[..., T], into: Callable[[list[T], str | None], P]
) -> Listing[T, P]:
    item_id, location_id = StockBalance.item_id, StockBalance.location_id
    on_hand, value = statement.selected_columns["on_hand"], statement.selected_columns["value"]
    return Listing(
        statement,
        make,
        into,
        {"item_id": _ORDER},
        {
            "item_id": item_id == bindparam("item_id"),
            "sku": item_id == select(Item.id).where(Item.sku == bindparam("sku")).scalar_subquery(),
            "location_ids": location_id == any_(bindparam("location_ids", type_=ARRAY(BigInteger))),
            "not_zero": or_(on_hand != 0, value != 0),
        },
    )


def _now(*more: InstrumentedAttribute[Any]) -> Select[*tuple[Any, ...]]:
    """Without deleted items and locations. The ledger is not read, so its length does not matter."""
    b = StockBalance
    reserved = literal_column(f"nullif(trim_scale({live_reserved('stock_balances')}), 0)", Numeric)
    item = _item(of_item(levels_now("stock_balances.item_id")), "and items.deleted_at is null")
    value = share("stock_balances.location_id", "stock_balances.on_hand", "item")
    levels = _levels(item, more, b.on_hand, reserved, literal_column(f"trim_scale({value})", Numeric))
    return levels.where(Location.deleted_at.is_(None))


def _before(*more: InstrumentedAttribute[Any]) -> Select[*tuple[Any, ...]]:
    """Also of what is deleted by now. A page reads only the entries of its own items, by index."""
    e, b = StockEntry, StockBalance
    by_location = ", array_agg(location_id) as location_ids, array_agg(on_hand) as on_hands"
    item = _item(of_item(levels_before("stock_balances.item_id", "cast(:as_of as timestamptz)"), by_location))
    on_hand = "item.on_hands[array_position(item.location_ids, stock_balances.location_id)]"
    value = literal_column(share("stock_balances.location_id", on_hand, "item"), Numeric)
    earlier = select(true()).where(e.item_id == b.item_id, e.location_id == b.location_id, e.occurred_at < _AS_OF)
    # for `exists`, Postgres may read the whole ledger into a hash table
    was_there = earlier.limit(1).scalar_subquery()
    levels = _levels(item, more, literal_column(f"trim_scale({on_hand})", Numeric), null(), func.trim_scale(value))
    return levels.where(or_(was_there, value != 0))


def _item(of_item: str, condition: str = "") -> LateralFromClause:
    """All that is the same for the rows of one item. Its other columns are named in SQL.

    `offset 0` keeps it together: a join with the items would read them from the first one to where the page is."""
    one = unit_value("i.item_value", "i.item_on_hand")
    rows = text(
        f"select i.*, trim_scale({one}) as unit_value, items.sku, items.name, items.unit"  # noqa: S608 constants
        f" from items cross join ({of_item}) i where items.id = stock_balances.item_id {condition} offset 0"
    )
    texts = [column(name, Text) for name in ("sku", "name", "unit")]
    return rows.columns(column("unit_value", Numeric), *texts).lateral("item")


def _levels(
    item: LateralFromClause,
    more: tuple[InstrumentedAttribute[Any], ...],
    on_hand: SQLColumnExpression[Any],
    reserved: ColumnElement[Any],
    value: ColumnElement[Any],
) -> Select[*tuple[Any, ...]]:
    b = StockBalance
    return (
        select(
            b.item_id,
            item.c.sku,
            item.c.name,
            item.c.unit,
            b.location_id,
            Location.code,
            *more,
            on_hand.label("on_hand"),
            reserved.label("reserved"),
            value.label("value"),
            item.c.unit_value,
            bindparam("currency", type_=Text),
        )
        .select_from(b)
        .join(Location, Location.id == b.location_id)
        .join(item, true())
    )


def _made_now(kind: type[T]) -> Callable[..., T]:
    # Almost nothing is reserved: a null is read faster than a zero, and what is available need not be sent.
    def make(*row: Any) -> T:
        *what, on_hand, reserved, value, one, currency = row
        if reserved is None:
            return kind(*what, on_hand, _NOTHING, on_hand, value, one, currency)
        return kind(*what, on_hand, reserved, trimmed(on_hand - reserved), value, one, currency)

    return make


def _made_before(kind: type[T]) -> Callable[..., T]:
    def make(*row: Any) -> T:
        *what, on_hand, _, value, one, currency = row
        return kind(*what, on_hand, None, None, value, one, currency)

    return make


STOCK = StockList(StockLevel, StockPage)
