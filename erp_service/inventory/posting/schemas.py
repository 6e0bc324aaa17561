"""What clients send and get about movements of stock. The limits are also those of imported movements."""

from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from erp_service.decimals import Money, Quantity, SignedMoney, SignedQuantity, UnitCost
from erp_service.errors import INTEGER_LIMIT
from erp_service.inventory.schemas import IDENTIFIER_LENGTH, LedgerEntry, Metadata
from erp_service.texts import Identifier, Label

MOST_MOVEMENTS = 2_000
EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
AHEAD = timedelta(minutes=5)
"""How far `occurred_at` may lie in the future, since clocks differ. A later time counts as a mistake."""
REFERENCE_LENGTH, NOTES_LENGTH, REASON_LENGTH = 100, 2000, 500

_Id = Annotated[int, Meta(ge=1, le=INTEGER_LIMIT)]
_Word = Annotated[str, Meta(min_length=1, max_length=IDENTIFIER_LENGTH)]


class Reference(Identifier):
    longest = REFERENCE_LENGTH


class _Reason(Label):
    longest = REASON_LENGTH


_OR = "the item, by one of `item_id`, `sku`, `external_id` and `barcode`"
ItemId = Annotated[_Id | None, Meta(description=_OR)]
ItemSku = Annotated[_Word | None, Meta(description=_OR, examples=["BOLT-M8"])]
ItemExternalId = Annotated[_Word | None, Meta(description=_OR)]
ItemBarcode = Annotated[_Word | None, Meta(description=_OR, examples=["4006381333931"])]
LocationId = Annotated[_Id | None, Meta(description="the location, by its id or by its code: one of the two")]
LocationCode = Annotated[
    _Word | None, Meta(description="the location, by its code or by its id: one of the two", examples=["MAIN"])
]
UnitName = Annotated[
    _Word | None,
    Meta(description="the unit of the quantity: the item's, or one of its packs; the item's, if it is left out"),
]
UnitCostGiven = Annotated[
    UnitCost | None,
    Meta(
        description="the cost of one, in the unit that is given, with up to 10 decimals. Without it and `total_cost`"
        " the moving average is used, else the cost that was last paid; if there was none, it is asked for (422)"
    ),
]
TotalCostGiven = Annotated[
    Money | None, Meta(description="what all of it cost, as on the invoice, in place of `unit_cost`", examples=["445"])
]


class OfItem(Struct, forbid_unknown_fields=True, kw_only=True, gc=False):
    """The item, by one of four names."""

    item_id: ItemId = None
    sku: ItemSku = None
    external_id: ItemExternalId = None
    barcode: ItemBarcode = None


class Movement(OfItem, forbid_unknown_fields=True, kw_only=True, gc=False):
    """What every movement may state."""

    reference_no: Annotated[
        Reference | None,
        Meta(description="the number of the paper behind it: an invoice, a delivery note", examples=["PO-2041"]),
    ] = None
    notes: Annotated[Annotated[str, Meta(max_length=NOTES_LENGTH)] | None, Meta(description="free text")] = None
    occurred_at: Annotated[
        Annotated[datetime, Meta(tz=True)] | None,
        Meta(
            description="when it happened: from 1900 to 5 minutes ahead, in no closed period; what goes out must fit"
            " what happened there since. Now, if it is left out"
        ),
    ] = None
    metadata: Annotated[Metadata | None, Meta(description="a flat object of at most 16 strings")] = None


class AtOneLocation(Movement, forbid_unknown_fields=True, kw_only=True):
    location_id: LocationId = None
    location: LocationCode = None
    unit: UnitName = None


class Receipt(AtOneLocation, forbid_unknown_fields=True, kw_only=True):
    """Stock that comes in."""

    quantity: Annotated[Quantity, Meta(description="how much comes in")]
    unit_cost: UnitCostGiven = None
    total_cost: TotalCostGiven = None


class Issue(AtOneLocation, forbid_unknown_fields=True, kw_only=True):
    """Stock that goes out, at moving average."""

    quantity: Annotated[Quantity, Meta(description="how much goes out")]
    reservation_id: Annotated[
        UUID | None,
        Meta(
            description="a reservation of this item at this location: what it holds is taken first, and what is more"
            " from what is available"
        ),
    ] = None


class Adjustment(AtOneLocation, forbid_unknown_fields=True, kw_only=True):
    """A correction: a quantity above zero was found, one below zero is missing. What was found may state its cost."""

    quantity: Annotated[SignedQuantity, Meta(description="above zero comes in, below zero goes out")]
    reason: Annotated[_Reason, Meta(description="why; kept in the ledger")]
    unit_cost: UnitCostGiven = None
    total_cost: TotalCostGiven = None


class Transfer(Movement, forbid_unknown_fields=True, kw_only=True):
    """Stock that goes from one location to another. The value of the item does not change."""

    from_location_id: LocationId = None
    from_location: LocationCode = None
    to_location_id: LocationId = None
    to_location: LocationCode = None
    quantity: Annotated[Quantity, Meta(description="how much is moved")]
    unit: UnitName = None


