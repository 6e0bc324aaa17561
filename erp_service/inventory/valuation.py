"""What a movement does to one balance, at moving average: plain arithmetic over exact decimals, and nothing else.

Quantities have 6 decimals, values 4, averages 10, and every rounding is half away from zero. Each function takes a
balance and gives an `Effect`: the balance after, and the ledger entries that lead there, in order. Two things hold
after every effect: nothing on hand is worth nothing, and what is on hand is never worth less than nothing.

Below zero, stock goes out at an average that may prove wrong. The movement that brings the balance back to zero or
above is therefore followed by a settlement, an entry of quantity zero, after which what is on hand is worth what that
movement's units were worth.
"""

from decimal import Decimal
from typing import NamedTuple

import msgspec

from erp_service.decimals import EXACT, MONEY_SCALE, PRECISION, QUANTITY_SCALE, shortest

SETTLEMENT = "settlement of negative stock"
"""The reason that a settlement entry states."""

ZERO = Decimal(0)
_MONEY = Decimal(1).scaleb(-MONEY_SCALE)
_AVERAGE = Decimal(1).scaleb(-10)
# the first numbers that the columns cannot hold; averages have 28 digits, 10 of them decimals
_QUANTITY_END = Decimal(10) ** (PRECISION - QUANTITY_SCALE)
_MONEY_END = Decimal(10) ** (PRECISION - MONEY_SCALE)
_AVERAGE_END = Decimal(10) ** 18


class Balance(msgspec.Struct, frozen=True):
    """One item at one place. `last_average` is the value of one unit when there last was stock, None if never."""

    on_hand: Decimal = ZERO
    value: Decimal = ZERO
    last_average: Decimal | None = None
    allows_negative: bool = False


class EntryAmounts(NamedTuple):
    """One ledger entry, signed, and the balance after it. A quantity of zero is a settlement."""

    quantity: Decimal
    value: Decimal
    on_hand_after: Decimal
    value_after: Decimal


class Effect(NamedTuple):
    """`parts` holds the movement's own entry first and, where the balance came back from below zero, a settlement."""

    balance: Balance
    parts: tuple[EntryAmounts, ...]


class NotEnough(Exception):
    """More goes out than is on hand, where stock may not become negative."""

    def __init__(self, available: Decimal) -> None:
        super().__init__(f"{shortest(available)} available")
        self.available = available


class DoesNotFit(Exception):
    """A quantity, a value or an average grows beyond what the ledger can hold. The text says which, for a caller."""


def receive(balance: Balance, quantity: Decimal, unit_cost: Decimal | None = None) -> Effect:
    """`quantity` > 0 comes in at its cost; without one at the present average, else the last known, else at zero."""
    if unit_cost is not None:
        value = _times(quantity, unit_cost)
    elif balance.on_hand > 0:
        value = _share(balance.value, quantity, balance.on_hand)
    else:
        value = _times(quantity, balance.last_average or ZERO)
    return receive_at_value(balance, quantity, value)


def receive_at_value(balance: Balance, quantity: Decimal, value: Decimal) -> Effect:
    """`quantity` > 0 comes in and is worth exactly `value` >= 0: what a transfer took elsewhere, what is taken back."""
    entry = _entry(balance, quantity, value)
    if not balance.on_hand < 0 <= entry.on_hand_after:
        return Effect(_after(balance, entry), (entry,))
    due = _share(value, entry.on_hand_after, quantity)
    if due == entry.value_after:
        return Effect(_after(balance, entry), (entry,))
    # always fits: with 0 <= due <= value, it lies between minus the value after the entry and minus the one before
    settlement = EntryAmounts(ZERO, due - entry.value_after, entry.on_hand_after, due)
    return Effect(_after(balance, settlement), (entry, settlement))


def issue(balance: Balance, quantity: Decimal) -> Effect:
    """`quantity` > 0 goes out with its share of the value; the last piece takes the rest, what is beyond it the last
    average. Raises NotEnough."""
    on_hand = balance.on_hand
    if quantity < on_hand:
        return _take(balance, quantity, _share(balance.value, quantity, on_hand))
    beyond = quantity - max(on_hand, ZERO)
    whole = balance.value if on_hand > 0 else ZERO
    return _take(balance, quantity, whole + _times(beyond, balance.last_average or ZERO))


def adjust(balance: Balance, signed: Decimal) -> Effect:
    """A correction: what is found comes in at the average, what is missing goes out at it. Raises NotEnough."""
    return receive(balance, signed) if signed > 0 else issue(balance, -signed)


def issue_at_value(balance: Balance, quantity: Decimal, value: Decimal) -> Effect:
    """The `quantity` > 0 that came in with `value` goes out again, with exactly that value; but what empties the
    balance takes all, and where that value is no longer there the moving average counts. Raises NotEnough."""
    if balance.on_hand == quantity or (balance.on_hand > quantity and balance.value < value):
        return issue(balance, quantity)
    return _take(balance, quantity, value)


def _take(balance: Balance, quantity: Decimal, value: Decimal) -> Effect:
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
        average = EXACT.divide(last.value_after, last.on_hand_after).quantize(_AVERAGE, context=EXACT)
        if average >= _AVERAGE_END:
            raise DoesNotFit("leaves so little on hand for its value that no average can be stated")
    return Balance(last.on_hand_after, last.value_after, average, balance.allows_negative)


def _times(quantity: Decimal, unit: Decimal) -> Decimal:
    return EXACT.multiply(quantity, unit).quantize(_MONEY, context=EXACT)


def _share(value: Decimal, part: Decimal, whole: Decimal) -> Decimal:
    # 80 digits are so many that rounding the quotient twice cannot differ from rounding it once
    return EXACT.divide(EXACT.multiply(value, part), whole).quantize(_MONEY, context=EXACT)
