"""What the reports answer: numbers exact, as strings; values in the settings' currency."""

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from erp_service.db.pagination import Page

Period = Literal["day", "week", "month"]

_Currency = Annotated[str, Meta(description="ISO 4217", examples=["EUR"])]


class SnapshotLine(Struct):
    """What is on hand of one item at one place, and its value at moving average."""

    item_id: int
    sku: str
    name: Annotated[str, Meta(description="the item's name")]
    unit: str
    location_id: int
    location: Annotated[str, Meta(description="the location's code")]
    location_name: str
    on_hand: Decimal
    value: Decimal
    unit_value: Annotated[
        Decimal | None, Meta(description="value / on_hand, rounded to 6 decimals; null while nothing is on hand")
    ]
    currency: _Currency


class MovementsLine(Struct):
    """What became of one item in one period. `net` = in - out + adjusted + transferred."""

    item_id: int
    sku: str
    name: str
    unit: str
    period: Annotated[date, Meta(description="its first day, in the report's time zone; weeks begin on Monday")]
    received: Annotated[Decimal, Meta(description="what came in from outside")] = field(name="in")
    issued: Annotated[Decimal, Meta(description="what went out, as a number above zero")] = field(name="out")
    adjusted: Annotated[Decimal, Meta(description="signed: what was found, less what was missing")]
    transferred: Annotated[
        Decimal, Meta(description="signed: what came from other locations, less what went there; 0 over all locations")
    ]
    net: Annotated[Decimal, Meta(description="signed: by how much what is on hand changed")]
    value: Annotated[Decimal, Meta(description="signed: by how much its value changed, as it was posted")]
    entries: Annotated[int, Meta(description="the ledger entries that this is the sum of")]
    currency: _Currency


class LowStockLine(Struct):
    """An item of which there is too little, over all locations."""

    item_id: int
    sku: str
    name: str
    unit: str
    on_hand: Annotated[Decimal, Meta(description="over all locations")]
    reorder_point: Decimal | None
    shortage: Annotated[Decimal, Meta(description="what is missing up to the reorder point, or to the threshold")]


class Summary(Struct):
    """The stock in a few figures, all of one moment."""

    active_items: Annotated[int, Meta(description="with the status ACTIVE")]
    locations: int
    stock_value: Annotated[Decimal, Meta(description="of all that is on hand, at moving average")]
    currency: _Currency
    low_stock_items: Annotated[int, Meta(description="active items at or below their reorder point")]
    movements_last_7_days: Annotated[int, Meta(description="ledger entries whose `occurred_at` is in them")]
    as_of: Annotated[datetime, Meta(description="the moment")]


class SnapshotPage(Page[SnapshotLine]):
    """What is on hand, by item and location."""

    items: list[SnapshotLine]


class MovementsPage(Page[MovementsLine]):
    """Movements, by item and period."""

    items: list[MovementsLine]


class LowStockPage(Page[LowStockLine]):
    """Items of which there is too little."""

    items: list[LowStockLine]
