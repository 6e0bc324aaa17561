"""Reads of counts and of their lines."""

from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    ScalarSelect,
    Text,
    and_,
    any_,
    bindparam,
    case,
    column,
    func,
    literal_column,
    select,
    table,
    true,
)
from sqlalchemy.orm import InstrumentedAttribute

from erp_service import errors
from erp_service.db.pagination import Listing, SortKey, SortOrder
from erp_service.db.sessions import Session
from erp_service.db.statements import Prepared
from erp_service.decimals import MONEY_SCALE
from erp_service.errors import Fault
from erp_service.inventory.counts.models import StockCount, StockCountLine
from erp_service.inventory.counts.schemas import (
    CountLineOut,
    CountLinePage,
    CountOut,
    CountPage,
    CountStatus,
    CountWithTotals,
    Uncounted,
    UncountedPage,
)
from erp_service.inventory.models import Item, Location, StockBalance, StockEntry, StockValue
from erp_service.inventory.queries.items import item_id_of
from erp_service.inventory.queries.locations import subtree

_C, _N, _V, _B = StockCount, StockCountLine, StockValue, StockBalance
_USERS = table("users", column("id", BigInteger), column("full_name", Text))


def _name_of(user_id: InstrumentedAttribute[int | None]) -> ScalarSelect[Any]:
    return select(_USERS.c.full_name).where(_USERS.c.id == user_id).scalar_subquery()


# The first columns of both structs of a count, in their order. Any: the stubs of SQLAlchemy type ten columns at most.
_COUNT: tuple[Any, ...] = (
    _C.id,
    _C.location_id,
    Location.code,
    _C.status,
    _C.reference_no,
    _C.notes,
    _C.user_id,
    _name_of(_C.user_id),
    _C.created_at,
    _C.ended_at,
    _C.transaction_id,
    _C.version,
)


def _moved() -> ColumnElement[bool]:
    """Whether the last entry of the item at the location is another than when it was counted: one look into the index
    for each line, however many entries there are."""
    last = (
        select(StockEntry.id)
        .where(StockEntry.item_id == _N.item_id, StockEntry.location_id == _C.location_id)
        .order_by(StockEntry.id.desc())
        .limit(1)
        .correlate(_N, _C)
        .scalar_subquery()
    )
    return last.is_distinct_from(_N.last_entry_id)


_DIFFERS = _N.counted != _N.expected


def _value() -> ColumnElement[Any]:
    """What the difference is worth, by the rules of posting/valuation.py, or was booked with; null if that is not
    known. To be joined with the item's value."""
    difference = _N.counted - _N.expected
    found = difference > 0
    stated = case(
        (and_(found, _N.total_cost.is_not(None)), _N.total_cost * difference / func.nullif(_N.counted, 0)),
        (and_(found, _N.unit_cost.is_not(None)), _N.unit_cost * difference),
        (_V.on_hand > 0, difference * func.round(_V.value, 20) / func.nullif(_V.on_hand, 0)),
        else_=difference * _V.last_cost,
    )
    # with that of the settlement which may follow
    booked = (
        select(func.sum(StockEntry.value))
        .where(StockEntry.transaction_id == _C.transaction_id, StockEntry.line == _N.document_line)
        .correlate(_N, _C)
        .scalar_subquery()
    )
    nothing: ColumnElement[Decimal] = literal_column("0::numeric")
    worth = case((~_DIFFERS, nothing), (_C.status == "OPEN", stated), (_C.status == "POSTED", booked))
    return func.trim_scale(func.round(worth, MONEY_SCALE))


