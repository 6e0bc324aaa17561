"""What a movement is worth, at one moving average per item: plain arithmetic over exact decimals, without a database.

This module is the only home of the formulas. Quantities have 6 decimals, values 4, costs of one unit 10; every rounding
is half away from zero. With Q and V what is on hand of the item over all locations and its value, and c the cost that
was last paid for one, after every effect Q > 0 has V >= 0, Q = 0 has V = 0, and Q < 0 has V <= 0. A transfer has no
place here: which shelf a thing lies on does not change what it is worth.

Each function takes the value of an item and returns an `Effect`: the value after the movement, and the amounts of the
ledger entries that lead to it, in order. The second of them, of quantity zero, is a settlement. It says by how much the
movement's own value would miss the rules above: because stock was sold before it was paid for, or because what is given
back is there no more.
"""

from decimal import Decimal
from typing import NamedTuple

from msgspec import Struct

from erp_service.decimals import COST_SCALE, EXACT, MONEY_SCALE, PRECISION, QUANTITY_SCALE

SETTLEMENT = "settlement of negative stock"
"""The reason that a settlement after negative stock states."""
NOT_THERE = "what is given back was no longer all there"
"""The reason that the settlement of a reversal states."""

ZERO = Decimal(0)
_MONEY = Decimal(1).scaleb(-MONEY_SCALE)
_COST = Decimal(1).scaleb(-COST_SCALE)
# the smallest numbers that the columns cannot hold; costs have 28 digits, 10 of them decimals
_QUANTITY_END = Decimal(10) ** (PRECISION - QUANTITY_SCALE)
_MONEY_END = Decimal(10) ** (PRECISION - MONEY_SCALE)
_COST_END = Decimal(10) ** 18


class ItemValue(Struct, frozen=True, gc=False):
    """One item over all locations: Q, V, and c, which is None if no cost of it was ever stated."""

    on_hand: Decimal = ZERO
    value: Decimal = ZERO
    last_cost: Decimal | None = None


class Amounts(Struct, frozen=True, gc=False):
    """The signed amounts of one ledger entry, and the item after it."""

    quantity: Decimal
    value: Decimal
    on_hand_after: Decimal
    value_after: Decimal
    reason: str | None = None
    """Of a settlement, why there is one."""


class Effect(NamedTuple):
    """`parts` holds the movement's own entry and, if there is one, its settlement."""

    item: ItemValue
    parts: tuple[Amounts, ...]


class Revaluation(NamedTuple):
    """`not_covered` is the part of the difference that belongs to what is no longer on hand."""

    item: ItemValue
    part: Amounts
    not_covered: Decimal


class CostUnknown(Exception):
    """No cost of the item was ever stated, and this movement needs one. Zero can be stated; it is never guessed."""


class NothingOnHand(Exception):
    """There is nothing that could be worth the value."""


class DoesNotFit(Exception):
    """A quantity, a value or a cost is larger than the ledger can hold. The message says which, for a caller."""


def cost_of(quantity: Decimal, unit_cost: Decimal) -> Decimal:
    """The cost of all of them, as money."""
    return EXACT.quantize(EXACT.multiply(quantity, unit_cost), _MONEY)


def cost_of_one(cost: Decimal, quantity: Decimal) -> Decimal:
    """Raises DoesNotFit."""
    one = EXACT.quantize(EXACT.divide(cost, quantity), _COST)
    if one >= _COST_END:
        raise DoesNotFit("is so little for its cost that the cost of one cannot be stated")
    return one


