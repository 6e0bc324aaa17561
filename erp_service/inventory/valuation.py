"""What a movement does to one balance, at moving average: plain arithmetic over exact decimals, without a database.

Quantities have 6 decimals, values 4, averages 10; every rounding is half away from zero. Each function takes a balance
and returns an `Effect`: the balance after the movement, and the ledger entries that lead to it, in order. Two things
hold after every effect: a balance with nothing on hand has the value zero, and one with stock on hand has a value of
zero or more.

While a balance is below zero, stock goes out at an average that may prove wrong. So the movement that brings the
balance back to zero or above is followed by a settlement: an entry of quantity zero, which sets the value of what is
on hand to its share of that movement's value.
"""

from decimal import Decimal
from typing import NamedTuple

from msgspec import Struct

from erp_service.decimals import EXACT, MONEY_SCALE, PRECISION, QUANTITY_SCALE, shortest

SETTLEMENT = "settlement of negative stock"
"""The reason that a settlement entry states."""

ZERO = Decimal(0)
_MONEY = Decimal(1).scaleb(-MONEY_SCALE)
_AVERAGE = Decimal(1).scaleb(-10)
# the smallest numbers that the columns cannot hold; averages have 28 digits, 10 of them decimals
_QUANTITY_END = Decimal(10) ** (PRECISION - QUANTITY_SCALE)
_MONEY_END = Decimal(10) ** (PRECISION - MONEY_SCALE)
_AVERAGE_END = Decimal(10) ** 18


class Balance(Struct, frozen=True, gc=False):
    """One item at one location. `last_average` is the value of one unit when stock was last on hand, None if never."""

    on_hand: Decimal = ZERO
    value: Decimal = ZERO
    last_average: Decimal | None = None
    allows_negative: bool = False


class EntryAmounts(Struct, frozen=True, gc=False):
    """The signed amounts of one ledger entry, and the balance after it. A quantity of zero is a settlement."""

    quantity: Decimal
    value: Decimal
    on_hand_after: Decimal
    value_after: Decimal


class Effect(NamedTuple):
    """`parts` holds the movement's own entry and, if it brought the balance back from below zero, a settlement."""

    balance: Balance
    parts: tuple[EntryAmounts, ...]


class NotEnough(Exception):
    """More goes out than is on hand, at a location that does not allow negative stock."""

    def __init__(self, available: Decimal) -> None:
        super().__init__(f"{shortest(available)} available")
        self.available = available


class DoesNotFit(Exception):
    """A quantity, a value or an average is larger than the ledger can hold. The message says which, for a caller."""


def receive(balance: Balance, quantity: Decimal, unit_cost: Decimal | None = None) -> Effect:
    """`quantity` > 0 comes in at `unit_cost`; without one, at the present average, the last known one, or zero."""
    if unit_cost is not None:
        value = _times(quantity, unit_cost)
    elif balance.on_hand > 0:
        value = _share(balance.value, quantity, balance.on_hand)
    else:
        value = _times(quantity, balance.last_average or ZERO)
    return receive_at_value(balance, quantity, value)


def receive_at_value(balance: Balance, quantity: Decimal, value: Decimal) -> Effect:
    """`quantity` > 0 comes in with exactly `value` >= 0: what a transfer issued elsewhere, or what is reversed."""
    entry = _entry(balance, quantity, value)
    if not balance.on_hand < 0 <= entry.on_hand_after:
        return Effect(_after(balance, entry), (entry,))
    due = _share(value, entry.on_hand_after, quantity)
    if due == entry.value_after:
        return Effect(_after(balance, entry), (entry,))
    # the settlement always fits its column: from 0 <= due <= value follows -value_after <= settlement <= -value before
    settlement = EntryAmounts(ZERO, due - entry.value_after, entry.on_hand_after, due)
    return Effect(_after(balance, settlement), (entry, settlement))


def issue(balance: Balance, quantity: Decimal) -> Effect:
    """`quantity` > 0 goes out with its share of the value; what empties the balance takes the whole value.

    The part that exceeds what is on hand is valued at the last average. Raises NotEnough."""
    on_hand = balance.on_hand
    if quantity < on_hand:
        return _entry_out(balance, quantity, _share(balance.value, quantity, on_hand))
    beyond = quantity - max(on_hand, ZERO)
    whole = balance.value if on_hand > 0 else ZERO
    return _entry_out(balance, quantity, whole + _times(beyond, balance.last_average or ZERO))


def adjust(balance: Balance, signed: Decimal) -> Effect:
    """A correction at moving average: a `signed` quantity above zero comes in, one below zero goes out.

    Raises NotEnough."""
    return receive(balance, signed) if signed > 0 else issue(balance, -signed)


def issue_at_value(balance: Balance, quantity: Decimal, value: Decimal) -> Effect:
    """`quantity` > 0 goes out with exactly the `value` it came in with: the reversal of a receipt.

    Two exceptions: what empties the balance takes its whole value; and if stock stays on hand but its value is less
    than `value`, the moving average is used. Raises NotEnough."""
    if balance.on_hand == quantity or (balance.on_hand > quantity and balance.value < value):
        return issue(balance, quantity)
    return _entry_out(balance, quantity, value)


def _entry_out(balance: Balance, quantity: Decimal, value: Decimal) -> Effect:
    if quantity > balance.on_hand and not balance.allows_negative:
        raise NotEnough(balance.on_hand)
    entry = _entry(balance, -quantity, -value)
    return Effect(_after(balance, entry), (entry,))


def _entry(balance: Balance, quantity: Decimal, value: Decimal) -> EntryAmounts:
    on_hand = balance.on_hand + quantity
    if not -_QUANTITY_END < on_hand < _QUANTITY_END:
        raise DoesNotFit("brings the quantity on hand beyond 12 digits before the point")
    return EntryAmounts(quantity, _money(value), on_hand, _money(balance.value + value))


def _money(value: Decimal) -> Decimal:
    if not -_MONEY_END < value < _MONEY_END:
        raise DoesNotFit("brings the value beyond 14 digits before the point")
    return value


def _after(balance: Balance, last: EntryAmounts) -> Balance:
    average = balance.last_average
    if last.on_hand_after > 0:
        average = EXACT.quantize(EXACT.divide(last.value_after, last.on_hand_after), _AVERAGE)
        if average >= _AVERAGE_END:
            raise DoesNotFit("leaves so little on hand for its value that no average can be stated")
    return Balance(last.on_hand_after, last.value_after, average, balance.allows_negative)


def _times(quantity: Decimal, unit: Decimal) -> Decimal:
    return EXACT.quantize(EXACT.multiply(quantity, unit), _MONEY)


def _share(value: Decimal, part: Decimal, whole: Decimal) -> Decimal:
    # EXACT has 80 digits: rounding the quotient to 80 digits first cannot change how it rounds to money
    return EXACT.quantize(EXACT.divide(EXACT.multiply(value, part), whole), _MONEY)
