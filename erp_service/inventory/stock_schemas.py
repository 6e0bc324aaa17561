"""What clients send and get about movements of stock. The limits are also those of imported movements."""

from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from erp_service.decimals import Quantity, SignedQuantity, UnitCost
from erp_service.errors import INTEGER_LIMIT
from erp_service.inventory.schemas import IDENTIFIER_LENGTH, LedgerEntry
from erp_service.texts import Identifier, Label

MOST_MOVEMENTS = 1_000
EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
AHEAD = timedelta(minutes=5)
"""How far `occurred_at` may lie in the future, since clocks differ. A later time counts as a mistake."""
REFERENCE_LENGTH, NOTES_LENGTH, REASON_LENGTH = 100, 2000, 500
METADATA_MEMBERS, METADATA_KEY_LENGTH, METADATA_VALUE_LENGTH = 16, 100, 500

_Id = Annotated[int, Meta(ge=1, le=INTEGER_LIMIT)]
_Word = Annotated[str, Meta(min_length=1, max_length=IDENTIFIER_LENGTH)]
_Key = Annotated[str, Meta(min_length=1, max_length=METADATA_KEY_LENGTH)]
_Value = Annotated[str, Meta(max_length=METADATA_VALUE_LENGTH)]


class Reference(Identifier):
    longest = REFERENCE_LENGTH


class _Reason(Label):
    longest = REASON_LENGTH


ItemId = Annotated[_Id | None, Meta(description="the item, by its id or by `sku`: one of the two")]
ItemSku = Annotated[
    _Word | None, Meta(description="the item, by its sku or by `item_id`: one of the two", examples=["BOLT-M8"])
]
LocationId = Annotated[_Id | None, Meta(description="the location, by its id or by its code: one of the two")]
LocationCode = Annotated[
    _Word | None, Meta(description="the location, by its code or by its id: one of the two", examples=["MAIN"])
]


class Movement(Struct, forbid_unknown_fields=True, kw_only=True, gc=False):
    """What every movement may state."""

    item_id: ItemId = None
    sku: ItemSku = None
    reference_no: Annotated[
        Reference | None,
        Meta(description="the number of the paper behind it: an invoice, a delivery note", examples=["PO-2041"]),
    ] = None
    notes: Annotated[Annotated[str, Meta(max_length=NOTES_LENGTH)] | None, Meta(description="free text")] = None
    occurred_at: Annotated[
        Annotated[datetime, Meta(tz=True)] | None,
        Meta(description="when it happened: from 1900 to 5 minutes ahead; now, if it is left out"),
    ] = None
    metadata: Annotated[
        Annotated[dict[_Key, _Value], Meta(max_length=METADATA_MEMBERS)] | None,
        Meta(description="a flat object of at most 16 strings"),
    ] = None


class AtOneLocation(Movement, forbid_unknown_fields=True, kw_only=True):
    location_id: LocationId = None
    location: LocationCode = None


class Receipt(AtOneLocation, forbid_unknown_fields=True, kw_only=True):
    """Stock that comes in."""

    quantity: Annotated[Quantity, Meta(description="how much comes in, in the unit of the item")]
    unit_cost: Annotated[
        UnitCost | None,
        Meta(description="without it, the present moving average is used, else the last known one, else zero"),
    ] = None


class Issue(AtOneLocation, forbid_unknown_fields=True, kw_only=True):
    """Stock that goes out, at moving average."""

    quantity: Annotated[Quantity, Meta(description="how much goes out, in the unit of the item")]


class Adjustment(AtOneLocation, forbid_unknown_fields=True, kw_only=True):
    """A correction at moving average: a quantity above zero is added, one below zero is removed."""

    quantity: Annotated[
        SignedQuantity, Meta(description="above zero comes in, below zero goes out; in the unit of the item")
    ]
    reason: Annotated[_Reason, Meta(description="why; kept in the ledger")]


class Transfer(Movement, forbid_unknown_fields=True, kw_only=True):
    """Stock that goes from one location to another, with its value."""

    from_location_id: LocationId = None
    from_location: LocationCode = None
    to_location_id: LocationId = None
    to_location: LocationCode = None
    quantity: Annotated[Quantity, Meta(description="how much is moved, in the unit of the item")]


class ReceiptLine(Receipt, forbid_unknown_fields=True, kw_only=True, tag="IN", tag_field="transaction_type"):
    """Stock that comes in."""


class IssueLine(Issue, forbid_unknown_fields=True, kw_only=True, tag="OUT", tag_field="transaction_type"):
    """Stock that goes out, at moving average."""


class TransferLine(Transfer, forbid_unknown_fields=True, kw_only=True, tag="TRANSFER", tag_field="transaction_type"):
    """Stock that goes from one location to another, with its value."""


class AdjustmentLine(
    Adjustment, forbid_unknown_fields=True, kw_only=True, tag="ADJUSTMENT", tag_field="transaction_type"
):
    """A correction at moving average. It needs the role ADMIN."""


class Movements(Struct, forbid_unknown_fields=True, kw_only=True):
    """One document: its movements are posted in this order, all or none."""

    movements: Annotated[
        list[ReceiptLine | IssueLine | TransferLine | AdjustmentLine],
        Meta(min_length=1, max_length=MOST_MOVEMENTS, description="the lines, in the order in which they are posted"),
    ]


class Reversal(Struct, forbid_unknown_fields=True, kw_only=True):
    """Why a document is reversed."""

    reason: Annotated[_Reason, Meta(description="why; kept in the ledger")]


class PostedEntry(LedgerEntry, kw_only=True):
    """The ledger entry of a movement at one location.

    `settlement` is the entry of quantity zero that follows if the movement brought stock back from below zero, else
    null."""

    settlement: Annotated[
        LedgerEntry | None, Meta(description="the entry that follows if stock came back from below zero; else null")
    ]


class Document(Struct, kw_only=True):
    """What was posted together, with its ledger entries in the order of their effects.

    A movement has one entry, a transfer two (TRANSFER_OUT, then TRANSFER_IN), all under the number of their `line`. An
    entry that brings stock back from below zero is followed by an ADJUSTMENT of quantity zero, the settlement."""

    transaction_id: Annotated[UUID, Meta(description="the id of the document")]
    recorded_at: Annotated[datetime, Meta(description="when it was posted")]
    user_id: Annotated[int | None, Meta(description="who posted it; null for the service itself")]
    reverses: Annotated[UUID | None, Meta(description="the document that this one reverses")]
    reversed_by: Annotated[UUID | None, Meta(description="the document that reverses this one")]
    entries: Annotated[list[LedgerEntry], Meta(description="in the order of their effects")]