def receive(
    item: ItemValue, quantity: Decimal, cost: Decimal | None = None, unit_cost: Decimal | None = None
) -> Effect:
    """`quantity` > 0 comes in and costs `cost`; without one it is valued at the average, else at the last cost.

    `unit_cost` is the cost of one as it was stated, of which `cost` may be rounded. Raises CostUnknown, DoesNotFit."""
    if cost is not None:
        last_cost = cost_of_one(cost, quantity) if unit_cost is None else unit_cost
        return _come_in(ItemValue(item.on_hand, item.value, last_cost), quantity, cost)
    if item.on_hand > 0:
        return _come_in(item, quantity, _share(item.value, quantity, item.on_hand))
    return _come_in(item, quantity, cost_of(quantity, _last_cost(item)))


def take_back(item: ItemValue, quantity: Decimal, value: Decimal) -> Effect:
    """`quantity` > 0 that went out comes in again, with exactly the `value` >= 0 that it took."""
    return _come_in(item, quantity, value)


def issue(item: ItemValue, quantity: Decimal) -> Effect:
    """`quantity` > 0 goes out with its share of the value. What empties the stock takes all of it; what goes below zero
    is valued at the last cost. Raises CostUnknown, DoesNotFit."""
    part = _entry(item, -quantity, -_worth(item, quantity))
    return Effect(_after(item, part), (part,))


def give_back(item: ItemValue, quantity: Decimal, value: Decimal) -> Effect:
    """`quantity` > 0 that came in goes out again, with the `value` >= 0 that it brought.

    As far as that is still there: else the stock gives what `issue` takes, and the settlement is the difference."""
    left = item.on_hand - quantity
    worth = value if left > 0 and value <= item.value else _worth(item, quantity)
    part = _entry(item, -quantity, -value)
    if worth == value:
        return Effect(_after(item, part), (part,))
    settlement = _settlement(part, item.value - worth, NOT_THERE)
    return Effect(_after(item, settlement), (part, settlement))


def revalue(item: ItemValue, difference: Decimal, quantity: Decimal | None = None) -> Revaluation:
    """A `difference` of value, signed, that belongs to `quantity` > 0 of the item; to all that is on hand if None.

    Of these no more than what is on hand can take their share, and no value falls below zero. The cost of one that the
    item is known to have changes by as much for each. Raises DoesNotFit."""
    there = max(item.on_hand, ZERO)
    if quantity is None or quantity <= there:
        covered = difference if there else ZERO
    else:
        covered = _share(difference, there, quantity)
    covered = max(covered, -item.value) if there else ZERO
    part = _entry(item, ZERO, covered)
    last_cost = item.last_cost
    belongs_to = there if quantity is None else quantity
    if last_cost is not None and belongs_to:
        each = EXACT.quantize(EXACT.divide(difference, belongs_to), _COST)
        last_cost = _held_cost(max(last_cost + each, ZERO))
    return Revaluation(_with(item, part, last_cost), part, difference - covered)


def set_value(item: ItemValue, value: Decimal) -> Revaluation:
    """What is on hand is worth `value` >= 0 from now on. Raises NothingOnHand, DoesNotFit."""
    if item.on_hand <= 0:
        raise NothingOnHand
    part = _entry(item, ZERO, value - item.value)
    return Revaluation(_with(item, part, cost_of_one(value, item.on_hand)), part, ZERO)


def set_unit_value(item: ItemValue, unit_value: Decimal) -> Revaluation:
    """One of it is worth `unit_value` >= 0 from now on, also while none is on hand. Raises DoesNotFit."""
    part = _entry(item, ZERO, cost_of(item.on_hand, unit_value) - item.value)
    return Revaluation(_with(item, part, unit_value), part, ZERO)


def undo_revaluation(item: ItemValue, difference: Decimal) -> Effect:
    """The other way what a revaluation changed by `difference`, as far as the value allows it: the settlement is the
    rest."""
    part = _entry(item, ZERO, -difference)
    allowed = part.value_after
    if item.on_hand == 0 or (item.on_hand > 0) == (allowed < 0):
        allowed = ZERO
    if allowed == part.value_after:
        return Effect(_after(item, part), (part,))
    settlement = _settlement(part, allowed, NOT_THERE)
    return Effect(_after(item, settlement), (part, settlement))