class Revaluation(Movement, forbid_unknown_fields=True, kw_only=True):
    """A change of what the item is worth, of all that is on hand at all locations: by a difference, to a value, or to a
    value of one."""

    difference: Annotated[
        SignedMoney | None,
        Meta(description="what the value rises or, below zero, falls by, as a freight bill or a later discount"),
    ] = None
    quantity: Annotated[
        Quantity | None,
        Meta(
            description="with `difference`: the quantity that it belongs to. If less than that is on hand, the rest is"
            " answered as `not_covered`"
        ),
    ] = None
    unit: UnitName = None
    value: Annotated[Money | None, Meta(description="what all that is on hand is worth from now on")] = None
    unit_value: Annotated[
        UnitCost | None, Meta(description="what one of the unit is worth from now on; also while none is on hand")
    ] = None
    reason: Annotated[_Reason, Meta(description="why; kept in the ledger")]


class Component(OfItem, forbid_unknown_fields=True, kw_only=True):
    """One part of a kit."""

    location_id: LocationId = None
    location: LocationCode = None
    quantity: Annotated[Quantity, Meta(description="how much of it for the whole `quantity` of the kit")]
    unit: UnitName = None


class Assembly(AtOneLocation, forbid_unknown_fields=True, kw_only=True):
    """A kit that is made of its components, or taken apart into them."""

    quantity: Annotated[Quantity, Meta(description="how much of the kit is made, or taken apart")]
    components: Annotated[
        list[Component], Meta(min_length=1, max_length=200, description="what it is made of, each with its location")
    ]
    disassemble: Annotated[bool, Meta(description="take it apart: the kit goes out, and the components come in")] = (
        False
    )


class ReceiptLine(Receipt, forbid_unknown_fields=True, kw_only=True, tag="IN", tag_field="transaction_type"):
    """Stock that comes in."""


class IssueLine(Issue, forbid_unknown_fields=True, kw_only=True, tag="OUT", tag_field="transaction_type"):
    """Stock that goes out, at moving average."""


class TransferLine(Transfer, forbid_unknown_fields=True, kw_only=True, tag="TRANSFER", tag_field="transaction_type"):
    """Stock that goes from one location to another."""


class AdjustmentLine(
    Adjustment, forbid_unknown_fields=True, kw_only=True, tag="ADJUSTMENT", tag_field="transaction_type"
):
    """A correction. It needs the role ADMIN."""


class RevaluationLine(
    Revaluation, forbid_unknown_fields=True, kw_only=True, tag="REVALUATION", tag_field="transaction_type"
):
    """A change of value. It needs the role ADMIN."""


class Movements(Struct, forbid_unknown_fields=True, kw_only=True):
    """One document: its movements are posted in this order, all or none."""

    movements: Annotated[
        list[ReceiptLine | IssueLine | TransferLine | AdjustmentLine | RevaluationLine],
        Meta(min_length=1, max_length=MOST_MOVEMENTS, description="the lines, in the order in which they are posted"),
    ]


class ReversedLine(Struct, forbid_unknown_fields=True, kw_only=True):
    """One line of a document, and how much of it is reversed."""

    line: Annotated[int, Meta(ge=1, le=INTEGER_LIMIT, description="its number in the document")]
    quantity: Annotated[
        Quantity | None, Meta(description="in the item's unit; all that is left of the line, if it is left out")
    ] = None


class Reversal(Struct, forbid_unknown_fields=True, kw_only=True):
    """Why a document is reversed, when, and how much of it."""

    reason: Annotated[_Reason, Meta(description="why; kept in the ledger")]
    occurred_at: Annotated[
        Annotated[datetime, Meta(tz=True)] | None,
        Meta(description="when it happened: not before the document itself; now, if it is left out"),
    ] = None
    lines: Annotated[
        Annotated[list[ReversedLine], Meta(min_length=1, max_length=MOST_MOVEMENTS)] | None,
        Meta(description="the lines that are reversed; all that is left of all of them, if it is left out"),
    ] = None


class PostedEntry(LedgerEntry, kw_only=True):
    """The ledger entry of a movement at one location.

    `settlement` is the entry of quantity zero that follows if stock was below zero before it came in, else null."""

    settlement: Annotated[
        LedgerEntry | None, Meta(description="the entry that follows if stock was below zero; else null")
    ]


class Document(Struct, kw_only=True):
    """What was posted together, with its ledger entries in the order of their effects.

    A movement has one entry, a transfer two (TRANSFER_OUT, then TRANSFER_IN), all under the number of their `line`. An
    entry whose own value would break the rules of the moving average is followed by an ADJUSTMENT of quantity zero, the
    settlement: after stock that was below zero, and where what is reversed is no longer all there."""

    transaction_id: Annotated[UUID, Meta(description="the id of the document")]
    recorded_at: Annotated[datetime, Meta(description="when it was posted")]
    user_id: Annotated[int | None, Meta(description="who posted it; null for the service itself")]
    reverses: Annotated[UUID | None, Meta(description="the document that this one reverses, whole or in part")]
    reversed_by: Annotated[list[UUID], Meta(description="the documents that reverse this one, in their order")]
    entries: Annotated[list[LedgerEntry], Meta(description="in the order of their effects")]
