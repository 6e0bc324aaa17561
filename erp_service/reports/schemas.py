"""The answers of the reports. Numbers are exact, as strings; values are in the settings' currency."""

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from erp_service.db.pagination import Page

Period = Literal["day", "week", "month"]

_Currency = Annotated[str, Meta(description="ISO 4217", examples=["EUR"])]


class SnapshotLine(Struct):
    """What is on hand of one item at one location, and its value at moving average."""

    item_id: Annotated[int, Meta(description="the id of the item")]
    sku: Annotated[str, Meta(description="its sku")]
    name: Annotated[str, Meta(description="the item's name")]
    unit: Annotated[str, Meta(description="its unit")]
    location_id: Annotated[int, Meta(description="the id of the location")]
    location: Annotated[str, Meta(description="the location's code")]
    location_name: Annotated[str, Meta(description="its name")]
    on_hand: Annotated[Decimal, Meta(description="the quantity")]
    value: Annotated[Decimal, Meta(description="of that quantity, at moving average")]
    unit_value: Annotated[
        Decimal | None, Meta(description="value / on_hand, rounded to 6 decimals; null while nothing is on hand")
    ]
    currency: _Currency


class MovementsLine(Struct):
    """The movements of one item in one period. `net` = in - out + adjusted + transferred."""

    item_id: Annotated[int, Meta(description="the id of the item")]
    sku: Annotated[str, Meta(description="its sku")]
    name: Annotated[str, Meta(description="its name")]
    unit: Annotated[str, Meta(description="its unit")]
    period: Annotated[date, Meta(description="its first day, in the report's time zone; weeks begin on Monday")]
    received: Annotated[Decimal, Meta(description="the quantity of all receipts")] = field(name="in")
    issued: Annotated[Decimal, Meta(description="the quantity of all issues, above zero")] = field(name="out")
    adjusted: Annotated[Decimal, Meta(description="signed: the sum of all adjustments")]
    transferred: Annotated[Decimal, Meta(description="signed: transfers in, less transfers out; 0 over all locations")]
    net: Annotated[Decimal, Meta(description="signed: the change of the quantity on hand")]
    value: Annotated[Decimal, Meta(description="signed: the change of the value, as it was posted")]
    entries: Annotated[int, Meta(description="the number of ledger entries that are summed")]
    currency: _Currency


class LowStockLine(Struct):
    """An item with too little on hand, over all locations."""

    item_id: Annotated[int, Meta(description="the id of the item")]
    sku: Annotated[str, Meta(description="its sku")]
    name: Annotated[str, Meta(description="its name")]
    unit: Annotated[str, Meta(description="its unit")]
    on_hand: Annotated[Decimal, Meta(description="over all locations")]
    reorder_point: Annotated[Decimal | None, Meta(description="of the item; null if it has none")]
    shortage: Annotated[Decimal, Meta(description="the quantity missing to the reorder point, or to the threshold")]


class Summary(Struct):
    """The stock in a few figures, all of one time."""

    active_items: Annotated[int, Meta(description="with the status ACTIVE")]
    locations: Annotated[int, Meta(description="how many there are")]
    stock_value: Annotated[Decimal, Meta(description="of all stock on hand, at moving average")]
    currency: _Currency
    low_stock_items: Annotated[int, Meta(description="active items at or below their reorder point")]
    movements_last_7_days: Annotated[int, Meta(description="ledger entries whose `occurred_at` lies in them")]
    as_of: Annotated[datetime, Meta(description="the time of these figures")]


class SnapshotPage(Page[SnapshotLine]):
    """What is on hand, by item and location."""

    items: Annotated[list[SnapshotLine], Meta(description="by item and location")]


class MovementsPage(Page[MovementsLine]):
    """Movements, by item and period."""

    items: Annotated[list[MovementsLine], Meta(description="by item and period")]


class LowStockPage(Page[LowStockLine]):
    """Items with too little on hand."""

    items: Annotated[list[LowStockLine], Meta(description="in order of id")]
