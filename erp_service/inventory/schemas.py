"""What clients send and get about items, locations, stock on hand and the ledger."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal, cast
from uuid import UUID

from msgspec import Meta, Struct

from erp_service.db.pagination import Page
from erp_service.decimals import Level
from erp_service.errors import INTEGER_LIMIT
from erp_service.texts import Identifier, Label

ItemStatus = Literal["ACTIVE", "INACTIVE", "DISCONTINUED"]
LocationType = Literal["WAREHOUSE", "ZONE", "BIN"]
EntryType = Literal["IN", "OUT", "TRANSFER_IN", "TRANSFER_OUT", "ADJUSTMENT"]
EntryOrigin = Literal["REVERSAL", "COUNT", "ASSEMBLY", "REVALUATION", "SETTLEMENT"]
LedgerSort = Literal["id", "-id"]

IDENTIFIER_LENGTH = 100
METADATA_MEMBERS, METADATA_KEY_LENGTH, METADATA_VALUE_LENGTH = 16, 100, 500
MOST_PACKS = 20


class SkuText(Identifier):
    longest = IDENTIFIER_LENGTH


class CodeText(Identifier):
    longest = IDENTIFIER_LENGTH


class UnitText(Identifier):
    longest = 20


class BarcodeText(Identifier):
    longest = IDENTIFIER_LENGTH


class ExternalIdText(Identifier):
    longest = IDENTIFIER_LENGTH


class NameText(Label):
    longest = 200


Sku = Annotated[SkuText, Meta(description="unique; kept when the item is deleted", examples=["BOLT-M8"])]
Code = Annotated[CodeText, Meta(description="unique; kept when the location is deleted", examples=["MAIN"])]
Unit = Annotated[
    UnitText,
    Meta(
        description="the unit that quantities are counted in; it stays once there are ledger entries", examples=["pcs"]
    ),
]
DEFAULT_UNIT = cast(UnitText, "pcs")
Decimals = Annotated[
    int,
    Meta(
        ge=0,
        le=6,
        description="how a quantity may be divided: 0 if only whole units are, up to 6 decimals. It cannot become less"
        " than what is in the ledger",
    ),
]
Barcode = Annotated[
    BarcodeText,
    Meta(description="what a scanner reads; unique among items that are not deleted", examples=["4006381333931"]),
]
ExternalId = Annotated[
    ExternalIdText, Meta(description="its id in another system; unique among those that are not deleted")
]
MetadataKey = Annotated[str, Meta(min_length=1, max_length=METADATA_KEY_LENGTH)]
MetadataValue = Annotated[str, Meta(max_length=METADATA_VALUE_LENGTH)]
Metadata = Annotated[
    dict[MetadataKey, MetadataValue],
    Meta(max_length=METADATA_MEMBERS, description="what a client keeps with it: a flat object of at most 16 strings"),
]
Name = Annotated[NameText, Meta(description="what people call it")]
Description = Annotated[str, Meta(description="free text", max_length=4000)]
Address = Annotated[str, Meta(description="the postal address", max_length=1000)]
ReferredId = Annotated[int, Meta(ge=1, le=INTEGER_LIMIT)]


Ratio = Annotated[int, Meta(ge=1, le=1_000_000_000)]


class ItemPack(Struct, forbid_unknown_fields=True, frozen=True):
    """A pack: one of it is `numerator` / `denominator` of the item's unit, exactly. A case of 12 is 12 / 1."""

    unit: Annotated[UnitText, Meta(description="its name; not the item's unit", examples=["case"])]
    numerator: Annotated[Ratio, Meta(description="of the ratio", examples=[12])]
    denominator: Annotated[Ratio, Meta(description="of the ratio", examples=[1])]


class ItemBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """An item as a client writes it. A field that is left out gets its default, also when an item is replaced."""

    sku: Sku
    name: Name
    unit: Unit = DEFAULT_UNIT
    decimals: Decimals = 6
    units: Annotated[
        list[ItemPack], Meta(max_length=MOST_PACKS, description="the packs that quantities may be given in")
    ] = []
    barcode: Barcode | None = None
    external_id: ExternalId | None = None
    metadata: Metadata = {}
    status: Annotated[
        ItemStatus, Meta(description="INACTIVE takes adjustments only, DISCONTINUED takes no receipts")
    ] = "ACTIVE"
    description: Description | None = None
    reorder_point: Annotated[
        Level | None, Meta(description="stock is low if what is available of it, over all locations, is at or below it")
    ] = None


