"""The reports, each in one statement, so that all its numbers are of one time; columns straight into the structs."""

from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Date,
    DateTime,
    Select,
    SQLColumnExpression,
    and_,
    cast,
    func,
    literal,
    select,
    true,
)
from sqlalchemy.sql.selectable import LateralFromClause

from erp_service.db.base import among
from erp_service.db.pagination import SortKey, SortOrder, page
from erp_service.db.sessions import Session
from erp_service.inventory.models import Item, Location, StockBalance, StockEntry, StockValue
from erp_service.inventory.queries.locations import subtree
from erp_service.inventory.queries.stock import BY_ITEM_AND_LOCATION, current_stock, not_zero, stock_as_of
from erp_service.reports.periods import Span
from erp_service.reports.schemas import (
    LowStockLine,
    LowStockPage,
    MovementsLine,
    MovementsPage,
    Period,
    SnapshotLine,
    SnapshotPage,
    Summary,
)
from erp_service.timestamps import postgres_zone

_BY_ITEM = SortOrder([SortKey(Item.id, "item_id", int)])
_IS_ACTIVE = (Item.status == "ACTIVE", Item.deleted_at.is_(None))


async def snapshot(
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
) -> SnapshotPage:
    """One page by item and location: present balances, or the sums of entries with occurred_at <= `as_of`.

    `descendants`: also the locations below `location_id`. Raises errors.Invalid for the cursor."""
    named = literal(currency)
    statement = current_stock(named) if as_of is None else stock_as_of(named, literal(as_of, DateTime(timezone=True)))
    columns = list(statement.selected_columns)
    statement = statement.with_only_columns(*columns[:3], Item.unit, *columns[3:5], Location.name, *columns[5:])
    if item_id is not None:
        statement = statement.where(StockBalance.item_id == item_id)
    if sku is not None:
        statement = statement.where(StockBalance.item_id == select(Item.id).where(Item.sku == sku).scalar_subquery())
    if location_id is not None:
        column = StockBalance.location_id
        statement = statement.where(column.in_(subtree(location_id)) if descendants else column == location_id)
    if not include_zero:
        statement = statement.where(not_zero(statement))
    return await page(db, statement, SnapshotLine, BY_ITEM_AND_LOCATION, limit=limit, cursor=cursor, into=SnapshotPage)


async def movements(
    db: Session,
    *,
    currency: str,
    period: Period,
    span: Span,
    sku: str | None = None,
    item_id: int | None = None,
    location_id: int | None = None,
    limit: int,
    cursor: str | None = None,
) -> MovementsPage:
    """One page by item and period, also of items that are deleted by now. Raises errors.Invalid for the cursor."""
    sums = _sums_of_item(period, span, location_id)
    statement = (
        select(Item.id, Item.sku, Item.name, Item.unit, *sums.c, literal(currency)).select_from(Item).join(sums, true())
    )
    if item_id is not None:
        statement = statement.where(Item.id == item_id)
    if sku is not None:
        statement = statement.where(Item.sku == sku)
    order = SortOrder([SortKey(Item.id, "item_id", int), SortKey(sums.c.period, "period", date)], leading=True)
    return await page(db, statement, MovementsLine, order, limit=limit, cursor=cursor, into=MovementsPage)


def _sums_of_item(period: Period, span: Span, location_id: int | None) -> LateralFromClause:
    """The sums of one item's entries, by period.

    The balances say at which locations the item can have moved. So its entries of the span are found by the index over
    item, location and time: a page reads no other entries, however long the ledger is."""
    e, b = StockEntry, StockBalance
    zone = postgres_zone(span.timezone)
    begins = cast(func.timezone(zone, func.date_trunc(period, e.occurred_at, zone)), Date)

    def total(column: SQLColumnExpression[Decimal], *entry_types: str) -> ColumnElement[Decimal]:
        total: ColumnElement[Any] = func.sum(column)
        if entry_types:
            total = func.sum(column).filter(among(e.entry_type, entry_types))
        return func.trim_scale(func.coalesce(total, 0))

    sums = (
        select(
            begins.label("period"),
            total(e.quantity, "IN").label("received"),
            total(-e.quantity, "OUT").label("issued"),
            total(e.quantity, "ADJUSTMENT").label("adjusted"),
            total(e.quantity, "TRANSFER_IN", "TRANSFER_OUT").label("transferred"),
            total(e.quantity).label("net"),
            total(e.value).label("value"),
            func.count().label("entries"),
        )
        .select_from(b)
        .join(e, and_(e.item_id == b.item_id, e.location_id == b.location_id))
        .where(b.item_id == Item.id, e.occurred_at >= span.since)
        .correlate(Item)
        # by its label: written out again, the expression would get new parameters, and Postgres takes it for another
        .group_by("period")
    )
    if span.until is not None:
        sums = sums.where(e.occurred_at < span.until)
    if location_id is not None:
        sums = sums.where(b.location_id == location_id)
    return sums.lateral("moved")


async def low_stock(
    db: Session,
    *,
    threshold: Decimal | None = None,
    sku: str | None = None,
    item_id: int | None = None,
    limit: int,
    cursor: str | None = None,
) -> LowStockPage:
    """One page of active items at or below their reorder point, or, with `threshold`, of those below it.

    Raises errors.Invalid for the cursor."""
    b = StockBalance
    of_item = select(func.coalesce(func.sum(b.on_hand), 0).label("on_hand")).where(b.item_id == Item.id)
    stock = of_item.correlate(Item).lateral("stock")
    level: SQLColumnExpression[Any] = Item.reorder_point if threshold is None else literal(threshold)
    statement = (
        select(
            Item.id,
            Item.sku,
            Item.name,
            Item.unit,
            func.trim_scale(stock.c.on_hand),
            Item.reorder_point,
            func.trim_scale(level - stock.c.on_hand),
        )
        .select_from(Item)
        .join(stock, true())
        .where(*_IS_ACTIVE, stock.c.on_hand <= level if threshold is None else stock.c.on_hand < level)
    )
    if item_id is not None:
        statement = statement.where(Item.id == item_id)
    if sku is not None:
        statement = statement.where(Item.sku == sku)
    return await page(db, statement, LowStockLine, _BY_ITEM, limit=limit, cursor=cursor, into=LowStockPage)


async def summary(db: Session, *, currency: str) -> Summary:
    """All figures, at the time of the statement."""
    b, e = StockBalance, StockEntry
    stock = select(b.item_id, func.sum(b.on_hand).label("on_hand")).group_by(b.item_id).subquery()
    low_items = (
        select(func.count())
        .select_from(Item)
        .outerjoin(stock, stock.c.item_id == Item.id)
        .where(*_IS_ACTIVE, func.coalesce(stock.c.on_hand, 0) <= Item.reorder_point)
    )
    week_ago = func.statement_timestamp() - func.make_interval(0, 0, 0, 7)
    statement: Select[*tuple[Any, ...]] = select(
        select(func.count()).select_from(Item).where(*_IS_ACTIVE).scalar_subquery(),
        select(func.count()).select_from(Location).where(Location.deleted_at.is_(None)).scalar_subquery(),
        select(func.trim_scale(func.coalesce(func.sum(StockValue.value), 0))).scalar_subquery(),
        literal(currency),
        low_items.scalar_subquery(),
        select(func.count()).select_from(e).where(e.occurred_at >= week_ago).scalar_subquery(),
        func.statement_timestamp(),
    )
    return Summary(*(await db.execute(statement)).one())
