"""The stock in a few figures."""

from decimal import Decimal
from typing import Any

from sqlalchemy import Numeric, Select, column, exists, func, literal, literal_column, select, text, true

from erp_service.company.queries import company_zone
from erp_service.db.base import among
from erp_service.db.sessions import Session
from erp_service.inventory.models import Item, Location, StockBalance, StockEntry, StockValue
from erp_service.inventory.queries.shares import levels_now, share
from erp_service.inventory.queries.shares import of_item as item_row
from erp_service.inventory.reservations.live import live_reserved
from erp_service.reports.queries.last_days import by_day, first_of_last_days, movements_of
from erp_service.reports.queries.low_stock import IS_ACTIVE, reorder_point_of_item
from erp_service.reports.schemas import Summary


async def summary(
    db: Session, *, currency: str, reorder_point: Decimal | None = None, locations: list[int] | None = None
) -> Summary:
    """All figures, at the time of the statement; over all locations, or of some. `reorder_point` is that of items that
    have none."""
    zone = await company_zone(db)
    first_day = first_of_last_days(zone)
    b, e = StockBalance, StockEntry
    items = select(func.count()).select_from(Item).where(*IS_ACTIVE)
    places = select(func.count()).select_from(Location).where(Location.deleted_at.is_(None))
    week_ago = func.statement_timestamp() - func.make_interval(0, 0, 0, 7)
    recent = select(func.count()).select_from(e).where(e.occurred_at >= week_ago)
    available = func.sum(b.on_hand - literal_column(live_reserved("stock_balances"), Numeric))
    stock = select(b.item_id, available.label("available")).group_by(b.item_id)
    if locations is not None:
        stock = stock.where(among(b.location_id, locations))
    of_item = stock.subquery()
    # over all locations, also items that never were in stock
    low_items = (
        select(func.count())
        .select_from(Item)
        .join(of_item, of_item.c.item_id == Item.id, isouter=locations is None)
        .where(*IS_ACTIVE, func.coalesce(of_item.c.available, 0) <= reorder_point_of_item(reorder_point))
    )
    if locations is not None:
        items = items.where(exists().where(b.item_id == Item.id, among(b.location_id, locations)))
        places = places.where(among(Location.id, locations))
        recent = recent.where(among(e.location_id, locations))
    statement: Select[*tuple[Any, ...]] = select(
        items.scalar_subquery(),
        places.scalar_subquery(),
        _stock_value(locations).scalar_subquery(),
        literal(currency),
        low_items.scalar_subquery(),
        recent.scalar_subquery(),
        func.statement_timestamp(),
        by_day(zone, first_day, locations).scalar_subquery(),
    )
    *figures, days = (await db.execute(statement)).one()
    return Summary(*[*figures, movements_of(first_day, days)])


def _stock_value(locations: list[int] | None) -> Select[Any]:
    if locations is None:
        return select(func.trim_scale(func.coalesce(func.sum(StockValue.value), 0)))
    b = StockBalance
    item = text(item_row(levels_now("stock_balances.item_id"))).columns(column("rest", Numeric)).lateral("item")
    value = literal_column(share("stock_balances.location_id", "stock_balances.on_hand", "item"), Numeric)
    return (
        select(func.trim_scale(func.coalesce(func.sum(value), 0)))
        .select_from(b)
        .join(item, true())
        .where(among(b.location_id, locations))
    )
