"""What reservations may refuse. API users read the docstrings, at `/problems/{slug}`."""

from typing import Annotated
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from erp_service import errors


class EndedReservation(Struct):
    """The reservation and how it ended."""

    reservation_id: Annotated[UUID | UnsetType, Meta(description="the reservation")] = UNSET
    reservation_status: Annotated[str | UnsetType, Meta(description="how it ended: USED, RELEASED or EXPIRED")] = UNSET


class ReservationEnded(errors.Conflict):
    """The reservation holds nothing any more: it was used up, released, or has expired and its stock was given to
    others. Nothing was changed.

    `reservation_status` says which. Make a new reservation, if the stock is still available; or issue the stock without
    one."""

    slug, title = "reservation-ended", "The reservation has ended"
    extension = EndedReservation
