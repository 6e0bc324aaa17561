"""What may be posted, reserved and counted."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

from tests.inventory.company.books import Key
from tests.inventory.company.counts import Counted
from tests.inventory.company.documents import ZERO, Line
from tests.inventory.stock_machine.catalogue import BOX, GOODS, ITEMS, PLACES, THIRD


def fractions(numbers: st.SearchStrategy[Any]) -> st.SearchStrategy[Fraction]:
    return numbers.map(Fraction)


money = fractions(st.one_of(st.integers(0, 9), st.decimals("0", "99", places=4, allow_nan=False)))
unit_costs = fractions(st.one_of(st.integers(0, 2), st.decimals("0", "9.9", places=10, allow_nan=False)))
days = st.none() | st.integers(0, 20)
items = st.sampled_from(ITEMS)
places = st.permutations(PLACES)
costs: st.SearchStrategy[tuple[Fraction | None, Fraction | None]] = st.one_of(
    st.just((None, None)),
    st.tuples(unit_costs, st.none()),
    st.tuples(unit_costs, st.none()),
    st.tuples(st.none(), money),
)
"""The unit cost and the total cost; one of them at most."""

Amount = tuple[Fraction, str]
"""A quantity and its unit; an empty one is the item's own."""

_PACKED = {
    BOX: fractions(st.sampled_from(["0.25", "0.5", "1", "0.25", "0.5", "0.375", "0.0625"])),
    THIRD: fractions(st.sampled_from(["3", "6", "1.5", "0.3", "9", "1"])),
}


def quantities(item: int) -> st.SearchStrategy[Fraction]:
    """In the item's own unit, mostly such as it can be divided into."""
    whole = st.integers(1, 4)
    decimals = GOODS[item].decimals
    if not decimals:
        return fractions(st.sampled_from([1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6, 1, 2, 3, "1.5"]))
    return fractions(whole | st.decimals(Fraction(1, 10**decimals), "2", places=decimals, allow_nan=False))


def amounts(item: int) -> st.SearchStrategy[Amount]:
    own = st.tuples(quantities(item), st.just(""))
    packed: list[st.SearchStrategy[Amount]] = [
        st.tuples(_PACKED[unit], st.just(unit)) for unit in sorted(GOODS[item].packs)
    ]
    unknown = st.just((Fraction(1), "barrel"))
    return st.sampled_from([own] * 15 + packed * 2 + [unknown]).flatmap(lambda chosen: chosen)


@st.composite
def lines(draw: st.DrawFn, *kinds: str) -> Line:
    kind, item, day = draw(st.sampled_from(kinds)), draw(items), draw(days)
    if kind == "REVALUATION":
        return draw(revaluations(item, day))
    place, to, _ = draw(places)
    quantity, unit = draw(amounts(item))
    line = Line(kind, item, place, to if kind == "TRANSFER" else "", quantity, unit, day=day)
    if kind == "ADJUSTMENT" and draw(st.booleans()):
        return replace(line, quantity=-line.quantity)
    if kind not in ("IN", "ADJUSTMENT"):
        return line
    unit_cost, total_cost = draw(costs)
    return replace(line, unit_cost=unit_cost, total_cost=total_cost)


@st.composite
def revaluations(draw: st.DrawFn, item: int, day: int | None) -> Line:
    line = Line("REVALUATION", item, day=day)
    match draw(st.sampled_from(["difference", "difference", "value", "unit_value"])):
        case "value":
            return replace(line, value=draw(money))
        case "unit_value":
            unit = draw(st.sampled_from(["", *sorted(GOODS[item].packs)]))
            return replace(line, unit_value=draw(unit_costs), unit=unit)
    quantity, unit = draw(st.just((ZERO, "")) | amounts(item))
    difference = draw(money | money.map(lambda amount: -amount))
    return replace(line, difference=difference, quantity=quantity, unit=unit)


@st.composite
def deliveries(draw: st.DrawFn) -> list[Line]:
    """So much that most of what follows finds something; of an item that is left out no cost is known."""
    delivery = []
    for item in ITEMS:
        if draw(st.integers(0, 9)) < 9:
            for place in draw(places)[: draw(st.integers(1, 3))]:
                quantity, day = Fraction(draw(st.integers(3, 12))), draw(st.none() | st.integers(0, 3))
                delivery.append(Line("IN", item, place, quantity=quantity, unit_cost=draw(unit_costs), day=day))
    return delivery


any_line = lines("IN", "IN", "OUT", "OUT", "TRANSFER", "ADJUSTMENT", "REVALUATION")


@st.composite
def kits(draw: st.DrawFn, there: Sequence[Key]) -> Line:
    """Mostly of what is there; `there` is some of it."""
    kit, kit_place = draw(st.sampled_from(there))
    others = [key for key in there if key[0] != kit] * 3 + [(n, at) for n in ITEMS if n != kit for at in PLACES]
    parts = []
    for item, place in draw(st.lists(st.sampled_from(others), min_size=1, max_size=3)):
        quantity, unit = draw(amounts(item))
        parts.append(Line("", item, place, quantity=quantity, unit=unit))
    place, (quantity, unit), day = draw(st.sampled_from([kit_place, *PLACES])), draw(amounts(kit)), draw(days)
    disassemble = draw(st.booleans())
    return Line("", kit, place, quantity=quantity, unit=unit, day=day, components=tuple(parts), disassemble=disassemble)


@st.composite
def counted_items(draw: st.DrawFn, on_hand: Sequence[Fraction]) -> list[Counted]:
    """Some of the items, each once; often as the books have it."""
    chosen = draw(st.lists(items, min_size=1, max_size=len(ITEMS), unique=True))
    counted = []
    for item in chosen:
        as_it_is = st.just((max(on_hand[item], ZERO), ""))
        quantity, unit = draw(st.one_of(amounts(item), amounts(item), as_it_is, st.just((ZERO, "")), st.none())) or (
            None,
            "",
        )
        unit_cost, total_cost = draw(costs) if quantity else (None, None)
        counted.append(Counted(item, quantity, unit, unit_cost, total_cost))
    return counted