class ItemOut(Struct):
    """An item. `version` is the number in its `ETag`."""

    id: Annotated[int, Meta(description="the id")]
    sku: Annotated[str, Meta(description="unique; kept when the item is deleted")]
    name: Annotated[str, Meta(description="the name")]
    unit: Annotated[str, Meta(description="the unit that quantities are counted in")]
    decimals: Annotated[int, Meta(description="how a quantity may be divided: 0 if only whole units are")]
    units: Annotated[list[ItemPack], Meta(description="the packs that quantities may be given in")]
    barcode: Annotated[str | None, Meta(description="what a scanner reads")]
    external_id: Annotated[str | None, Meta(description="its id in another system")]
    metadata: Annotated[dict[str, str], Meta(description="what a client keeps with it")]
    status: Annotated[ItemStatus, Meta(description="INACTIVE takes adjustments only, DISCONTINUED takes no receipts")]
    description: Annotated[str | None, Meta(description="free text")]
    reorder_point: Annotated[
        Decimal | None, Meta(description="stock is low at or below it; null if it does not matter")
    ]
    version: Annotated[int, Meta(description="the number in its `ETag`")]
    created_at: Annotated[datetime, Meta(description="when it was created")]
    updated_at: Annotated[datetime, Meta(description="when it was last changed")]
    deleted_at: Annotated[datetime | None, Meta(description="when it was deleted; null if it was not")]


class LocationBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """A location as a client writes it. A field that is left out gets its default, also when one is replaced."""

    code: Code
    name: Name
    location_type: Annotated[LocationType, Meta(description="a BIN is in a ZONE, a ZONE in a WAREHOUSE, as you like")]
    address: Address | None = None
    parent_id: Annotated[
        ReferredId | None, Meta(description="the location that this one is a part of: by its id, or by `parent`")
    ] = None
    parent: Annotated[CodeText | None, Meta(description="the same by its code", examples=["MAIN"])] = None
    allow_negative_stock: Annotated[
        bool, Meta(description="whether more may be issued here than is on hand; there is no other such policy")
    ] = False
    external_id: ExternalId | None = None
    metadata: Metadata = {}


class LocationOut(Struct):
    """A location. `version` is the number in its `ETag`."""

    id: Annotated[int, Meta(description="the id")]
    code: Annotated[str, Meta(description="unique; kept when the location is deleted")]
    name: Annotated[str, Meta(description="the name")]
    location_type: Annotated[LocationType, Meta(description="what kind of place it is")]
    address: Annotated[str | None, Meta(description="the postal address")]
    parent_id: Annotated[int | None, Meta(description="the location that this one is a part of")]
    parent: Annotated[str | None, Meta(description="its code")]
    allow_negative_stock: Annotated[bool, Meta(description="whether more may be issued here than is on hand")]
    external_id: Annotated[str | None, Meta(description="its id in another system")]
    metadata: Annotated[dict[str, str], Meta(description="what a client keeps with it")]
    version: Annotated[int, Meta(description="the number in its `ETag`")]
    created_at: Annotated[datetime, Meta(description="when it was created")]
    updated_at: Annotated[datetime, Meta(description="when it was last changed")]
    deleted_at: Annotated[datetime | None, Meta(description="when it was deleted; null if it was not")]


