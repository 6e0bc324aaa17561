"""The answers of the reports. Numbers are exact, as strings; values are in the settings' currency."""

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from erp_service.db.pagination import Page
from erp_service.inventory.schemas import Available, Reserved, ShareOfValue, UnitValue

Period = Literal["day", "week", "month"]

_ItemId = Annotated[int, Meta(description="the id of the item")]
_Sku = Annotated[str, Meta(description="its sku")]
_Name = Annotated[str, Meta(description="its name")]
_Unit = Annotated[str, Meta(description="the unit of its quantities")]
_Currency = Annotated[str, Meta(description="ISO 4217", examples=["EUR"])]


class SnapshotLine(Struct):
    """What is on hand of one item at one location, and its value at moving average."""

    item_id: _ItemId
    sku: _Sku
    name: Annotated[str, Meta(description="the item's name")]
    unit: _Unit
    location_id: Annotated[int, Meta(description="the id of the location")]
    location: Annotated[str, Meta(description="the location's code")]
    location_name: Annotated[str, Meta(description="its name")]
    on_hand: Annotated[Decimal, Meta(description="the quantity")]
    reserved: Reserved
    available: Available
    value: ShareOfValue
    unit_value: UnitValue
    currency: _Currency


class MovementsLine(Struct):
    """The movements of one item in one period: quantities, and money.

    `opening_quantity` + `received` - `issued` + `adjusted` + `assembled` + `transferred` = `closing_quantity`, and
    `opening_value` + `received_value` - `issued_value` + `adjusted_value` + `assembled_value` + `revalued_value` =
    `closing_value`, exactly. A reversal counts against what it reverses: a customer return makes `issued` less, a
    return to a supplier `received`."""

    item_id: _ItemId
    sku: _Sku
    name: _Name
    unit: _Unit
    period: Annotated[date, Meta(description="its first day, in the report's time zone; weeks begin on Monday")]
    opening_quantity: Annotated[Decimal, Meta(description="on hand when the period begins, or at `from`")]
    received: Annotated[Decimal, Meta(description="receipts, without what was given back to suppliers")]
    issued: Annotated[Decimal, Meta(description="issues, above zero, without what customers brought back")]
    adjusted: Annotated[Decimal, Meta(description="signed: adjustments and counts")]
    assembled: Annotated[
        Decimal, Meta(description="signed: kits that were made and their parts, neither received nor issued")
    ]
    transferred: Annotated[Decimal, Meta(description="signed: transfers in, less transfers out; 0 over all locations")]
    closing_quantity: Annotated[Decimal, Meta(description="on hand when the period ends, or at `to`")]
    opening_value: Annotated[Decimal, Meta(description="what `opening_quantity` was worth")]
    received_value: Annotated[Decimal, Meta(description="what `received` brought")]
    issued_value: Annotated[Decimal, Meta(description="what `issued` took: the cost of sales")]
    adjusted_value: Annotated[Decimal, Meta(description="signed: what `adjusted` changed")]
    assembled_value: Annotated[Decimal, Meta(description="signed: what `assembled` changed")]
    revalued_value: Annotated[
        Decimal,
        Meta(
            description="signed: revaluations and settlements. At a location also what its share of the item's value"
            " gained or lost by transfers, and by movements at other locations"
        ),
    ]
    closing_value: Annotated[Decimal, Meta(description="what `closing_quantity` was worth")]
    gross_in: Annotated[Decimal, Meta(description="the quantity of all IN entries, whatever they were for")] = field(
        name="in"
    )
    gross_out: Annotated[
        Decimal, Meta(description="the quantity of all OUT entries, above zero, whatever they were for")
    ] = field(name="out")
    net: Annotated[Decimal, Meta(description="closing_quantity - opening_quantity")]
    value: Annotated[Decimal, Meta(description="closing_value - opening_value")]
    entries: Annotated[int, Meta(description="the number of ledger entries that are summed")]
    currency: _Currency


