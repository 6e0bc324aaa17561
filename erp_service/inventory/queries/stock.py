"""Reads of what is on hand, and its value: present balances, or the sums of the ledger at an earlier time."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Select,
    SQLColumnExpression,
    any_,
    case,
    func,
    literal,
    or_,
    select,
    true,
)

from erp_service.db.pagination import SortKey, SortOrder, page
from erp_service.db.sessions import Session
from erp_service.decimals import QUANTITY_SCALE
from erp_service.inventory.models import Item, Location, StockBalance, StockEntry
from erp_service.inventory.queries.filters import equal
from erp_service.inventory.queries.items import item_id_of
from erp_service.inventory.queries.locations import subtree
from erp_service.inventory.schemas import StockLevel, StockPage

BY_ITEM_AND_LOCATION = SortOrder(
    [SortKey(StockBalance.item_id, "item_id", int), SortKey(StockBalance.location_id, "location_id", int)]
)


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
    statement = current_stock(currency) if as_of is None else stock_as_of(currency, as_of)
    statement = statement.where(*equal((StockBalance.item_id, item_id)))
    if sku is not None:
        statement = statement.where(StockBalance.item_id == await item_id_of(db, sku))
    if location_id is not None:
        location_ids = list(await db.scalars(subtree(location_id))) if descendants else [location_id]
        statement = statement.where(StockBalance.location_id == any_(literal(location_ids, ARRAY(BigInteger))))
    if not include_zero:
        statement = without_zero(statement)
    return await page(db, statement, StockLevel, BY_ITEM_AND_LOCATION, limit=limit, cursor=cursor, into=StockPage)


def current_stock(currency: str) -> Select[*tuple[Any, ...]]:
    """Selects the fields of StockLevel from the present balances, without deleted items and locations.

    The ledger is not read, so its length does not matter."""
    b = StockBalance
    return _levels(currency, b.on_hand, b.value).where(Item.deleted_at.is_(None), Location.deleted_at.is_(None))


def stock_as_of(currency: str, as_of: datetime) -> Select[*tuple[Any, ...]]:
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


def without_zero(statement: Select[*tuple[Any, ...]]) -> Select[*tuple[Any, ...]]:
    """Leaves out what has neither a quantity on hand nor a value."""
    on_hand, value = statement.selected_columns["on_hand"], statement.selected_columns["value"]
    return statement.where(or_(on_hand != 0, value != 0))


def _levels(
    currency: str, on_hand: SQLColumnExpression[Decimal], value: SQLColumnExpression[Decimal]
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
            literal(currency),
        )
        .select_from(StockBalance)
        .join(Item, Item.id == StockBalance.item_id)
        .join(Location, Location.id == StockBalance.location_id)
    )