class LedgerEntry(Struct, gc=False):
    """One signed movement of one item at one location, and what it changed of the item's value. It is never changed: a
    mistake is corrected by new entries."""

    id: Annotated[int, Meta(description="of one item, the order of ids is the order of effects")]
    transaction_id: Annotated[UUID, Meta(description="the document that it was posted in")]
    line: Annotated[int, Meta(description="its line in the document; both ends of a transfer share one")]
    item_id: Annotated[int, Meta(description="the id of the item")]
    sku: Annotated[str, Meta(description="its sku")]
    location_id: Annotated[
        int | None, Meta(description="the id of the location; null for a change of value, which is at none")
    ]
    location: Annotated[str | None, Meta(description="the location's code")]
    transaction_type: Annotated[EntryType, Meta(description="what kind of movement it is")]
    quantity: Annotated[
        Decimal, Meta(description="signed, in the item's unit: below zero if stock went out", examples=["-2.5"])
    ]
    unit: Annotated[str, Meta(description="the unit of the item")]
    value: Annotated[
        Decimal, Meta(description="signed, in the settings' currency; zero for transfers; never recomputed")
    ]
    unit_cost: Annotated[Decimal | None, Meta(description="of one in the item's unit, as posted; null if none was")]
    on_hand_after: Annotated[
        Decimal | None, Meta(description="the quantity on hand of the item at the location after it")
    ]
    item_on_hand_after: Annotated[
        Decimal | None,
        Meta(description="the quantity of the item over all locations after it; null for transfers"),
    ]
    value_after: Annotated[
        Decimal | None,
        Meta(
            description="the value of the item over all locations after it; null for transfers. While"
            " `item_on_hand_after` is null beside it, the entry is from before values were kept by item: then it is"
            " that of the location"
        ),
    ]
    origin: Annotated[
        EntryOrigin | None,
        Meta(description="what made it, if it was not a movement that was posted as such"),
    ]
    reverses_id: Annotated[int | None, Meta(description="the entry that it reverses, whole or in part")]
    not_covered: Annotated[
        Decimal | None,
        Meta(description="of a revaluation, the part of its difference that belongs to what is no longer on hand"),
    ]
    occurred_at: Annotated[datetime, Meta(description="when it happened, as stated by who posted it")]
    recorded_at: Annotated[datetime, Meta(description="when it was posted")]
    reference_no: Annotated[str | None, Meta(description="the number of the paper behind it")]
    notes: Annotated[str | None, Meta(description="free text of who posted it")]
    reason: Annotated[str | None, Meta(description="why, for adjustments, revaluations, settlements and reversals")]
    metadata: Annotated[dict[str, str], Meta(description="what a client kept with it")]
    user_id: Annotated[int | None, Meta(description="who posted it; null for the service itself")]


Reserved = Annotated[
    Decimal | None,
    Meta(description="what reservations hold that have not expired; null with `as_of`, since they keep no history"),
]
Available = Annotated[Decimal | None, Meta(description="on_hand - reserved; null with `as_of`")]
ShareOfValue = Annotated[
    Decimal,
    Meta(
        description="its share of the item's value, on_hand × `unit_value`; those of all locations add up to the value"
        " of the item exactly"
    ),
]
UnitValue = Annotated[
    Decimal | None,
    Meta(
        description="of one, at the moving average of the item over all locations, rounded to 6 decimals; null while"
        " none is on hand"
    ),
]


class StockLevel(Struct):
    """What is on hand of one item at one location, and its value at moving average."""

    item_id: Annotated[int, Meta(description="the id of the item")]
    sku: Annotated[str, Meta(description="its sku")]
    name: Annotated[str, Meta(description="the item's name")]
    unit: Annotated[str, Meta(description="the unit of its quantities")]
    location_id: Annotated[int, Meta(description="the id of the location")]
    location: Annotated[str, Meta(description="the location's code")]
    on_hand: Annotated[Decimal, Meta(description="below zero only where negative stock is allowed, or with `as_of`")]
    reserved: Reserved
    available: Available
    value: ShareOfValue
    unit_value: UnitValue
    currency: Annotated[str, Meta(description="ISO 4217", examples=["EUR"])]


class ItemPage(Page[ItemOut]):
    """Items."""

    items: Annotated[list[ItemOut], Meta(description="items")]


class LocationPage(Page[LocationOut]):
    """Locations."""

    items: Annotated[list[LocationOut], Meta(description="locations")]


class LedgerPage(Page[LedgerEntry]):
    """Ledger entries, newest first unless `sort` says otherwise."""

    items: Annotated[list[LedgerEntry], Meta(description="entries, newest first unless `sort` says otherwise")]


class StockPage(Page[StockLevel]):
    """What is on hand, by item and location."""

    items: Annotated[list[StockLevel], Meta(description="by item and location")]