_WORTH = _value()
_TOTALS = (
    select(
        func.count(_N.item_id).label("lines"),
        func.count(_N.item_id).filter(_DIFFERS).label("differing"),
        case((_C.status == "OPEN", func.count(_N.item_id).filter(_C.status == "OPEN", _moved()))).label("moved"),
        func.coalesce(func.sum(_WORTH).filter(_WORTH > 0), 0).label("found_value"),
        func.coalesce(func.sum(_WORTH).filter(_WORTH < 0), 0).label("missing_value"),
    )
    .select_from(_N)
    .outerjoin(_V, _V.item_id == _N.item_id)
    .where(_N.count_id == _C.id)
    .correlate(_C)
    .lateral("totals")
)
_WITH_TOTALS = Prepared(
    select(
        *_COUNT, _TOTALS.c.lines, _TOTALS.c.differing, _TOTALS.c.moved, _TOTALS.c.found_value, _TOTALS.c.missing_value
    )
    .join(Location, Location.id == _C.location_id)
    .join(_TOTALS, true())
    .where(_C.id == bindparam("id"))
)
_COUNTS = Listing(
    select(*_COUNT).join(Location, Location.id == _C.location_id),
    CountOut,
    CountPage,
    {"-id": SortOrder([SortKey(_C.id, "id", UUID)], descending=True)},
    {
        "status": _C.status == bindparam("status"),
        "location_ids": _C.location_id == any_(bindparam("location_ids", type_=ARRAY(BigInteger))),
        "transaction_id": _C.transaction_id == bindparam("transaction_id"),
    },
)
_LINES = Listing(
    select(
        _N.item_id,
        Item.sku,
        Item.name,
        Item.unit,
        _N.counted,
        _N.expected,
        func.trim_scale(_N.counted - _N.expected),
        _WORTH,
        case((_C.status == "OPEN", _moved())),
        _N.unit_cost,
        _N.total_cost,
        _N.document_line,
        _N.counted_at,
        _N.user_id,
        _name_of(_N.user_id),
    )
    .join(_C, _C.id == _N.count_id)
    .join(Item, Item.id == _N.item_id)
    .outerjoin(_V, _V.item_id == _N.item_id)
    .where(_N.count_id == bindparam("count_id")),
    CountLineOut,
    CountLinePage,
    {"item_id": SortOrder([SortKey(_N.item_id, "item_id", int)])},
    {
        "item_id_of_sku": _N.item_id == bindparam("item_id_of_sku"),
        "differing": _DIFFERS,
        "moved": and_(_C.status == "OPEN", _moved()),
    },
)
_UNCOUNTED = Listing(
    select(_B.item_id, Item.sku, Item.name, Item.unit, Item.barcode, _B.on_hand)
    .join(_C, and_(_C.id == bindparam("count_id"), _C.location_id == _B.location_id, _C.status == "OPEN"))
    .join(Item, Item.id == _B.item_id)
    .where(
        _B.on_hand != 0,
        ~select(_N.item_id).where(_N.count_id == _C.id, _N.item_id == _B.item_id).correlate(_B, _C).exists(),
    ),
    Uncounted,
    UncountedPage,
    {"item_id": SortOrder([SortKey(_B.item_id, "item_id", int)])},
    {},
)
_EXISTS = Prepared(select(_C.id).where(_C.id == bindparam("id")))


async def count_by_id(db: Session, count_id: UUID) -> CountWithTotals:
    """Raises errors.NotFound."""
    row = (await db.execute(_WITH_TOTALS, {"id": count_id})).one_or_none()
    if row is None:
        raise no_such_count(count_id)
    return CountWithTotals(*row)


async def count_page(
    db: Session,
    *,
    status: CountStatus | None = None,
    location_id: int | None = None,
    location: str | None = None,
    descendants: bool = False,
    transaction_id: UUID | None = None,
    limit: int,
    cursor: str | None = None,
) -> CountPage:
    """One page, newest first. `descendants`: also those of the locations below.

    Raises errors.Invalid for the cursor, and for a location that is named twice."""
    if location_id is not None and location is not None:
        raise errors.Invalid(None, Fault("give location_id or location, not both", parameter="location"))
    if location is not None:
        location_id = await db.scalar(_LOCATION_ID, {"code": location}) or 0  # no location has this id
    location_ids = None if location_id is None else [location_id]
    if location_id is not None and descendants:
        location_ids = await db.scalars(subtree(location_id))
    parameters = {"status": status, "location_ids": location_ids, "transaction_id": transaction_id}
    return await _COUNTS.page(db, parameters, limit=limit, cursor=cursor)


_LOCATION_ID = Prepared(select(Location.id).where(Location.code == bindparam("code")))


async def count_line_page(
    db: Session,
    count_id: UUID,
    *,
    sku: str | None = None,
    differing: bool = False,
    moved: bool = False,
    limit: int,
    cursor: str | None = None,
) -> CountLinePage:
    """One page of a count's lines, by the id of the item. Raises errors.NotFound, errors.Invalid for the cursor."""
    await _must_exist(db, count_id)
    parameters = {
        "count_id": count_id,
        "item_id_of_sku": None if sku is None else await item_id_of(db, sku),
        "differing": differing,
        "moved": moved,
    }
    return await _LINES.page(db, parameters, limit=limit, cursor=cursor)


async def uncounted_page(db: Session, count_id: UUID, *, limit: int, cursor: str | None = None) -> UncountedPage:
    """One page of what is on hand at the location and has no line, by the id of the item; nothing if the count has
    ended. Raises errors.NotFound, errors.Invalid for the cursor."""
    await _must_exist(db, count_id)
    return await _UNCOUNTED.page(db, {"count_id": count_id}, limit=limit, cursor=cursor)


async def _must_exist(db: Session, count_id: UUID) -> None:
    """Raises errors.NotFound."""
    if await db.scalar(_EXISTS, {"id": count_id}) is None:
        raise no_such_count(count_id)


def no_such_count(count_id: UUID) -> errors.NotFound:
    return errors.NotFound(f"There is no count {count_id}.")
