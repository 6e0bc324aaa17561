"""One movement to post, and what it does to the balances that it touches: no database, for the API and for imports."""

from datetime import datetime
from decimal import Decimal
from typing import Literal, TypeAlias

from msgspec import Struct

from erp_service.inventory import valuation
from erp_service.inventory.row_locks import BalanceKey, LockedItem, LockedLocation
from erp_service.inventory.schemas import EntryType
from erp_service.inventory.valuation import Balance, Effect, EntryAmounts

MovementKind: TypeAlias = Literal["IN", "OUT", "TRANSFER", "ADJUSTMENT"]


class PostingLine(Struct, frozen=True, kw_only=True, gc=False):
    """One movement to post. Item and locations come from `row_locks`: stock is posted to locked rows only."""

    kind: MovementKind
    item: LockedItem
    location: LockedLocation
    """Where the stock comes in or goes out; of a transfer, where it goes out."""
    to_location: LockedLocation | None = None
    """Of a transfer, where the stock comes in."""
    quantity: Decimal
    """Above zero; of an adjustment signed, and not zero."""
    unit_cost: Decimal | None = None
    value: Decimal | None = None
    """Of a reversal, the value >= 0 of the entry that is reversed; None: valued at cost, or at moving average."""
    occurred_at: datetime
    reference_no: str | None = None
    notes: str | None = None
    reason: str | None = None
    metadata: dict[str, str] = {}
    pointer: str | None = None
    """JSON pointer to the line in the request's body, for errors."""


Step: TypeAlias = tuple[EntryType, LockedLocation, EntryAmounts]
"""One entry of a line: its type, its location, its amounts."""


def steps(line: PostingLine, balances: dict[BalanceKey, Balance]) -> list[Step]:
    """The entries of one line, in order; each balance in `balances` is replaced by the balance after them.

    Raises NotEnough, DoesNotFit."""
    key = line.item.id, line.location.id
    if line.kind != "TRANSFER":
        balances[key], parts = _effect(line, balances[key])
        return [(line.kind, line.location, part) for part in parts]
    if line.to_location is None:
        raise ValueError("a transfer without a location to go to")
    balances[key], (issued,) = _issue(balances[key], line.quantity, line.value)
    key = line.item.id, line.to_location.id
    balances[key], parts = valuation.receive_at_value(balances[key], line.quantity, -issued.value)
    arrivals: list[Step] = [("TRANSFER_IN", line.to_location, part) for part in parts]
    return [("TRANSFER_OUT", line.location, issued), *arrivals]


def _effect(line: PostingLine, balance: Balance) -> Effect:
    """What a line other than a transfer does to its balance."""
    if line.kind == "OUT":
        return _issue(balance, line.quantity, line.value)
    if line.value is not None:
        if line.quantity < 0:
            return valuation.issue_at_value(balance, -line.quantity, line.value)
        return valuation.receive_at_value(balance, line.quantity, line.value)
    if line.kind == "IN":
        return valuation.receive(balance, line.quantity, line.unit_cost)
    return valuation.adjust(balance, line.quantity)


def _issue(balance: Balance, quantity: Decimal, value: Decimal | None) -> Effect:
    if value is None:
        return valuation.issue(balance, quantity)
    return valuation.issue_at_value(balance, quantity, value)