def parts_of(value: Decimal, weights: list[Decimal]) -> list[Decimal]:
    """`value` >= 0 shared in proportion to the weights, exactly: the last takes what rounding leaves."""
    whole = ZERO
    for weight in weights:
        whole = EXACT.add(whole, weight)
    shares = [_share(value, weight, whole) if whole else ZERO for weight in weights[:-1]]
    # each is rounded by itself, so together they may be more than there is
    for index, share in enumerate(shares):
        shares[index] = min(share, value - sum(shares[:index], ZERO))
    return [*shares, value - sum(shares, ZERO)]


def worth_of(item: ItemValue, quantity: Decimal) -> Decimal | None:
    """What so much of it is worth at the average, else at the last cost; None if that is not known. Not rounded."""
    one = EXACT.divide(item.value, item.on_hand) if item.on_hand > 0 else item.last_cost
    return None if one is None else EXACT.multiply(one, quantity)


def share_so_far(value: Decimal, part: Decimal, whole: Decimal) -> Decimal:
    """What the first `part` of `whole` has of the value. Differences of these shares add up to the value exactly."""
    return value if part == whole else _share(value, part, whole)


def _worth(item: ItemValue, quantity: Decimal) -> Decimal:
    """What `quantity` takes with it when it goes out."""
    if quantity < item.on_hand:
        return _share(item.value, quantity, item.on_hand)
    if quantity == item.on_hand:
        return item.value
    there = max(item.on_hand, ZERO)
    whole = item.value if item.on_hand > 0 else ZERO
    return whole + cost_of(quantity - there, _last_cost(item))


def _come_in(item: ItemValue, quantity: Decimal, value: Decimal) -> Effect:
    part = _entry(item, quantity, value)
    if item.on_hand >= 0:
        return Effect(_after(item, part), (part,))
    # what was sold too early turns out to have cost what is paid now
    due = _share(value, part.on_hand_after, quantity)
    if due == part.value_after:
        return Effect(_after(item, part), (part,))
    settlement = _settlement(part, due, SETTLEMENT)
    return Effect(_after(item, settlement), (part, settlement))


def _last_cost(item: ItemValue) -> Decimal:
    if item.last_cost is None:
        raise CostUnknown
    return item.last_cost


def _entry(item: ItemValue, quantity: Decimal, value: Decimal) -> Amounts:
    on_hand = item.on_hand + quantity
    if not -_QUANTITY_END < on_hand < _QUANTITY_END:
        raise DoesNotFit("brings the quantity on hand beyond 12 digits before the point")
    return Amounts(quantity, _money(value), on_hand, _money(item.value + value))


def _settlement(part: Amounts, value_after: Decimal, reason: str) -> Amounts:
    return Amounts(ZERO, _money(value_after - part.value_after), part.on_hand_after, _money(value_after), reason)


def _money(value: Decimal) -> Decimal:
    if not -_MONEY_END < value < _MONEY_END:
        raise DoesNotFit("brings the value beyond 14 digits before the point")
    return value or ZERO  # no negative zero


def _held_cost(cost: Decimal) -> Decimal:
    if cost >= _COST_END:
        raise DoesNotFit("brings the cost of one beyond 18 digits before the point")
    return cost


def _after(item: ItemValue, last: Amounts) -> ItemValue:
    return ItemValue(last.on_hand_after, last.value_after, item.last_cost)


def _with(item: ItemValue, last: Amounts, last_cost: Decimal | None) -> ItemValue:
    return ItemValue(last.on_hand_after, last.value_after, last_cost)


def _share(value: Decimal, part: Decimal, whole: Decimal) -> Decimal:
    # EXACT has 80 digits: rounding the quotient to 80 digits first cannot change how it rounds to money
    return EXACT.quantize(EXACT.divide(EXACT.multiply(value, part), whole), _MONEY)
