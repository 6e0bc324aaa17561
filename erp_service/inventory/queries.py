"""Reads of items, locations, the ledger and what is on hand: columns straight into the structs of the answers."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Select,
    any_,
    case,
    func,
    literal,
    or_,
    select,
    true,
)

from erp_service import errors
from erp_service.db.pagination import SortKey, SortOrder, chosen, orders, page
from erp_service.db.sessions import Session
from erp_service.decimals import QUANTITY_SCALE
from erp_service.inventory.models import Item, Location, StockBalance, StockEntry
from erp_service.inventory.schemas import (
    EntryType,
    ItemOut,
    ItemPage,
    ItemStatus,
    LedgerEntry,
    LedgerPage,
    LocationOut,
    LocationPage,
    LocationType,
    StockLevel,
    StockPage,
)

# Any, since the stubs of SQLAlchemy count no further than ten columns
ITEM_COLUMNS: tuple[Any, ...] = (
    Item.id,
    Item.sku,
    Item.name,
    Item.unit,
    Item.status,
    Item.description,
    Item.reorder_point,
    Item.version,
    Item.created_at,
    Item.updated_at,
    Item.deleted_at,
)
LOCATION_COLUMNS: tuple[Any, ...] = (
    Location.id,
    Location.code,
    Location.name,
    Location.location_type,
    Location.address,
    Location.parent_id,
    Location.allow_negative_stock,
    Location.version,
    Location.created_at,
    Location.updated_at,
    Location.deleted_at,
)

_ITEM_ID, _SKU = SortKey(Item.id, "id", int), SortKey(Item.sku, "sku", str)
_LOCATION_ID, _CODE = SortKey(Location.id, "id", int), SortKey(Location.code, "code", str)
# sku and code are unique by themselves: a second key would only spoil the use of their index
ITEM_ORDERS = orders({"id": _ITEM_ID, "name": SortKey(Item.name, "name", str)}, _ITEM_ID) | orders({"sku": _SKU}, _SKU)
LOCATION_ORDERS = orders({"id": _LOCATION_ID, "name": SortKey(Location.name, "name", str)}, _LOCATION_ID) | orders(
    {"code": _CODE}, _CODE
)
_NEWEST_FIRST = SortOrder([SortKey(StockEntry.id, "id", int)], descending=True)
_BY_PLACE = SortOrder(
    [SortKey(StockBalance.item_id, "item_id", int), SortKey(StockBalance.location_id, "location_id", int)]
)


async def item(db: Session, item_id: int, *, include_deleted: bool = False) -> ItemOut:
    """Raises errors.NotFound."""
    found = select(*ITEM_COLUMNS).where(Item.id == item_id, or_(Item.deleted_at.is_(None), literal(include_deleted)))
    if (row := (await db.execute(found)).one_or_none()) is None:
        raise errors.NotFound(f"There is no item {item_id}.")
    return ItemOut(*row)


async def items(
    db: Session,
    *,
    q: str | None = None,
    sku: str | None = None,
    status: ItemStatus | None = None,
    include_deleted: bool = False,
    sort: str | None = None,
    limit: int,
    cursor: str | None = None,
) -> ItemPage:
    """One page; `q` is looked for in sku and name, upper and lower case alike. Raises errors.Invalid: sort, cursor."""
    found = select(*ITEM_COLUMNS).where(*_equal((Item.sku, sku), (Item.status, status)))
    if q is not None:
        found = found.where(or_(Item.sku.icontains(q, autoescape=True), Item.name.icontains(q, autoescape=True)))
    if not include_deleted:
        found = found.where(Item.deleted_at.is_(None))
    order = chosen(ITEM_ORDERS, sort, "id")
    return await page(db, found, ItemOut, order, limit=limit, cursor=cursor, into=ItemPage)


async def location(db: Session, location_id: int, *, include_deleted: bool = False) -> LocationOut:
    """Raises errors.NotFound."""
    found = select(*LOCATION_COLUMNS).where(
        Location.id == location_id, or_(Location.deleted_at.is_(None), literal(include_deleted))
    )
    if (row := (await db.execute(found)).one_or_none()) is None:
        raise errors.NotFound(f"There is no location {location_id}.")
    return LocationOut(*row)


async def locations(
    db: Session,
    *,
    q: str | None = None,
    code: str | None = None,
    location_type: LocationType | None = None,
    parent_id: int | None = None,
    include_deleted: bool = False,
    sort: str | None = None,
    limit: int,
    cursor: str | None = None,
) -> LocationPage:
    """One page; `q` is looked for in code and name, upper and lower case alike. Raises errors.Invalid: sort, cursor."""
    found = select(*LOCATION_COLUMNS).where(
        *_equal((Location.code, code), (Location.location_type, location_type), (Location.parent_id, parent_id))
    )
    if q is not None:
        found = found.where(
            or_(Location.code.icontains(q, autoescape=True), Location.name.icontains(q, autoescape=True))
        )
    if not include_deleted:
        found = found.where(Location.deleted_at.is_(None))
    order = chosen(LOCATION_ORDERS, sort, "id")
    return await page(db, found, LocationOut, order, limit=limit, cursor=cursor, into=LocationPage)


def ledger_select() -> Select[*tuple[Any, ...]]:
    """The columns of a LedgerEntry, in the order of its fields."""
    e = StockEntry
    return (
        select(
            e.id,
            e.transaction_id,
            e.line,
            e.item_id,
            Item.sku,
            e.location_id,
            Location.code,
            e.entry_type,
            e.quantity,
            e.value,
            e.unit_cost,
            e.on_hand_after,
            e.value_after,
            e.occurred_at,
            e.recorded_at,
            e.reference_no,
            e.notes,
            e.reason,
            e.extra,
            e.user_id,
        )
        .join(Item, Item.id == e.item_id)
        .join(Location, Location.id == e.location_id)
    )


async def entries_of(db: Session, transaction_id: UUID) -> list[LedgerEntry]:
    """The entries of a document in the order in which they were applied; none if there is no such document."""
    found = ledger_select().where(StockEntry.transaction_id == transaction_id)
    return [LedgerEntry(*row) for row in await db.execute(found.order_by(StockEntry.line, StockEntry.id))]


async def ledger(
    db: Session,
    *,
    item_id: int | None = None,
    sku: str | None = None,
    location_id: int | None = None,
    transaction_type: EntryType | None = None,
    reference_no: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int,
    cursor: str | None = None,
) -> LedgerPage:
    """One page of entries with `since` <= occurred_at < `until`, newest first. Raises errors.Invalid for the cursor."""
    found = ledger_select().where(
        *_equal(
            (StockEntry.item_id, item_id),
            (StockEntry.location_id, location_id),
            (StockEntry.entry_type, transaction_type),
            (StockEntry.reference_no, reference_no),
        )
    )
    if sku is not None:
        found = found.where(StockEntry.item_id == await _id_of(db, sku))
    if since is not None:
        found = found.where(StockEntry.occurred_at >= since)
    if until is not None:
        found = found.where(StockEntry.occurred_at < until)
    return await page(db, found, LedgerEntry, _NEWEST_FIRST, limit=limit, cursor=cursor, into=LedgerPage)


async def stock(
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

    Places that are part of `location_id` are in it with `descendants`. Raises errors.Invalid for the cursor."""
    found = stock_select(currency) if as_of is None else stock_as_of(currency, as_of)
    found = found.where(*_equal((StockBalance.item_id, item_id)))
    if sku is not None:
        found = found.where(StockBalance.item_id == await _id_of(db, sku))
    if location_id is not None:
        within = await below(db, location_id) if descendants else [location_id]
        found = found.where(StockBalance.location_id == any_(literal(within, ARRAY(BigInteger))))
    if not include_zero:
        on_hand, value = found.selected_columns["on_hand"], found.selected_columns["value"]
        found = found.where(or_(on_hand != 0, value != 0))
    return await page(db, found, StockLevel, _BY_PLACE, limit=limit, cursor=cursor, into=StockPage)


