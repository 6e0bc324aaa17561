"""Reads of what is on hand, and its value: present balances, or the sums of the ledger at an earlier time."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    DateTime,
    Select,
    SQLColumnExpression,
    Text,
    any_,
    bindparam,
    case,
    func,
    or_,
    select,
    true,
)

from erp_service.db.pagination import Listing, SortKey, SortOrder
from erp_service.db.sessions import Session
from erp_service.decimals import QUANTITY_SCALE
from erp_service.inventory.models import Item, Location, StockBalance, StockEntry, StockValue
from erp_service.inventory.queries.items import item_id_of
from erp_service.inventory.queries.locations import subtree
from erp_service.inventory.schemas import StockLevel, StockPage

BY_ITEM_AND_LOCATION = SortOrder(
    [SortKey(StockBalance.item_id, "item_id", int), SortKey(StockBalance.location_id, "location_id", int)]
)


def current_stock(currency: ColumnElement[str]) -> Select[*tuple[Any, ...]]:
    """Selects the fields of StockLevel from the present balances, without deleted items and locations.

    The ledger is not read, so its length does not matter."""
    b = StockBalance
    v = StockValue
    value = func.coalesce(func.round(b.on_hand * v.value / func.nullif(v.on_hand, 0), 4), 0)
    levels = _levels(currency, b.on_hand, value).outerjoin(v, v.item_id == b.item_id)
    return levels.where(Item.deleted_at.is_(None), Location.deleted_at.is_(None))


def stock_as_of(currency: ColumnElement[str], as_of: ColumnElement[datetime]) -> Select[*tuple[Any, ...]]:
    """Selects the fields of StockLevel as the sums of the entries with occurred_at <= `as_of`.

    The balances only say which pairs of item and location exist. So a page reads only the entries of its own pairs,
    by index."""
    e = StockEntry
    sums = (
        select(func.sum(e.quantity).label("on_hand"), func.sum(e.value).label("value"))
        .where(e.item_id == StockBalance.item_id, e.location_id == StockBalance.location_id, e.occurred_at <= as_of)
        .correlate(StockBalance)
        .having(func.count() > 0)
        .lateral("sums")
    )
    return _levels(currency, sums.c.on_hand, sums.c.value).join(sums, true())


def not_zero(statement: Select[*tuple[Any, ...]]) -> ColumnElement[bool]:
    """Whether a row of it has a quantity on hand or a value."""
    on_hand, value = statement.selected_columns["on_hand"], statement.selected_columns["value"]
    return or_(on_hand != 0, value != 0)


def _levels(
    currency: ColumnElement[str], on_hand: SQLColumnExpression[Decimal], value: SQLColumnExpression[Decimal]
) -> Select[*tuple[Any, ...]]:
    average = func.round(value / on_hand, QUANTITY_SCALE)
    return (
        select(
            StockBalance.item_id,
            Item.sku,
            Item.name,
            StockBalance.location_id,
            Location.code,
            func.trim_scale(on_hand).label("on_hand"),
            func.trim_scale(value).label("value"),
            case((on_hand != 0, func.trim_scale(average))),
            currency,
        )
        .select_from(StockBalance)
        .join(Item, Item.id == StockBalance.item_id)
        .join(Location, Location.id == StockBalance.location_id)
    )


def _listing(statement: Select[*tuple[Any, ...]]) -> Listing[StockLevel, StockPage]:
    item_id, location_id = StockBalance.item_id, StockBalance.location_id
    return Listing(
        statement,
        StockLevel,
        StockPage,
        {"item_id": BY_ITEM_AND_LOCATION},
        {
            "item_id": item_id == bindparam("item_id"),
            "item_id_of_sku": item_id == bindparam("item_id_of_sku"),
            "location_ids": location_id == any_(bindparam("location_ids", type_=ARRAY(BigInteger))),
            "not_zero": not_zero(statement),
        },
    )


_CURRENCY = bindparam("currency", type_=Text)
_CURRENT = _listing(current_stock(_CURRENCY))
_AS_OF = _listing(stock_as_of(_CURRENCY, bindparam("as_of", type_=DateTime(timezone=True))))


async def stock_page(
    db: Session,
    *,
    currency: str,
    sku: str | None = None,
    item_id: int | None = None,
    location_id: int | None = None,
    descendants: bool = False,
    as_of: datetime | None = None,
    include_zero: bool = True,
    limit: int,
    cursor: str | None = None,
) -> StockPage:
    """One page by item and location: present balances, or the sums of entries with occurred_at <= `as_of`.

    `descendants`: also the locations below `location_id`. Raises errors.Invalid for the cursor."""
    location_ids = None if location_id is None else [location_id]
    if location_id is not None and descendants:
        location_ids = await db.scalars(subtree(location_id))
    parameters = {
        "currency": currency,
        "as_of": as_of,
        "item_id": item_id,
        "item_id_of_sku": None if sku is None else await item_id_of(db, sku),
        "location_ids": location_ids,
        "not_zero": not include_zero,
    }
    return await (_CURRENT if as_of is None else _AS_OF).page(db, parameters, limit=limit, cursor=cursor)
