"""/api/v1/inventory/reservations: stock that is held for somebody until a time."""

from typing import Annotated, Literal
from uuid import UUID

from litestar.di import NamedDependency
from litestar.params import JSONBody, PathParameter, QueryParameter

from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.db.sessions import ReadSession, WriteSession
from erp_service.errors import INTEGER_LIMIT
from erp_service.inventory.problems import InsufficientStock, ItemNotActive
from erp_service.inventory.reservations import service
from erp_service.inventory.reservations.problems import ReservationEnded
from erp_service.inventory.reservations.queries import reservation_by_id, reservation_page
from erp_service.inventory.reservations.schemas import (
    Extension,
    ReservationBody,
    ReservationOut,
    ReservationPage,
    Reservations,
    ReservationsBody,
)
from erp_service.web.query_params import DEFAULT_LIMIT, Cursor, Limit
from erp_service.web.responses import ApiResponse, created, require_match, tagged
from erp_service.web.routing import IfMatch, delete, get, post

_PATH = "/api/v1/inventory/reservations"
_ONE = f"{_PATH}/{{reservation_id:uuid}}"
_TAGS = ["reservations"]

ReservationId = Annotated[UUID, PathParameter(description="the reservation's id")]
StatusOrAny = Literal["ACTIVE", "USED", "RELEASED", "EXPIRED", "ANY"]


@get(_PATH, role=Role.STAFF, scope=Scope.STOCK_READ, summary="List reservations", tags=_TAGS)
async def list_reservations(
    read: NamedDependency[ReadSession],
    sku: Annotated[str | None, QueryParameter(max_length=200, description="only of the item with this sku")] = None,
    item_id: Annotated[int | None, QueryParameter(ge=1, le=INTEGER_LIMIT, description="only of this item")] = None,
    location: Annotated[
        str | None, QueryParameter(max_length=200, description="only at the location with this code")
    ] = None,
    location_id: Annotated[
        int | None, QueryParameter(ge=1, le=INTEGER_LIMIT, description="only at this location")
    ] = None,
    reference: Annotated[
        str | None, QueryParameter(max_length=1000, description="only those with exactly this reference")
    ] = None,
    status: Annotated[
        StatusOrAny,
        QueryParameter(
            description="only those with this status; `ANY` for all. One that has expired is EXPIRED at once"
        ),
    ] = "ACTIVE",
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> ApiResponse[ReservationPage]:
    """Newest first; those that hold stock at this moment, unless `status` says otherwise."""
    return ApiResponse(
        await reservation_page(
            read,
            item_id=item_id,
            sku=sku,
            location_id=location_id,
            location=location,
            reference=reference,
            status=None if status == "ANY" else status,
            limit=limit,
            cursor=cursor,
        )
    )


@post(
    _PATH,
    role=Role.STAFF,
    scope=Scope.STOCK_WRITE,
    summary="Reserve",
    tags=_TAGS,
    status_code=201,
    problems=[InsufficientStock, ItemNotActive],
    example={
        "sku": "BEAN-ESP-1K",
        "location": "MAIN-A-01",
        "quantity": "2",
        "expires_in_seconds": 900,
        "reference": "ORDER-1007",
    },
)
async def create_reservation(
    write: NamedDependency[WriteSession], who: NamedDependency[Principal], data: JSONBody[ReservationBody]
) -> ApiResponse[ReservationOut]:
    """Holds stock of an item at a location. What is held is on hand and not available: nobody takes it but an OUT that
    names the reservation as `reservation_id`, until it expires.

    409 `/problems/insufficient-stock` with `available` if that is less; also where negative stock is allowed, since one
    reserves what is there."""
    reservation = await service.reserve_one(write, who, data)
    return created(reservation, f"{_PATH}/{reservation.id}", reservation.version)


@post(
    f"{_PATH}/bulk",
    role=Role.STAFF,
    scope=Scope.STOCK_WRITE,
    lines=True,
    summary="Reserve several at once",
    tags=_TAGS,
    status_code=201,
    problems=[InsufficientStock, ItemNotActive],
    operation_id="create_reservations",
    example={
        "reservations": [
            {"sku": "BEAN-ESP-1K", "location": "MAIN-A-01", "quantity": "1", "expires_in_seconds": 900},
            {"sku": "BEAN-FIL-1K", "location": "MAIN-A-01", "quantity": "1", "expires_in_seconds": 900},
        ]
    },
)
async def create_reservations(
    write: NamedDependency[WriteSession], who: NamedDependency[Principal], data: JSONBody[ReservationsBody]
) -> ApiResponse[Reservations]:
    """Up to 200 reservations, as for the lines of an order: all or none.

    Each finds available what those before it left, also if the same item stands here twice. `errors` names every bad
    line, or the first that would hold more than is available."""
    reservations = await service.reserve_all(write, who, data.reservations)
    return ApiResponse(Reservations(reservations), status_code=201)


@get(_ONE, role=Role.STAFF, scope=Scope.STOCK_READ, summary="A reservation", tags=_TAGS)
async def get_reservation(
    read: NamedDependency[ReadSession], reservation_id: ReservationId
) -> ApiResponse[ReservationOut]:
    """With its `ETag`; also one that has ended."""
    reservation = await reservation_by_id(read, reservation_id)
    return tagged(reservation, reservation.version)


@delete(
    _ONE,
    role=Role.STAFF,
    scope=Scope.STOCK_WRITE,
    summary="Release a reservation",
    tags=_TAGS,
    problems=[ReservationEnded],
)
async def release_reservation(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    reservation_id: ReservationId,
    if_match: IfMatch = None,
) -> None:
    """What it holds is available again; the reservation stays to be read, as RELEASED.

    Releasing it again, or one that has expired, is 204 too and changes nothing. One that was used up is 409: its stock
    has gone out, and is not available."""
    locked = await service.lock_for_update(write, reservation_id)
    # a retry of a release may come with the tag from before it (RFC 9110, 13.1.1)
    if not service.holds_nothing(locked.reservation):
        require_match(if_match, locked.reservation.version)
    await service.release(write, who, locked)


@post(
    f"{_ONE}/extend",
    role=Role.STAFF,
    scope=Scope.STOCK_WRITE,
    summary="Extend a reservation",
    tags=_TAGS,
    status_code=200,
    problems=[ReservationEnded],
    example={"expires_in_seconds": 1800},
)
async def extend_reservation(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    reservation_id: ReservationId,
    data: JSONBody[Extension],
) -> ApiResponse[ReservationOut]:
    """It expires `expires_in_seconds` from now, earlier or later than before.

    One that has expired holds its stock again if nobody needed that since; else, and if it was used up or released,
    409."""
    locked = await service.lock_for_update(write, reservation_id)
    reservation = await service.extend(write, who, locked, data.expires_in_seconds)
    return tagged(reservation, reservation.version)


ROUTES = [
    list_reservations,
    create_reservation,
    create_reservations,
    get_reservation,
    release_reservation,
    extend_reservation,
]
