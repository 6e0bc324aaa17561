"""What clients send and get about counts."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta, Struct

from erp_service.db.pagination import Page
from erp_service.decimals import Level, Money, UnitCost
from erp_service.inventory.posting.schemas import (
    NOTES_LENGTH,
    REASON_LENGTH,
    LocationCode,
    LocationId,
    OfItem,
    Reference,
    UnitName,
)
from erp_service.texts import Label

CountStatus = Literal["OPEN", "POSTED", "CANCELED"]

MOST_LINES = 5_000
"""In one request. A count may have more."""
MOST_DIFFERENCES = 5_000
"""What one document takes."""


class CountReason(Label):
    longest = REASON_LENGTH


class CountLineBody(OfItem, forbid_unknown_fields=True, kw_only=True, gc=False):
    """What was counted of one item. It replaces what was counted of it before."""

    counted: Annotated[
        Level | None,
        Meta(description="how much is there, in `unit`; null takes the item out of the count", examples=["12"]),
    ]
    unit: UnitName = None
    unit_cost: Annotated[
        UnitCost | None,
        Meta(
            description="the cost of one, in `unit`, with up to 10 decimals, of what is found. Without it and"
            " `total_cost` that is valued at moving average, else at the cost that was last paid"
        ),
    ] = None
    total_cost: Annotated[
        Money | None, Meta(description="what all that was counted cost, in place of `unit_cost`", examples=["445"])
    ] = None


_Lines = Annotated[list[CountLineBody], Meta(max_length=MOST_LINES, description="what was counted, each item once")]


class CountBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """A new count of one location."""

    location_id: LocationId = None
    location: LocationCode = None
    reference_no: Annotated[
        Reference | None, Meta(description="the number of the paper behind it", examples=["COUNT-2026-01"])
    ] = None
    notes: Annotated[Annotated[str, Meta(max_length=NOTES_LENGTH)] | None, Meta(description="free text")] = None
    lines: _Lines = []


class CountLines(Struct, forbid_unknown_fields=True, kw_only=True):
    """Lines to add to a count, to replace in it, or to take out of it. Its other lines stay."""

    lines: Annotated[_Lines, Meta(min_length=1)]


class CountPosting(Struct, forbid_unknown_fields=True, kw_only=True):
    """How the differences of a count are booked."""

    accept_moved: Annotated[
        bool,
        Meta(
            description="also lines whose stock moved after they were counted: the difference to what was there then is"
            " booked to what is there now"
        ),
    ] = False
    uncounted: Annotated[
        Literal["zero"] | None,
        Meta(description="`zero`: what is on hand at the location and was not counted is missing; null: it stays"),
    ] = None
    reason: Annotated[
        CountReason | None, Meta(description="why; kept in the ledger. `stock count`, if it is left out")
    ] = None


class CountOut(Struct):
    """A count of one location."""

    id: Annotated[UUID, Meta(description="the id")]
    location_id: Annotated[int, Meta(description="the id of the location")]
    location: Annotated[str, Meta(description="its code")]
    status: Annotated[CountStatus, Meta(description="OPEN until it is posted or canceled")]
    reference_no: Annotated[str | None, Meta(description="the number of the paper behind it")]
    notes: Annotated[str | None, Meta(description="free text")]
    user_id: Annotated[int | None, Meta(description="who opened it; null for the service itself")]
    user_name: Annotated[str | None, Meta(description="their name")]
    created_at: Annotated[datetime, Meta(description="when it was opened")]
    ended_at: Annotated[datetime | None, Meta(description="when it was posted or canceled; null while it is open")]
    transaction_id: Annotated[
        UUID | None, Meta(description="the document that booked the differences; null if there were none")
    ]
    version: Annotated[int, Meta(description="how often it was changed; the first part of its `ETag`")]


class CountWithTotals(CountOut):
    """A count of one location, and how its lines compare with the books."""

    lines: Annotated[int, Meta(description="the number of its lines")]
    differing: Annotated[int, Meta(description="of these, where something else was counted than the books said")]
    moved: Annotated[
        int | None,
        Meta(description="of these, whose stock moved after they were counted; null when the count has ended"),
    ]
    found_value: Annotated[Decimal, Meta(description="the sum of each `value` of its lines that is above zero")]
    missing_value: Annotated[Decimal, Meta(description="the sum of each that is below zero")]

    @property
    def tag(self) -> str:
        """For the ETag: `moved` changes without a change of the count."""
        return f"{self.version}" if self.moved is None else f"{self.version}-{self.moved}"


class CountLineOut(Struct):
    """What was counted of one item, and what the books said at that moment."""

    item_id: Annotated[int, Meta(description="the id of the item")]
    sku: Annotated[str, Meta(description="its sku")]
    name: Annotated[str, Meta(description="its name")]
    unit: Annotated[str, Meta(description="the unit of the item, which all quantities are in")]
    counted: Annotated[Decimal, Meta(description="what was counted")]
    expected: Annotated[Decimal, Meta(description="what was on hand by the books when it was counted")]
    difference: Annotated[Decimal, Meta(description="`counted` - `expected`: above zero was found, below is missing")]
    value: Annotated[
        Decimal | None,
        Meta(
            description="what the difference is worth: while the count is open, at the cost that the line states, else"
            " at moving average, else at the cost that was last paid; when it was posted, as it was booked. Null if no"
            " cost was ever stated, and when the count was canceled"
        ),
    ]
    moved: Annotated[
        bool | None,
        Meta(description="whether its stock moved after it was counted; null when the count has ended"),
    ]
    unit_cost: Annotated[Decimal | None, Meta(description="the cost of one in the item's unit, as it was stated")]
    total_cost: Annotated[Decimal | None, Meta(description="the cost of all that was counted, as it was stated")]
    document_line: Annotated[
        int | None, Meta(description="the line of the document that booked the difference; null if none did")
    ]
    counted_at: Annotated[
        datetime | None, Meta(description="when; null if posting set the item to zero since nobody had counted it")
    ]
    user_id: Annotated[int | None, Meta(description="who counted; null for the service itself")]
    user_name: Annotated[str | None, Meta(description="their name")]


class Uncounted(Struct):
    """An item that is on hand at the location of a count, and that nobody has counted there."""

    item_id: Annotated[int, Meta(description="the id of the item")]
    sku: Annotated[str, Meta(description="its sku")]
    name: Annotated[str, Meta(description="its name")]
    unit: Annotated[str, Meta(description="the unit of the item, which its quantity is in")]
    barcode: Annotated[str | None, Meta(description="what a scanner reads")]
    on_hand: Annotated[Decimal, Meta(description="what is on hand by the books now")]


class CountPage(Page[CountOut]):
    """Counts."""

    items: Annotated[list[CountOut], Meta(description="counts, newest first")]


class CountLinePage(Page[CountLineOut]):
    """Lines of a count."""

    items: Annotated[list[CountLineOut], Meta(description="lines, by the id of the item")]


class UncountedPage(Page[Uncounted]):
    """What was not counted yet."""

    items: Annotated[list[Uncounted], Meta(description="items, by id")]