class LowStockLine(Struct):
    """An item with too little available, over all locations or at those that are named."""

    item_id: _ItemId
    sku: _Sku
    name: _Name
    unit: _Unit
    on_hand: Annotated[Decimal, Meta(description="at these locations")]
    reserved: Annotated[Decimal, Meta(description="what reservations hold of it that have not expired")]
    available: Annotated[Decimal, Meta(description="on_hand - reserved")]
    reorder_point: Annotated[Decimal | None, Meta(description="of the item; null if it has none")]
    shortage: Annotated[Decimal, Meta(description="the quantity missing to the reorder point, or to the threshold")]


class TurnoverLine(Struct):
    """How fast one item sells, over the days from `from` to `to`.

    Only issues count, without what customers brought back; transfers and kits do not."""

    item_id: _ItemId
    sku: _Sku
    name: _Name
    unit: _Unit
    days: Annotated[Decimal, Meta(description="the length of the span, to 6 decimals")]
    on_hand: Annotated[Decimal, Meta(description="at the end of the span")]
    average_on_hand: Annotated[
        Decimal, Meta(description="each quantity weighed by how long it was on hand, rounded to 6 decimals")
    ]
    issued: Annotated[Decimal, Meta(description="the quantity that was issued in the span")]
    issued_value: Annotated[Decimal, Meta(description="what that took of the value: the cost of sales")]
    stock_turns: Annotated[
        Decimal | None,
        Meta(
            description="issued / average_on_hand: how often the stock was sold in the span, not a year; null if"
            " nothing was on hand on average"
        ),
    ]
    days_of_cover: Annotated[
        Decimal | None,
        Meta(
            description="on_hand / (issued / days): how long what is on hand lasts at this pace; 0 if nothing is on"
            " hand, null if nothing was issued"
        ),
    ]
    last_out_at: Annotated[datetime | None, Meta(description="the last issue before the end of the span; null without")]
    days_since_last_out: Annotated[
        int | None, Meta(description="whole days from then to the end of the span; null if it was never issued")
    ]
    currency: _Currency


class MovementsOfDay(Struct):
    """The movements of all items on one day, by `occurred_at`."""

    day: Annotated[date, Meta(description="in the company's time zone")]
    entries: Annotated[int, Meta(description="ledger entries")]
    value_in: Annotated[Decimal, Meta(description="what entries added to the value of the stock, whatever their kind")]
    value_out: Annotated[Decimal, Meta(description="what entries took from it, above zero")]


class Summary(Struct):
    """The stock in a few figures, all of one time; those of some locations if they are named."""

    active_items: Annotated[int, Meta(description="with the status ACTIVE; at locations, those that ever were there")]
    locations: Annotated[int, Meta(description="how many there are")]
    stock_value: Annotated[Decimal, Meta(description="of all stock on hand, at moving average")]
    currency: _Currency
    low_stock_items: Annotated[int, Meta(description="active items at or below their reorder point")]
    movements_last_7_days: Annotated[int, Meta(description="ledger entries whose `occurred_at` lies in them")]
    as_of: Annotated[datetime, Meta(description="the time of these figures")]
    last_days: Annotated[
        list[MovementsOfDay], Meta(description="today and the six days before it, oldest first, also those of no entry")
    ]


class SnapshotPage(Page[SnapshotLine]):
    """What is on hand, by item and location."""

    items: Annotated[list[SnapshotLine], Meta(description="by item and location")]


class MovementsPage(Page[MovementsLine]):
    """Movements, by item and period."""

    items: Annotated[list[MovementsLine], Meta(description="by item and period")]


class LowStockPage(Page[LowStockLine]):
    """Items with too little available."""

    items: Annotated[list[LowStockLine], Meta(description="in order of id")]


class TurnoverPage(Page[TurnoverLine]):
    """How fast items sell."""

    items: Annotated[list[TurnoverLine], Meta(description="in order of id")]
