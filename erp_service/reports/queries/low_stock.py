"""Which items have too little available."""

from decimal import Decimal
from typing import Any

from sqlalchemy import Numeric, SQLColumnExpression, func, literal, literal_column, select, true
from sqlalchemy.sql.selectable import LateralFromClause

from erp_service.db.base import among
from erp_service.db.pagination import SortKey, SortOrder, page
from erp_service.db.sessions import Session
from erp_service.inventory.models import Item, StockBalance
from erp_service.inventory.reservations.live import live_reserved
from erp_service.reports.schemas import LowStockLine, LowStockPage

IS_ACTIVE = (Item.status == "ACTIVE", Item.deleted_at.is_(None))
_BY_ITEM = SortOrder([SortKey(Item.id, "item_id", int)])


def stock_of_item(locations: list[int] | None) -> LateralFromClause:
    """What is on hand of an item and reserved, over all locations; or at some, where it ever was at one of them."""
    b = StockBalance
    reserved: SQLColumnExpression[Decimal] = literal_column(live_reserved("stock_balances"), Numeric)
    sums = select(
        func.coalesce(func.sum(b.on_hand), 0).label("on_hand"), func.coalesce(func.sum(reserved), 0).label("reserved")
    ).where(b.item_id == Item.id)
    if locations is not None:
        sums = sums.where(among(b.location_id, locations)).having(func.count() > 0)
    return sums.correlate(Item).lateral("stock")


def reorder_point_of_item(default: Decimal | None) -> SQLColumnExpression[Any]:
    """Of an item that has none of its own, `default`."""
    return Item.reorder_point if default is None else func.coalesce(Item.reorder_point, literal(default))


async def low_stock(
    db: Session,
    *,
    threshold: Decimal | None = None,
    reorder_point: Decimal | None = None,
    sku: str | None = None,
    item_id: int | None = None,
    locations: list[int] | None = None,
    limit: int,
    cursor: str | None = None,
) -> LowStockPage:
    """One page of active items of which no more than their reorder point is available, or, with `threshold`, less than
    that. `reorder_point` is that of items without one. At locations, only of items that ever were there.

    Raises errors.Invalid for the cursor."""
    stock = stock_of_item(locations)
    available = stock.c.on_hand - stock.c.reserved
    level: SQLColumnExpression[Any] = reorder_point_of_item(reorder_point) if threshold is None else literal(threshold)
    statement = (
        select(
            Item.id,
            Item.sku,
            Item.name,
            Item.unit,
            func.trim_scale(stock.c.on_hand),
            func.trim_scale(stock.c.reserved),
            func.trim_scale(available),
            Item.reorder_point,
            func.trim_scale(level - available),
        )
        .select_from(Item)
        .join(stock, true())
        .where(*IS_ACTIVE, available <= level if threshold is None else available < level)
    )
    if item_id is not None:
        statement = statement.where(Item.id == item_id)
    if sku is not None:
        statement = statement.where(Item.sku == sku)
    return await page(db, statement, LowStockLine, _BY_ITEM, limit=limit, cursor=cursor, into=LowStockPage)
