"""The reports, each in one statement, so that all it says is of one moment; columns straight into the structs."""

from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Date, Select, and_, cast, func, literal, select, true

from erp_service.db.pagination import SortKey, SortOrder, page
from erp_service.db.sessions import Session
from erp_service.inventory.models import Item, Location, StockBalance, StockEntry
from erp_service.inventory.queries.locations import subtree
from erp_service.inventory.queries.stock import BY_ITEM_AND_LOCATION, current_stock, stock_as_of, without_zero
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

_BY_ITEM = SortOrder([SortKey(Item.id, "item_id", int)])


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

    Raises errors.Invalid for the cursor."""
    found = current_stock(currency) if as_of is None else stock_as_of(currency, as_of)
    cells = list(found.selected_columns)
    found = found.with_only_columns(*cells[:3], Item.unit, *cells[3:5], Location.name, *cells[5:])
    if item_id is not None:
        found = found.where(StockBalance.item_id == item_id)
    if sku is not None:
        found = found.where(StockBalance.item_id == select(Item.id).where(Item.sku == sku).scalar_subquery())
    if location_id is not None:
        at = StockBalance.location_id
        found = found.where(at.in_(subtree(location_id)) if descendants else at == location_id)
    if not include_zero:
        found = without_zero(found)
    return await page(db, found, SnapshotLine, BY_ITEM_AND_LOCATION, limit=limit, cursor=cursor, into=SnapshotPage)


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
    """One page by item and period, of what is deleted by now too. Raises errors.Invalid for the cursor."""
    moved = _moved(period, span, location_id)
    found = (
        select(Item.id, Item.sku, Item.name, Item.unit, *moved.c, literal(currency))
        .select_from(Item)
        .join(moved, true())
    )
    if item_id is not None:
        found = found.where(Item.id == item_id)
    if sku is not None:
        found = found.where(Item.sku == sku)
    order = SortOrder([SortKey(Item.id, "item_id", int), SortKey(moved.c.period, "period", date)], leading=True)
    return await page(db, found, MovementsLine, order, limit=limit, cursor=cursor, into=MovementsPage)


def _moved(period: Period, span: Span, location_id: int | None) -> Any:
    """The sums of one item. The balances say at which places it can have moved, so that its entries of the span are
    found by the index over item, place and time: a page reads no others, however long the ledger is."""
    e, b = StockEntry, StockBalance
    begins = cast(func.timezone(span.timezone, func.date_trunc(period, e.occurred_at, span.timezone)), Date)

    def total(column: Any, *kinds: str) -> ColumnElement[Any]:
        summed = func.sum(column).filter(e.entry_type.in_(kinds)) if kinds else func.sum(column)
        return func.trim_scale(func.coalesce(summed, 0))

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
        # by its name: the same expression would be another, its parameters being numbered anew
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
    """One page of active items at or below their reorder point, or else below `threshold`.

    Raises errors.Invalid for the cursor."""
    b = StockBalance
    there = select(func.coalesce(func.sum(b.on_hand), 0).label("on_hand")).where(b.item_id == Item.id).correlate(Item)
    held = there.lateral("held")
    level: Any = Item.reorder_point if threshold is None else literal(threshold)
    found = (
        select(
            Item.id,
            Item.sku,
            Item.name,
            Item.unit,
            func.trim_scale(held.c.on_hand),
            Item.reorder_point,
            func.trim_scale(level - held.c.on_hand),
        )
        .select_from(Item)
        .join(held, true())
        .where(*_ACTIVE, held.c.on_hand <= level if threshold is None else held.c.on_hand < level)
    )
    if item_id is not None:
        found = found.where(Item.id == item_id)
    if sku is not None:
        found = found.where(Item.sku == sku)
    return await page(db, found, LowStockLine, _BY_ITEM, limit=limit, cursor=cursor, into=LowStockPage)


_ACTIVE = (Item.status == "ACTIVE", Item.deleted_at.is_(None))


async def summary(db: Session, *, currency: str) -> Summary:
    b, e = StockBalance, StockEntry
    held = select(b.item_id, func.sum(b.on_hand).label("on_hand")).group_by(b.item_id).subquery()
    low = (
        select(func.count())
        .select_from(Item)
        .outerjoin(held, held.c.item_id == Item.id)
        .where(*_ACTIVE, func.coalesce(held.c.on_hand, 0) <= Item.reorder_point)
    )
    lately = func.statement_timestamp() - func.make_interval(0, 0, 0, 7)
    figures: Select[*tuple[Any, ...]] = select(
        select(func.count()).select_from(Item).where(*_ACTIVE).scalar_subquery(),
        select(func.count()).select_from(Location).where(Location.deleted_at.is_(None)).scalar_subquery(),
        select(func.trim_scale(func.coalesce(func.sum(b.value), 0))).scalar_subquery(),
        literal(currency),
        low.scalar_subquery(),
        select(func.count()).select_from(e).where(e.occurred_at >= lately).scalar_subquery(),
        func.statement_timestamp(),
    )
    return Summary(*(await db.execute(figures)).one())
