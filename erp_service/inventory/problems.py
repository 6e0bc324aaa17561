"""What inventory may refuse. API users read the docstrings, at `/problems/{slug}`."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from erp_service import errors


class StockAtLocation(Struct):
    """One location with stock of the item."""

    location_id: Annotated[int, Meta(description="the id of the location")]
    location: Annotated[str, Meta(description="its code")]
    on_hand: Annotated[Decimal, Meta(description="what is on hand of the item there")]
    reserved: Annotated[Decimal, Meta(description="what of it is reserved")]


class ItemAtLocation(Struct):
    """One item with stock at the location."""

    item_id: Annotated[int, Meta(description="the id of the item")]
    sku: Annotated[str, Meta(description="its sku")]
    on_hand: Annotated[Decimal, Meta(description="what is on hand of it at the location")]
    reserved: Annotated[Decimal, Meta(description="what of it is reserved")]


class ChildLocation(Struct):
    """One location that is part of the other."""

    location_id: Annotated[int, Meta(description="its id")]
    location: Annotated[str, Meta(description="its code")]


class LocationsWithStock(Struct):
    locations: Annotated[
        int, Meta(description="the number of all locations with stock of the item, or with reservations")
    ]
    stock: Annotated[list[StockAtLocation], Meta(description="the first of them")]


class ItemsWithStock(Struct):
    items: Annotated[int, Meta(description="the number of all items with such stock")]
    stock: Annotated[list[ItemAtLocation], Meta(description="the first of them")]


class Children(Struct):
    locations: Annotated[int, Meta(description="the number of all locations that are part of it")]
    children: Annotated[list[ChildLocation], Meta(description="the first of them")]


class Available(Struct):
    available: Annotated[Decimal, Meta(description="the quantity that could go out at this point")]
    item_id: Annotated[int, Meta(description="the item that is short")]
    location_id: Annotated[int, Meta(description="the location where it is short")]
    breaks_at: Annotated[
        datetime | UnsetType,
        Meta(description="of a movement that is dated back, the first moment at which less than zero would be left"),
    ] = UNSET


class FirstOpen(Struct):
    first_open: Annotated[
        datetime | UnsetType, Meta(description="the first moment that a movement may be dated to")
    ] = UNSET


class SkuTaken(errors.Conflict):
    """Another item has this sku. A deleted item keeps its sku, so that the ledger stays readable: choose another."""

    slug, title = "sku-taken", "The sku is taken"


class CodeTaken(errors.Conflict):
    """Another location has this code. A deleted location keeps its code: choose another."""

    slug, title = "code-taken", "The code is taken"


class DeletedItem(Struct):
    """The item that has the sku."""

    item_id: Annotated[int | UnsetType, Meta(description="the id of the deleted item")] = UNSET


class ItemDeleted(errors.Conflict):
    """The sku is that of a deleted item, which keeps it, so the item can neither be changed nor made anew.

    Restore it with `POST /api/v1/inventory/items/{item_id}/restore`, and send the line again; or choose another sku."""

    slug, title = "item-deleted", "The item is deleted"
    extension = DeletedItem


class PresentUnit(Struct):
    """The unit that stays."""

    unit: Annotated[str | UnsetType, Meta(description="the item's unit")] = UNSET


class UnitStays(errors.Conflict):
    """The item has ledger entries, and their quantities are in its present unit: with another unit, every one of them
    would say something else.

    Make another item with the other unit, move the stock over with an adjustment of each, and set this one's status to
    DISCONTINUED."""

    slug, title = "unit-stays", "The unit cannot change any more"
    extension = PresentUnit


class LeastDecimals(Struct):
    least: Annotated[int | UnsetType, Meta(description="the least that `decimals` can be")] = UNSET


class DecimalsStay(errors.Conflict):
    """Some entry of the ledger, or what is reserved, is divided further than the new `decimals` allow.

    `least` is the least that `decimals` can be for this item."""

    slug, title = "decimals-stay", "The item is divided further than that"
    extension = LeastDecimals


class LooksAlike(errors.Conflict):
    """The sku or code is one from before texts were normalised (Unicode's form NFC), and looks like another one.

    Give it one of its own: `erp migrate` and `erp verify` list those that look alike."""

    slug, title = "looks-alike", "It looks like another one"


class ItemHasStock(errors.Conflict):
    """The item cannot be deleted: some location has stock of it, or its stock is below zero or reserved there.

    `stock` lists the first of these locations with the quantity on hand and what is reserved; `locations` is the number
    of all of them. Release the reservations, and issue, transfer or adjust the stock until it is zero at each of them;
    or set the item's status to DISCONTINUED."""

    slug, title = "item-has-stock", "The item has stock"
    extension = LocationsWithStock


class LocationHasStock(errors.Conflict):
    """The location cannot be deleted: it has stock of some item, or stock below zero, or reservations.

    `stock` lists the first of these items with the quantity on hand and what is reserved; `items` is the number of all
    of them. Release the reservations, and issue, transfer or adjust the stock until it is zero for each of them."""

    slug, title = "location-has-stock", "The location has stock"
    extension = ItemsWithStock


class LocationHasChildren(errors.Conflict):
    """The location cannot be deleted: other locations are part of it.

    `children` lists the first of them; `locations` is the number of all of them. Delete them first, or give them
    another `parent_id`."""

    slug, title = "location-has-children", "The location has others in it"
    extension = Children


class NoPlaceInTree(errors.Conflict):
    """The deleted location cannot be restored where it was: the location that it was a part of is deleted itself, or
    has so many levels above it by now that this one would be too deep.

    Restore that location first, or move it up."""

    slug, title = "no-place-in-tree", "Its place among the locations is gone"


class NegativeStock(errors.Conflict):
    """Stock is below zero here, or below what is reserved, so negative stock must stay allowed. Correct the stock or
    release the reservations first, then try again."""

    slug, title = "negative-stock", "Stock is negative here"
    extension = ItemsWithStock


class InsufficientStock(errors.Conflict):
    """More would go out than is available, at a location that does not allow negative stock. Nothing was posted.

    `available` is the quantity that could go out at this point: on hand, less what others have reserved; within a
    document, after the lines before it. `item_id` and `location_id` name the item and the location.

    A movement that is dated back must fit the history of its location as well: what it takes was needed by movements
    that happened later. `breaks_at` is then the first moment at which the stock would have been below zero. Date it
    later, or post what is missing in the history first."""

    slug, title = "insufficient-stock", "Not enough stock"
    extension = Available


class ItemNotActive(errors.Conflict):
    """The item's status does not allow the movement: an INACTIVE item takes adjustments only, a DISCONTINUED item
    takes no receipts. A document can be reversed whatever the status is."""

    slug, title = "item-not-active", "The item's status does not allow this"


class AlreadyReversed(errors.Conflict):
    """More of the document would be reversed than is left of it: each line can be reversed up to what it was, at once
    or in parts. `errors` says how much is left of each line. The reversal is a document too, and can be reversed."""

    slug, title = "already-reversed", "The document is already reversed"


class CostUnknown(errors.Invalid):
    """No cost of this item was ever stated, so nobody can say what the movement is worth. It is not guessed.

    State it: with `unit_cost` or `total_cost` where stock comes in, also `"0"` if it was free; or with a revaluation
    that states `unit_value`."""

    slug, title = "cost-unknown", "The cost is not known"


class PeriodClosed(errors.Conflict):
    """The movement is dated to a period that is closed. Nothing was posted.

    `first_open` is the first moment that a movement may be dated to. Date it there, or have the period opened again."""

    slug, title = "period-closed", "The period is closed"
    extension = FirstOpen


class BarcodeTaken(errors.Conflict):
    """Another item has this barcode, so a scanner could not tell them apart. Choose another, or take it from that item
    first. A deleted item gives its barcode free."""

    slug, title = "barcode-taken", "The barcode is taken"


class ExternalIdTaken(errors.Conflict):
    """Another item, or another location, has this external id. Choose another, or take it from that one first. One that
    is deleted gives its external id free."""

    slug, title = "external-id-taken", "The external id is taken"


class TooManyEntries(errors.Conflict):
    """The document comes from an imported file and has more entries than one answer can hold. Read the entries in the
    list of the ledger, or export them. To correct them, post documents of your own."""

    slug, title = "too-many-entries", "The document is too large for this"
