"""What clients send and get about reservations."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta, Struct

from erp_service.db.pagination import Page
from erp_service.decimals import Quantity
from erp_service.inventory.posting.schemas import LocationCode, LocationId, OfItem, Reference, UnitName

ReservationStatus = Literal["ACTIVE", "USED", "RELEASED", "EXPIRED"]

MOST_RESERVATIONS = 200
LONGEST_SECONDS = 366 * 24 * 60 * 60

ExpiresIn = Annotated[
    int,
    Meta(
        ge=1,
        le=LONGEST_SECONDS,
        description="how long it holds from now on, in seconds: 1 to 31622400 (366 days)",
        examples=[900],
    ),
]


class ReservationBody(OfItem, forbid_unknown_fields=True, kw_only=True):
    """What to hold, where, and for how long."""

    location_id: LocationId = None
    location: LocationCode = None
    quantity: Annotated[Quantity, Meta(description="how much is held", examples=["2"])]
    unit: UnitName = None
    expires_in_seconds: ExpiresIn
    reference: Annotated[
        Reference | None,
        Meta(description="whom or what it is for: an order, a basket", examples=["ORDER-1007"]),
    ] = None


class ReservationsBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """Several at once, all or none."""

    reservations: Annotated[
        list[ReservationBody],
        Meta(min_length=1, max_length=MOST_RESERVATIONS, description="in the order in which they are made"),
    ]


class Extension(Struct, forbid_unknown_fields=True, kw_only=True):
    """How long a reservation holds from now on."""

    expires_in_seconds: ExpiresIn


class ReservationOut(Struct):
    """Stock that is held. `version` is the number in its `ETag`."""

    id: Annotated[UUID, Meta(description="the id; an OUT names it as `reservation_id`")]
    item_id: Annotated[int, Meta(description="the id of the item")]
    sku: Annotated[str, Meta(description="its sku")]
    location_id: Annotated[int, Meta(description="the id of the location")]
    location: Annotated[str, Meta(description="its code")]
    status: Annotated[
        ReservationStatus,
        Meta(description="ACTIVE holds stock; USED was used up by OUT; RELEASED and EXPIRED gave back `quantity`"),
    ]
    quantity: Annotated[
        Decimal, Meta(description="what is held, in the item's unit; once it has ended, what it held at the end")
    ]
    original_quantity: Annotated[
        Decimal, Meta(description="what was reserved; what is no longer in `quantity` was used up")
    ]
    unit: Annotated[str, Meta(description="the unit of the item")]
    reference: Annotated[str | None, Meta(description="whom or what it is for")]
    created_at: Annotated[datetime, Meta(description="when it was made")]
    expires_at: Annotated[datetime, Meta(description="from then on it blocks nobody")]
    ended_at: Annotated[
        datetime | None, Meta(description="when it was used up or released, or had expired; null while it is ACTIVE")
    ]
    user_id: Annotated[int | None, Meta(description="who made it; null for the service itself")]
    version: Annotated[int, Meta(description="the number in its `ETag`")]


class Reservations(Struct):
    """What was reserved at once."""

    reservations: Annotated[list[ReservationOut], Meta(description="in the order of the request")]


class ReservationPage(Page[ReservationOut]):
    """Reservations, newest first."""

    items: Annotated[list[ReservationOut], Meta(description="reservations, newest first")]
