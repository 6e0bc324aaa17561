"""The arithmetic of one balance, against a model in plain fractions that shares no line with it."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import astuple

from erp_service.decimals import shortest
from erp_service.inventory.posting import valuation
from erp_service.inventory.posting.valuation import Balance, DoesNotFit, NotEnough
from tests.inventory.model import Model, Step, half_away


def really(balance: Balance, step: Step) -> valuation.Effect:
    name, quantity, worth = step
    if name == "issue":
        return valuation.issue(balance, quantity)
    if name == "adjust":
        return valuation.adjust(balance, quantity)
    if name == "receive":
        return valuation.receive(balance, quantity, worth)
    assert worth is not None
    return (
        valuation.receive_at_value(balance, quantity, worth)
        if name == "receive_at_value"
        else valuation.issue_at_value(balance, quantity, worth)
    )


def thousandths(least: str, most: str, places: int) -> st.SearchStrategy[Decimal]:
    return st.decimals(Decimal(least), Decimal(most), allow_nan=False, places=places)


# Few and coarse values meet each other at exactly zero; fine ones reach the roundings.
quantities = st.one_of(st.integers(1, 6).map(Decimal), thousandths("0.000001", "3", 6), thousandths("0.1", "9999", 1))
costs = st.one_of(st.integers(0, 3).map(Decimal), thousandths("0", "9.9999", 4), thousandths("0", "99999", 2))
steps = st.one_of(
    st.tuples(st.just("receive"), quantities, st.none() | costs),
    st.tuples(st.just("issue"), quantities, st.none()),
    st.tuples(st.just("adjust"), quantities | quantities.map(lambda q: -q), st.none()),
    st.tuples(st.sampled_from(["receive_at_value", "issue_at_value"]), quantities, costs),
)


@given(st.lists(steps, max_size=30), st.booleans())
@example([("issue", Decimal(5), None), ("receive", Decimal(5), Decimal("1.5"))], True)
@example([("receive", Decimal(3), Decimal("0.0001")), ("issue", Decimal(1), None), ("issue", Decimal(2), None)], False)
def test_every_effect_is_that_of_the_model(history: list[Step], negative: bool) -> None:
    balance, model = Balance(allows_negative=negative), Model(negative=negative)
    for step in history:
        before = balance
        try:
            expected = model.apply(step)
        except NotEnough:
            with pytest.raises(NotEnough) as refused:
                really(balance, step)
            assert refused.value.available == balance.on_hand
            continue
        balance, parts = really(balance, step)
        assert [(Fraction(p.quantity), Fraction(p.value)) for p in parts] == expected
        assert [Fraction(balance.on_hand), Fraction(balance.value)] == [model.on_hand, model.value]
        assert balance.last_average == model.average
        assert_sound(before, balance, parts)


def assert_sound(before: Balance, after: Balance, parts: tuple[valuation.EntryAmounts, ...]) -> None:
    """What must hold whatever the rules are: the sums, the chain, the scales, and no value out of nothing."""
    assert before.on_hand + sum(p.quantity for p in parts) == after.on_hand
    assert before.value + sum(p.value for p in parts) == after.value
    on_hand, value = before.on_hand, before.value
    for part in parts:
        on_hand, value = on_hand + part.quantity, value + part.value
        assert (part.on_hand_after, part.value_after) == (on_hand, value)
        assert exponent(part.quantity) >= -6
        assert exponent(part.value) >= -4
    assert after.on_hand != 0 or after.value == 0
    assert after.on_hand <= 0 or after.value >= 0
    assert all(p.quantity == 0 for p in parts[1:])
    numbers = [number for part in parts for number in astuple(part)]
    assert not any(number.is_signed() and not number for number in numbers), "a negative zero"


def figures(*numbers: Decimal) -> str:
    return " ".join(map(shortest, numbers))


def exponent(number: Decimal) -> int:
    found = number.as_tuple().exponent
    assert isinstance(found, int)
    return found


def test_what_empties_a_balance_takes_all_that_is_left() -> None:
    balance = valuation.receive(Balance(), Decimal(3), Decimal("0.3333")).balance
    first = valuation.issue(balance, Decimal(1))
    second = valuation.issue(first.balance, Decimal(2))
    assert [first.parts[0].value, second.parts[0].value] == [Decimal("-0.3333"), Decimal("-0.6666")]
    assert second.balance == Balance(last_average=Decimal("0.3333"))


def test_receipt_without_a_cost_comes_in_at_the_average_then_the_last_known_then_zero() -> None:
    assert valuation.receive(Balance(), Decimal(4)).parts[0].value == 0
    stocked = valuation.receive(Balance(), Decimal(4), Decimal("2.5")).balance
    assert valuation.receive(stocked, Decimal(2)).parts[0].value == 5
    empty = valuation.issue(stocked, Decimal(4)).balance
    assert valuation.receive(empty, Decimal(2)).parts[0].value == 5


def test_crossing_back_from_below_zero_is_settled_at_what_the_receipt_was_worth() -> None:
    below = valuation.issue(
        valuation.receive(Balance(allows_negative=True), Decimal(2), Decimal(10)).balance, Decimal(5)
    ).balance
    assert figures(below.on_hand, below.value) == "-3 -30"
    still_below = valuation.receive(below, Decimal(1), Decimal(12))
    assert len(still_below.parts) == 1
    balance, (receipt, settlement) = valuation.receive(still_below.balance, Decimal(6), Decimal(12))
    assert figures(receipt.quantity, receipt.value) == "6 72"
    assert figures(settlement.quantity, settlement.value) == "0 -6"  # 4 left are worth 48, and -18 + 72 = 54
    assert figures(balance.on_hand, balance.value, balance.last_average or Decimal(0)) == "4 48 12"


def test_crossing_back_to_exactly_zero_leaves_no_value() -> None:
    below = valuation.issue(
        valuation.receive(Balance(allows_negative=True), Decimal(1), Decimal(10)).balance, Decimal(3)
    )
    balance, parts = valuation.receive(below.balance, Decimal(2), Decimal(11))
    assert figures(*(part.value for part in parts)) == "22 -2"
    assert figures(balance.on_hand, balance.value) == "0 0"


def test_taking_back_takes_what_came_in_unless_it_is_no_longer_there() -> None:
    dear = valuation.receive(
        valuation.receive(Balance(), Decimal(1), Decimal(1)).balance, Decimal(1), Decimal(9)
    ).balance
    assert valuation.issue_at_value(dear, Decimal(1), Decimal(9)).balance.value == 1
    less = valuation.issue(valuation.receive(dear, Decimal(1), Decimal(0)).balance, Decimal(1)).balance
    assert less.value == Decimal("6.6667")
    assert valuation.issue_at_value(less, Decimal(1), Decimal(9)).parts[0].value == Decimal("-3.3334")
    assert valuation.issue_at_value(less, Decimal(2), Decimal(1)).parts[0].value == Decimal("-6.6667")


BIG = Decimal(999999999999)


@pytest.mark.parametrize(
    ("balance", "act"),
    [
        (Balance(BIG, Decimal(0), Decimal(0)), lambda b: valuation.receive(b, Decimal(1))),
        (Balance(-BIG, Decimal(0), None, True), lambda b: valuation.issue(b, Decimal(1))),
        (Balance(), lambda b: valuation.receive(b, BIG, BIG)),
        (Balance(Decimal(1), Decimal(99999999999999)), lambda b: valuation.receive(b, Decimal(1), Decimal(1))),
        (
            Balance(Decimal("1.000001"), Decimal(45000000000000)),
            lambda b: valuation.issue_at_value(b, Decimal(1), Decimal(0)),
        ),
    ],
)
def test_what_the_columns_cannot_hold_is_refused(balance: Balance, act: Any) -> None:
    with pytest.raises(DoesNotFit):
        act(balance)


@given(
    on_hand=st.decimals(Decimal("0.000001"), BIG, allow_nan=False, places=6),
    value=st.decimals(Decimal(0), Decimal("9" * 14), allow_nan=False, places=4),
    part=st.fractions(0, 1),
)
def test_shares_of_the_largest_balances_are_exact(on_hand: Decimal, value: Decimal, part: Fraction) -> None:
    quantity = Decimal(int(part * int(on_hand * 10**6))).scaleb(-6)
    if not 0 < quantity < on_hand:
        quantity = on_hand
    try:
        effect = valuation.issue(Balance(on_hand, value), quantity)
    except DoesNotFit:
        assert value > 10**17 * (on_hand - quantity) > 0
        return
    expected = half_away(Fraction(value) * Fraction(quantity) / Fraction(on_hand), 4)
    assert Fraction(effect.parts[0].value) == -expected
