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
    Text,
    any_,
    bindparam,
    column,
    exists,
    literal_column,
    null,
    or_,
    select,
    text,
)
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.selectable import LateralFromClause

from erp_service.db.pagination import Listing, SortKey, SortOrder
from erp_service.db.sessions import Session
from erp_service.decimals import trimmed
from erp_service.inventory.models import Item, Location, StockBalance, StockEntry
from erp_service.inventory.queries.location_filter import location_ids
from erp_service.inventory.queries.shares import levels_before, levels_now, shares, unit_value
from erp_service.inventory.schemas import StockLevel, StockPage

T = TypeVar("T", bound=msgspec.Struct)
P = TypeVar("P")

_ORDER = SortOrder(
    [
        SortKey(StockBalance.item_id, "item_id", int, equals=(Item.id,)),
        SortKey(StockBalance.location_id, "location_id", int),
    ]
)
_AS_OF = bindparam("as_of", type_=DateTime(timezone=True))
_NOTHING = Decimal(0)


def live_reserved(balance: str) -> str:
    """SQL for what reservations hold of a balance, without those that have expired. `balance` is its table's alias."""
    return f"{balance}.reserved"


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
    reserved: ColumnElement[Any] = literal_column(f"nullif(trim_scale({live_reserved('stock_balances')}), 0)", Numeric)
    share = _share(levels_now("stock_balances.item_id"))
    return _levels(share, more, reserved).where(Item.deleted_at.is_(None), Location.deleted_at.is_(None))


def _before(*more: InstrumentedAttribute[Any]) -> Select[*tuple[Any, ...]]:
    """Also of what is deleted by now. A page reads only the entries of its own items, by index."""
    e, b = StockEntry, StockBalance
    share = _share(levels_before("stock_balances.item_id", "cast(:as_of as timestamptz)"))
    was_there = exists().where(e.item_id == b.item_id, e.location_id == b.location_id, e.occurred_at < _AS_OF)
    return _levels(share, more, null()).where(or_(was_there, share.c.value != 0))


def _share(levels: str) -> LateralFromClause:
    """A row for each location of the item. Postgres keeps them from one row of the page to the next (Memoize)."""
    numbers = [column(name, Numeric) for name in ("on_hand", "value", "unit_value")]
    one = unit_value("s.item_value", "s.item_on_hand")
    rows = text(
        f"select s.location_id, trim_scale(s.on_hand) as on_hand, trim_scale(s.value) as value, {one} as unit_value"  # noqa: S608 constants
        f" from ({shares(levels)}) s"
    )
    return rows.columns(column("location_id", BigInteger), *numbers).lateral("share")


def _levels(
    share: LateralFromClause, more: tuple[InstrumentedAttribute[Any], ...], reserved: ColumnElement[Any]
) -> Select[*tuple[Any, ...]]:
    b = StockBalance
    return (
        select(
            b.item_id,
            Item.sku,
            Item.name,
            Item.unit,
            b.location_id,
            Location.code,
            *more,
            share.c.on_hand,
            reserved.label("reserved"),
            share.c.value,
            share.c.unit_value,
            bindparam("currency", type_=Text),
        )
        .select_from(b)
        .join(Item, Item.id == b.item_id)
        .join(Location, Location.id == b.location_id)
        .join(share, share.c.location_id == b.location_id)
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
