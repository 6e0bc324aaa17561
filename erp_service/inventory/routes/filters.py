"""Query parameters of what is read of stock: lists and reports have the same."""

from typing import Annotated

from litestar.params import QueryParameter

from erp_service.errors import INTEGER_LIMIT

Sku = Annotated[str | None, QueryParameter(max_length=200, description="only the item with this sku")]
ItemId = Annotated[int | None, QueryParameter(ge=1, le=INTEGER_LIMIT, description="only this item")]
LocationId = Annotated[int | None, QueryParameter(ge=1, le=INTEGER_LIMIT, description="only at this location")]
LocationCode = Annotated[
    str | None,
    QueryParameter(
        name="location",
        min_length=1,
        max_length=200,
        description="the same by the location's code, in place of `location_id`; 422 if no location has it",
    ),
]
Descendants = Annotated[bool, QueryParameter(description="also at the locations below the one that is named")]
IncludeZero = Annotated[bool, QueryParameter(description="`false` leaves out stock of zero")]

# a date is accepted beside what the format says, and tools know no format for both
_WHEN = "a time (RFC 3339, with its zone), or a date, which begins in the company's time zone"
AsOf = Annotated[
    str | None,
    QueryParameter(
        max_length=100,
        description="what it was just before this time (RFC 3339, with its zone); or a date: at the end of this day in"
        " the company's time zone",
    ),
]
From = Annotated[
    str | None,
    QueryParameter(name="from", max_length=100, description=f"`occurred_at` at or after this: {_WHEN}"),
]
To = Annotated[
    str | None,
    QueryParameter(
        name="to",
        max_length=100,
        description="`occurred_at` before this, so that adjacent periods share no entry: a time or a date likewise",
    ),
]
RecordedFrom = Annotated[
    str | None,
    QueryParameter(name="recorded_from", max_length=100, description=f"`recorded_at` at or after this: {_WHEN}"),
]
RecordedTo = Annotated[
    str | None, QueryParameter(name="recorded_to", max_length=100, description="`recorded_at` before this, likewise")
]
