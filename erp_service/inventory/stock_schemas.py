"""What clients send and get when they look up the stock of many items."""

from decimal import Decimal
from typing import Annotated

from msgspec import Meta, Struct

from erp_service.inventory.schemas import (
    IDENTIFIER_LENGTH,
    Available,
    ReferredId,
    Reserved,
    ShareOfValue,
    UnitValue,
)

MOST_NAMES = 1_000
"""In one request, of all four kinds together."""

_Name = Annotated[str, Meta(min_length=1, max_length=IDENTIFIER_LENGTH)]
_Names = Annotated[list[_Name], Meta(max_length=MOST_NAMES)]


class NamesOfItems(Struct, forbid_unknown_fields=True, kw_only=True):
    """Names of items, of four kinds."""

    ids: Annotated[list[ReferredId], Meta(max_length=MOST_NAMES, description="ids")] = []
    skus: Annotated[_Names, Meta(description="skus", examples=[["BEAN-ESP-1K"]])] = []
    external_ids: Annotated[_Names, Meta(description="external ids")] = []
    barcodes: Annotated[_Names, Meta(description="barcodes")] = []

    def count(self) -> int:
        return len(self.ids) + len(self.skus) + len(self.external_ids) + len(self.barcodes)


class StockLookup(NamesOfItems, forbid_unknown_fields=True, kw_only=True):
    """Items by their names, up to 1,000 in all, and the location whose stock of them is wanted."""

    location_id: Annotated[
        ReferredId | None, Meta(description="the stock at this location; of all locations without one")
    ] = None
    location: Annotated[_Name | None, Meta(description="the same by its code", examples=["MAIN"])] = None


class StockOfItem(Struct):
    """What is on hand of one item, at the location of the request or over all."""

    item_id: Annotated[int, Meta(description="the id of the item")]
    sku: Annotated[str, Meta(description="its sku")]
    name: Annotated[str, Meta(description="its name")]
    unit: Annotated[str, Meta(description="the unit of its quantities")]
    external_id: Annotated[str | None, Meta(description="its id in another system")]
    barcode: Annotated[str | None, Meta(description="what a scanner reads")]
    on_hand: Annotated[Decimal, Meta(description="zero also where it never was")]
    reserved: Reserved
    available: Available
    value: ShareOfValue
    unit_value: UnitValue
    currency: Annotated[str, Meta(description="ISO 4217", examples=["EUR"])]


class StockFound(Struct):
    """The items that are there, and the names that no item has."""

    items: Annotated[list[StockOfItem], Meta(description="each item once, by id")]
    missing: Annotated[NamesOfItems, Meta(description="the names that no item has, each once")]
