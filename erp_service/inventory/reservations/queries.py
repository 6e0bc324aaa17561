"""Reads of reservations, and how much of a balance they hold."""

from collections.abc import Mapping
from decimal import Decimal
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    Text,
    bindparam,
    literal_column,
    select,
)
from sqlalchemy.orm import aliased

from erp_service import errors
from erp_service.db.base import quantity_column
from erp_service.db.pagination import Listing, SortKey, SortOrder
from erp_service.db.sessions import Session
from erp_service.db.statements import Prepared
from erp_service.inventory.models import Item, Location
from erp_service.inventory.queries.items import item_id_of
from erp_service.inventory.reservations import live
from erp_service.inventory.reservations.models import StockReservation
from erp_service.inventory.reservations.schemas import ReservationOut, ReservationPage, ReservationStatus


def live_reserved() -> ColumnElement[Decimal]:
    """What reservations that have not expired hold of a balance, in a statement that selects from StockBalance."""
    return literal_column(f"({live.live_reserved('stock_balances')})", quantity_column())


_RESERVATION = aliased(StockReservation, name="r")
_SELECT = (
    select(
        _RESERVATION.id,
        _RESERVATION.item_id,
        Item.sku,
        _RESERVATION.location_id,
        Location.code,
        literal_column(live.STATUS, Text),
        _RESERVATION.quantity,
        _RESERVATION.original_quantity,
        Item.unit,
        _RESERVATION.reference,
        _RESERVATION.created_at,
        _RESERVATION.expires_at,
        literal_column(live.ENDED_AT, DateTime(timezone=True)),
        _RESERVATION.user_id,
        literal_column(live.VERSION, BigInteger),
    )
    .join(Item, Item.id == _RESERVATION.item_id)
    .join(Location, Location.id == _RESERVATION.location_id)
)
_ONE = Prepared(_SELECT.where(_RESERVATION.id == bindparam("id")))

# constants of the text: with a parameter, a plan that is kept could not use the partial indexes
_OF_STATUS: dict[ReservationStatus, str] = {
    "ACTIVE": "r.status = 'ACTIVE' and r.expires_at > statement_timestamp()",
    "EXPIRED": f"(r.status = 'EXPIRED' or {live.EXPIRED})",
    "RELEASED": "r.status = 'RELEASED'",
    "USED": "r.status = 'USED'",
}
_RESERVATIONS = Listing(
    _SELECT,
    ReservationOut,
    ReservationPage,
    {"-id": SortOrder([SortKey(_RESERVATION.id, "id", UUID)], descending=True)},
    {
        "item_id": _RESERVATION.item_id == bindparam("item_id"),
        "item_id_of_sku": _RESERVATION.item_id == bindparam("item_id_of_sku"),
        "location_id": _RESERVATION.location_id == bindparam("location_id"),
        "location": Location.code == bindparam("location"),
        "reference": _RESERVATION.reference == bindparam("reference"),
        **{status: literal_column(condition) for status, condition in _OF_STATUS.items()},
    },
)


async def reservation_by_id(db: Session, reservation_id: UUID) -> ReservationOut:
    """Raises errors.NotFound."""
    if (row := (await db.execute(_ONE, {"id": reservation_id})).one_or_none()) is None:
        raise errors.NotFound(f"There is no reservation {reservation_id}.")
    return ReservationOut(*row)


_BALANCE_OF = Prepared(select(_RESERVATION.item_id, _RESERVATION.location_id).where(_RESERVATION.id == bindparam("id")))


async def balance_of(db: Session, reservation_id: UUID) -> tuple[int, int]:
    """The ids of its item and location, which never change. Raises errors.NotFound."""
    if (row := (await db.execute(_BALANCE_OF, {"id": reservation_id})).one_or_none()) is None:
        raise errors.NotFound(f"There is no reservation {reservation_id}.")
    return row.item_id, row.location_id


async def reservation_page(
    db: Session,
    *,
    item_id: int | None = None,
    sku: str | None = None,
    location_id: int | None = None,
    location: str | None = None,
    reference: str | None = None,
    status: ReservationStatus | None = None,
    limit: int,
    cursor: str | None = None,
) -> ReservationPage:
    """One page, newest first; `status` None is any. Raises errors.Invalid for the cursor."""
    parameters: Mapping[str, object] = {
        "item_id": item_id,
        "item_id_of_sku": None if sku is None else await item_id_of(db, sku),
        "location_id": location_id,
        "location": location,
        "reference": reference,
        **dict.fromkeys(_OF_STATUS),
        **({} if status is None else {status: True}),
    }
    return await _RESERVATIONS.page(db, parameters, limit=limit, cursor=cursor)


_DUE = Prepared(
    select(_RESERVATION.item_id, _RESERVATION.location_id)
    .where(literal_column(live.EXPIRED))
    .order_by(_RESERVATION.expires_at)
    .limit(bindparam("batch", type_=BigInteger))
)


async def due_balances(db: Session, batch: int) -> set[tuple[int, int]]:
    """The item and location of up to `batch` reservations that have expired and were not swept, the oldest first."""
    return {(item_id, location_id) for item_id, location_id in await db.execute(_DUE, {"batch": batch})}