def stock_select(currency: str) -> Select[*tuple[Any, ...]]:
    """Present balances of what is not deleted; the ledger is not read, so its length does not matter."""
    b = StockBalance
    return _levels(currency, b.on_hand, b.value).where(Item.deleted_at.is_(None), Location.deleted_at.is_(None))


def stock_as_of(currency: str, as_of: datetime) -> Select[*tuple[Any, ...]]:
    """The balances only say which pairs there are: a page reads no entries but those of its own pairs, by index."""
    e = StockEntry
    sums = (
        select(func.sum(e.quantity).label("on_hand"), func.sum(e.value).label("value"))
        .where(e.item_id == StockBalance.item_id, e.location_id == StockBalance.location_id, e.occurred_at <= as_of)
        .correlate(StockBalance)
        .having(func.count() > 0)
        .lateral("sums")
    )
    return _levels(currency, sums.c.on_hand, sums.c.value).join(sums, true())


def _levels(currency: str, on_hand: Any, value: Any) -> Select[*tuple[Any, ...]]:
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


async def below(db: Session, location_id: int) -> list[int]:
    """The location and all that are part of it, at any depth."""
    tree = select(Location.id).where(Location.id == location_id).cte(recursive=True)
    tree = tree.union(select(Location.id).where(Location.parent_id == tree.c.id))
    return list(await db.scalars(select(tree.c.id)))


async def _id_of(db: Session, sku: str) -> int:
    """The item's id, or one that no item has. Asked first and not joined: only by the id itself can Postgres tell
    that an item has many entries, and take them from an index in order rather than sort them all."""
    return await db.scalar(select(Item.id).where(Item.sku == sku)) or 0


def _equal(*wanted: tuple[Any, object]) -> list[ColumnElement[bool]]:
    return [column == value for column, value in wanted if value is not None]
