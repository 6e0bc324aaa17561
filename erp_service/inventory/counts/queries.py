"""Reads of counts and of their lines."""

from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    and_,
    any_,
    bindparam,
    case,
    func,
    select,
    true,
)

from erp_service import errors
from erp_service.db.pagination import Listing, SortKey, SortOrder
from erp_service.db.sessions import Session
from erp_service.db.statements import Prepared
from erp_service.errors import Fault
from erp_service.inventory.counts.models import StockCount, StockCountLine
from erp_service.inventory.counts.schemas import (
    CountLineOut,
    CountLinePage,
    CountOut,
    CountPage,
    CountStatus,
    CountWithTotals,
)
from erp_service.inventory.models import Item, Location, StockEntry
from erp_service.inventory.queries.items import item_id_of
from erp_service.inventory.queries.locations import subtree

_C, _N = StockCount, StockCountLine

# The first columns of both structs of a count, in their order. Any: the stubs of SQLAlchemy type ten columns at most.
_COUNT: tuple[Any, ...] = (
    _C.id,
    _C.location_id,
    Location.code,
    _C.status,
    _C.reference_no,
    _C.notes,
    _C.user_id,
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
_TOTALS = (
    select(
        func.count(_N.item_id).label("lines"),
        func.count(_N.item_id).filter(_DIFFERS).label("differing"),
        case((_C.status == "OPEN", func.count(_N.item_id).filter(_C.status == "OPEN", _moved()))).label("moved"),
    )
    .where(_N.count_id == _C.id)
    .correlate(_C)
    .lateral("totals")
)
_WITH_TOTALS = Prepared(
    select(*_COUNT, _TOTALS.c.lines, _TOTALS.c.differing, _TOTALS.c.moved)
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
        case((_C.status == "OPEN", _moved())),
        _N.unit_cost,
        _N.total_cost,
        _N.document_line,
        _N.counted_at,
        _N.user_id,
    )
    .join(_C, _C.id == _N.count_id)
    .join(Item, Item.id == _N.item_id)
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
    if await db.scalar(_EXISTS, {"id": count_id}) is None:
        raise no_such_count(count_id)
    parameters = {
        "count_id": count_id,
        "item_id_of_sku": None if sku is None else await item_id_of(db, sku),
        "differing": differing,
        "moved": moved,
    }
    return await _LINES.page(db, parameters, limit=limit, cursor=cursor)


def no_such_count(count_id: UUID) -> errors.NotFound:
    return errors.NotFound(f"There is no count {count_id}.")
