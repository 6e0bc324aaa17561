"""The arithmetic of one item's value, against a model in plain fractions that shares no line with it."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from erp_service.decimals import shortest
from erp_service.inventory.posting import valuation
from erp_service.inventory.posting.valuation import Amounts, CostUnknown, DoesNotFit, ItemValue
from tests.inventory.model import Entries, Item, Unknown, half_away

Step = tuple[str, Decimal, Decimal | None]
"""What is done, how much, and a cost, a value or a quantity that belongs to it."""
D = Decimal


def really(item: ItemValue, step: Step) -> tuple[ItemValue, tuple[Amounts, ...], Decimal]:
    """And what a revaluation does not cover."""
    name, amount, other = step
    match name:
        case "receive":
            return *valuation.receive(item, amount, other), D(0)
        case "issue":
            return *valuation.issue(item, amount), D(0)
        case "take_back":
            return *valuation.take_back(item, amount, other or D(0)), D(0)
        case "give_back":
            return *valuation.give_back(item, amount, other or D(0)), D(0)
        case "revalue":
            item, part, not_covered = valuation.revalue(item, amount, other)
            return item, (part,), not_covered
    item, part, not_covered = valuation.set_unit_value(item, amount)
    return item, (part,), not_covered


def expected(model: Item, step: Step) -> tuple[Entries, Fraction]:
    name, amount, other = step[0], Fraction(step[1]), None if step[2] is None else Fraction(step[2])
    match name:
        case "receive":
            return model.receive(amount, other), Fraction(0)
        case "issue":
            return model.issue(amount), Fraction(0)
        case "take_back":
            return model.take_back(amount, other or Fraction(0)), Fraction(0)
        case "give_back":
            return model.give_back(amount, other or Fraction(0)), Fraction(0)
        case "revalue":
            return model.revalue(amount, other)
    return model.set_unit_value(amount), Fraction(0)


def decimals(least: str, most: str, places: int) -> st.SearchStrategy[Decimal]:
    return st.decimals(Decimal(least), Decimal(most), allow_nan=False, places=places)


# Few and coarse values meet each other at exactly zero; fine ones reach the roundings.
quantities = st.one_of(st.integers(1, 6).map(Decimal), decimals("0.000001", "3", 6), decimals("0.1", "9999", 1))
costs = st.one_of(st.integers(0, 3).map(Decimal), decimals("0", "9.9999", 4), decimals("0", "99999", 2))
steps = st.one_of(
    st.tuples(st.just("receive"), quantities, st.none() | costs),
    st.tuples(st.just("issue"), quantities, st.none()),
    st.tuples(st.sampled_from(["take_back", "give_back"]), quantities, costs),
    st.tuples(st.just("revalue"), costs | costs.map(lambda cost: -cost), st.none() | quantities),
    st.tuples(st.just("set_unit_value"), costs, st.none()),
)


@given(st.lists(steps, max_size=30))
@example([("receive", D(10), D(50)), ("issue", D(20), None), ("receive", D(9), D(450)), ("issue", D(9), None)])
@example([("receive", D(3), D("0.0003")), ("issue", D(1), None), ("issue", D(2), None)])
def test_every_effect_is_that_of_the_model(history: list[Step]) -> None:
    item, model = ItemValue(), Item()
    for step in history:
        before = item
        try:
            entries, not_covered = expected(model, step)
        except Unknown:
            with pytest.raises(CostUnknown):
                really(item, step)
            continue
        item, parts, uncovered = really(item, step)
        assert [(Fraction(p.quantity), Fraction(p.value)) for p in parts] == entries
        assert [Fraction(item.on_hand), Fraction(item.value)] == [model.on_hand, model.value]
        assert item.last_cost == model.last_cost
        assert Fraction(uncovered) == not_covered
        assert_sound(before, item, parts)


def assert_sound(before: ItemValue, after: ItemValue, parts: tuple[Amounts, ...]) -> None:
    """What must hold whatever the rules are: the sums, the chain, the scales, the signs."""
    on_hand, value = before.on_hand, before.value
    for part in parts:
        on_hand, value = on_hand + part.quantity, value + part.value
        assert (part.on_hand_after, part.value_after) == (on_hand, value)
        assert exponent(part.quantity) >= -6
        assert exponent(part.value) >= -4
    assert (on_hand, value) == (after.on_hand, after.value)
    assert after.on_hand != 0 or after.value == 0
    assert after.value * after.on_hand >= 0, "a value of the other sign"
    assert all(p.quantity == 0 and p.reason for p in parts[1:])
    numbers = [n for p in parts for n in (p.quantity, p.value, p.on_hand_after, p.value_after)]
    assert not any(number.is_signed() and not number for number in numbers), "a negative zero"


def figures(*numbers: Decimal) -> str:
    return " ".join(map(shortest, numbers))


def exponent(number: Decimal) -> int:
    digits = number.as_tuple().exponent
    assert isinstance(digits, int)
    return digits


def after(*history: Step) -> ItemValue:
    item = ItemValue()
    for step in history:
        item, _, _ = really(item, step)
    return item


def test_what_empties_the_stock_takes_all_that_is_left() -> None:
    item, (first,) = valuation.issue(after(("receive", D(3), D("0.9999"))), D(1))
    empty, (second,) = valuation.issue(item, D(2))
    assert [first.value, second.value] == [D("-0.3333"), D("-0.6666")]
    assert empty == ItemValue(last_cost=D("0.3333"))


def test_a_cost_that_was_never_stated_is_asked_for_and_never_guessed() -> None:
    with pytest.raises(CostUnknown):
        valuation.receive(ItemValue(), D(4))
    with pytest.raises(CostUnknown):
        valuation.issue(ItemValue(), D(4))
    free = valuation.receive(ItemValue(), D(4), D(0)).item
    assert valuation.receive(free, D(1)).parts[0].value == 0, "a cost of 0 is a cost"


def test_receipt_without_a_cost_comes_in_at_the_average_then_at_the_last_cost() -> None:
    stocked = after(("receive", D(4), D(10)), ("receive", D(4), D(20)))
    assert valuation.receive(stocked, D(2)).parts[0].value == D("7.5")
    empty = valuation.issue(stocked, D(8)).item
    assert valuation.receive(empty, D(2)).parts[0].value == 10


def test_goods_received_for_nothing_are_part_of_the_average() -> None:
    item = after(("receive", D(10), D(50)), ("receive", D(10), D(0)))
    assert valuation.issue(item, D(2)).parts[0].value == -5


def test_what_was_sold_too_early_turns_out_to_have_cost_what_is_paid_now() -> None:
    """IN 10 at 5, OUT 20, IN 9 at 50: another system was left with +355 for minus one piece after one more OUT of 9."""
    below = after(("receive", D(10), D(50)), ("issue", D(20), None))
    assert figures(below.on_hand, below.value) == "-10 -50"
    item, (receipt, settlement) = valuation.receive(below, D(9), D(450))
    assert figures(receipt.quantity, receipt.value) == "9 450"
    assert figures(settlement.quantity, settlement.value) == "0 -450"
    assert figures(item.on_hand, item.value) == "-1 -50"
    assert figures(valuation.issue(item, D(9)).item.value) == "-500"


def test_crossing_back_to_exactly_zero_leaves_no_value() -> None:
    below = after(("receive", D(1), D(10)), ("issue", D(3), None))
    item, parts = valuation.receive(below, D(2), D(22))
    assert figures(*(part.value for part in parts)) == "22 -2"
    assert figures(item.on_hand, item.value) == "0 0"


def test_a_return_takes_what_came_in_and_what_is_no_longer_there_is_said() -> None:
    dear = after(("receive", D(1), D(1)), ("receive", D(1), D(9)))
    assert valuation.give_back(dear, D(1), D(9)).item.value == 1
    less = after(("receive", D(1), D(1)), ("receive", D(1), D(9)), ("receive", D(1), D(0)), ("issue", D(1), None))
    assert less.value == D("6.6667")
    item, (back, settlement) = valuation.give_back(less, D(1), D(9))
    assert figures(back.value, settlement.value, item.value) == "-9 5.6666 3.3333"
    assert settlement.reason == valuation.NOT_THERE
    item, (back, settlement) = valuation.give_back(less, D(2), D(1))
    assert figures(back.value, settlement.value, item.value) == "-1 -5.6667 0"


def test_a_freight_bill_belongs_only_to_what_is_still_there_and_the_rest_is_answered() -> None:
    item, part, not_covered = valuation.revalue(after(("receive", D(30), D(300))), D(100), D(50))
    assert figures(part.quantity, part.value, not_covered, item.value) == "0 60 40 360"
    assert item.last_cost == 12
    item, part, not_covered = valuation.revalue(ItemValue(last_cost=D(10)), D(100), D(50))
    assert figures(part.value, not_covered) == "0 100"


def test_no_revaluation_makes_goods_worth_less_than_nothing() -> None:
    item, part, not_covered = valuation.revalue(after(("receive", D(2), D(10))), D(-25))
    assert figures(part.value, not_covered, item.value) == "-10 -15 0"


def test_undoing_a_revaluation_takes_no_more_than_there_is() -> None:
    item, parts = valuation.undo_revaluation(ItemValue(D(1), D(4)), D(10))
    assert figures(*(part.value for part in parts), item.value) == "-10 6 0"
    item, parts = valuation.undo_revaluation(ItemValue(D(1), D(4)), D(-10))
    assert figures(*(part.value for part in parts), item.value) == "10 14"


BIG = Decimal(999999999999)


@pytest.mark.parametrize(
    ("item", "act"),
    [
        (ItemValue(BIG, D(0), D(0)), lambda i: valuation.receive(i, D(1))),
        (ItemValue(-BIG, D(0), D(0)), lambda i: valuation.issue(i, D(1))),
        (ItemValue(), lambda i: valuation.receive(i, BIG, valuation.cost_of(BIG, BIG))),
        (ItemValue(D(1), D(99999999999999)), lambda i: valuation.receive(i, D(1), D(1))),
        (ItemValue(), lambda i: valuation.receive(i, D("0.000001"), D(99999999999999))),
        (ItemValue(D(1), D(1), D(1)), lambda i: valuation.revalue(i, D(10) ** 13, D("0.000001"))),
    ],
)
def test_what_the_columns_cannot_hold_is_refused(item: ItemValue, act: Any) -> None:
    with pytest.raises(DoesNotFit):
        act(item)


@given(
    on_hand=st.decimals(Decimal("0.000001"), BIG, allow_nan=False, places=6),
    value=st.decimals(Decimal(0), Decimal("9" * 14), allow_nan=False, places=4),
    part=st.fractions(0, 1),
)
def test_shares_of_the_largest_stocks_are_exact(on_hand: Decimal, value: Decimal, part: Fraction) -> None:
    quantity = Decimal(int(part * int(on_hand * 10**6))).scaleb(-6)
    if not 0 < quantity < on_hand:
        quantity = on_hand
    effect = valuation.issue(ItemValue(on_hand, value), quantity)
    assert Fraction(effect.parts[0].value) == -half_away(Fraction(value) * Fraction(quantity) / Fraction(on_hand), 4)


@given(value=decimals("0", "99999", 4), weights=st.lists(decimals("0", "999", 6), min_size=1, max_size=8))
def test_the_parts_of_a_value_add_up_to_it_and_none_is_below_zero(value: Decimal, weights: list[Decimal]) -> None:
    parts = valuation.parts_of(value, weights)
    assert sum(parts) == value
    assert all(part >= 0 for part in parts)


@given(value=decimals("0", "99999", 4), pieces=st.lists(decimals("0.000001", "99", 6), min_size=1, max_size=8))
def test_shares_taken_one_after_the_other_add_up_to_the_value(value: Decimal, pieces: list[Decimal]) -> None:
    whole, so_far, given_back = sum(pieces, D(0)), D(0), D(0)
    for piece in pieces:
        share = valuation.share_so_far(value, so_far + piece, whole) - valuation.share_so_far(value, so_far, whole)
        assert share >= 0
        so_far, given_back = so_far + piece, given_back + share
    assert given_back == value
