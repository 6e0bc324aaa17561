"""One movement to post, and what it does to the stock that it touches: no database, for the API and for imports."""

from datetime import datetime
from decimal import Decimal
from typing import Literal, TypeAlias
from uuid import UUID

from msgspec import Struct

from erp_service.decimals import shortest
from erp_service.inventory.posting import valuation
from erp_service.inventory.posting.row_locks import Balance, LockedItem, LockedLocation, LockedRows
from erp_service.inventory.posting.valuation import ZERO, Effect, ItemValue, Revaluation
from erp_service.inventory.schemas import EntryOrigin, EntryType

MovementKind: TypeAlias = Literal["IN", "OUT", "TRANSFER", "ADJUSTMENT"]
LineKind: TypeAlias = Literal["IN", "OUT", "TRANSFER", "ADJUSTMENT", "REVALUATION"]


class Revalue(Struct, frozen=True, gc=False):
    """How a value changes: by a difference that belongs to a quantity, or to a value, or to a value of one."""

    difference: Decimal | None = None
    quantity: Decimal | None = None
    value: Decimal | None = None
    unit_value: Decimal | None = None
    undo: bool = False
    """`difference` is that of a reversal."""


class PostingLine(Struct, frozen=True, kw_only=True, gc=False):
    """One movement to post. Item and locations come from `row_locks`: stock is posted to locked rows only."""

    kind: LineKind
    item: LockedItem
    location: LockedLocation | None
    """Where the stock comes in or goes out; of a transfer, where it goes out; of a revaluation None."""
    to_location: LockedLocation | None = None
    """Of a transfer, where the stock comes in."""
    quantity: Decimal = ZERO
    """In the item's unit, above zero; of an adjustment signed, and not zero; of a revaluation zero."""
    cost: Decimal | None = None
    """Of what comes in, what all of it cost, as money; None: valued at moving average."""
    unit_cost: Decimal | None = None
    """The cost of one in the item's unit, as the entry shows it."""
    given_value: Decimal | None = None
    """Of a reversal, the value >= 0 that goes or comes back; None: valued at cost, or at moving average."""
    revaluation: Revalue | None = None
    reserved: Decimal = ZERO
    """What of the quantity a reservation holds, which this movement uses up."""
    reservation_id: UUID | None = None
    """The reservation that the movement names."""
    occurred_at: datetime
    reference_no: str | None = None
    notes: str | None = None
    reason: str | None = None
    metadata: dict[str, str] = {}
    origin: EntryOrigin | None = None
    reverses_ids: tuple[int, ...] = ()
    """Of a reversal, the ids of the entries that its own entries reverse, in their order: of a transfer both ends."""
    pointer: str | None = None
    """JSON pointer to the line in the request's body, for errors."""


class Step(Struct, frozen=True, gc=False):
    """One ledger entry of a line. What says nothing about the entry is None: of a transfer the item's figures, of a
    change of value the location's."""

    entry_type: EntryType
    location: LockedLocation | None
    quantity: Decimal
    value: Decimal
    on_hand_after: Decimal | None
    """Of the item at the location."""
    item_on_hand_after: Decimal | None
    """Of the item over all locations."""
    value_after: Decimal | None
    """Of the item."""
    settles: str | None = None
    """Of a settlement, why there is one."""
    not_covered: Decimal | None = None


class NotEnough(Exception):
    """More goes out than is available, at a location that does not allow negative stock."""

    def __init__(self, available: Decimal, at: LockedLocation) -> None:
        super().__init__(f"{shortest(available)} available")
        self.available, self.at = available, at


def steps(line: PostingLine, rows: LockedRows) -> list[Step]:
    """The entries of one line, in order; the balances and values in `rows` are replaced by those after them.

    Raises NotEnough, CostUnknown, NothingOnHand, DoesNotFit."""
    if line.kind == "REVALUATION":
        return _revaluation(line, rows)
    if line.location is None:
        raise ValueError("a movement that is nowhere")
    if line.kind == "TRANSFER":
        return _transfer(line, line.location, rows)
    on_hand = _move(line, line.location, -line.quantity if line.kind == "OUT" else line.quantity, rows)
    item, parts = _effect(line, rows.values[line.item.id])
    rows.values[line.item.id] = item
    return [
        Step(
            line.kind if part.reason is None else "ADJUSTMENT",
            line.location,
            part.quantity,
            part.value,
            on_hand,
            part.on_hand_after,
            part.value_after,
            part.reason,
        )
        for part in parts
    ]


def _transfer(line: PostingLine, source: LockedLocation, rows: LockedRows) -> list[Step]:
    if line.to_location is None:
        raise ValueError("a transfer without a location to go to")
    left = _move(line, source, -line.quantity, rows)
    arrived = _move(line, line.to_location, line.quantity, rows)
    return [
        Step("TRANSFER_OUT", source, -line.quantity, ZERO, left, None, None),
        Step("TRANSFER_IN", line.to_location, line.quantity, ZERO, arrived, None, None),
    ]


def _move(line: PostingLine, at: LockedLocation, quantity: Decimal, rows: LockedRows) -> Decimal:
    """Change the balance by the signed quantity; what is on hand at the location afterwards. Raises NotEnough."""
    key = line.item.id, at.id
    before = rows.balances[key]
    on_hand, reserved = before.on_hand + quantity, before.reserved - line.reserved
    last = before.last_occurred_at
    if quantity < 0 and not before.allows_negative:
        if on_hand < reserved:
            raise NotEnough(before.on_hand - reserved, at)
        # what the balance does not know yet, as in a stock from before it kept the time, the ledger is asked for
        if last is None or line.occurred_at < last:
            rows.dated_back.add(key)
    if last is not None and last < line.occurred_at:
        last = line.occurred_at
    rows.balances[key] = Balance(on_hand, reserved, before.allows_negative, last)
    return on_hand


def _effect(line: PostingLine, item: ItemValue) -> Effect:
    """What a line at one location does to the value of the item."""
    goes_out = line.kind == "OUT" or line.quantity < 0
    quantity = abs(line.quantity)
    if line.given_value is not None:
        return (valuation.give_back if goes_out else valuation.take_back)(item, quantity, line.given_value)
    if goes_out:
        return valuation.issue(item, quantity)
    return valuation.receive(item, quantity, line.cost, line.unit_cost)


def _revaluation(line: PostingLine, rows: LockedRows) -> list[Step]:
    item, how = rows.values[line.item.id], line.revaluation
    if how is None:
        raise ValueError("a revaluation that changes nothing")
    not_covered = None
    if how.undo:
        item, parts = valuation.undo_revaluation(item, how.difference or ZERO)
    else:
        item, part, not_covered = _revalued(item, how)
        parts = (part,)
    rows.values[line.item.id] = item
    return [
        Step("ADJUSTMENT", None, ZERO, part.value, None, part.on_hand_after, part.value_after, part.reason, not_covered)
        for part in parts
    ]


def _revalued(item: ItemValue, how: Revalue) -> Revaluation:
    if how.unit_value is not None:
        return valuation.set_unit_value(item, how.unit_value)
    if how.value is not None:
        return valuation.set_value(item, how.value)
    return valuation.revalue(item, how.difference or ZERO, how.quantity)
