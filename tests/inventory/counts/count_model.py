"""Two items at two places, and counts of these, in plain fractions: worded after the contract, and sharing no line with
the service."""

from collections import defaultdict
from copy import deepcopy
from dataclasses import dataclass, field
from fractions import Fraction

from tests.inventory.model import Item, Unknown, money

Quantities = dict[int, Fraction]
"""By the number of the item."""


class Refused(Exception):
    """`lines` are the numbers of the items that the problem names."""

    def __init__(self, problem: str, *lines: int) -> None:
        self.problem, self.lines = problem, lines


@dataclass
class Line:
    counted: Fraction
    expected: Fraction
    seen: int
    """How many movements of the item the place had seen when it was counted."""
    unit_cost: Fraction | None = None
    by_nobody: bool = False


@dataclass
class Count:
    place: str
    seen: dict[int, int]
    """As of a line, of each item, when the count was opened."""
    lines: dict[int, Line] = field(default_factory=dict)
    status: str = "OPEN"


@dataclass
class Stock:
    """`movements` says of each movement whether it was that of a count."""

    on_hand: dict[tuple[int, str], Fraction] = field(default_factory=lambda: defaultdict(Fraction))
    movements: dict[tuple[int, str], list[bool]] = field(default_factory=lambda: defaultdict(list))
    items: dict[int, Item] = field(default_factory=lambda: defaultdict(Item))
    counts: list[Count] = field(default_factory=list)

    def move(self, item: int, place: str, quantity: Fraction, unit_cost: Fraction | None = None) -> None:
        """All or nothing."""
        before = deepcopy(self)
        try:
            self._move(item, place, quantity, unit_cost, by_count=False)
        except Refused:
            self.__dict__ = before.__dict__
            raise

    def _move(self, item: int, place: str, quantity: Fraction, unit_cost: Fraction | None, *, by_count: bool) -> None:
        if quantity < 0 and self.on_hand[item, place] + quantity < 0 and not place.endswith("-"):
            raise Refused("insufficient-stock", item)
        try:
            if quantity < 0:
                self.items[item].issue(-quantity)
            else:
                cost = None if unit_cost is None else money(quantity * unit_cost)
                self.items[item].receive(quantity, cost, unit_cost)
        except Unknown:
            raise Refused("cost-unknown", item) from None
        self.on_hand[item, place] += quantity
        self.movements[item, place].append(by_count)

    def open(self, place: str) -> Count:
        count = Count(place, {item: len(self.movements[item, place]) for item in (0, 1)})
        self.counts.append(count)
        return count

    def record(self, count: Count, item: int, counted: Fraction | None, unit_cost: Fraction | None) -> None:
        count.lines.pop(item, None)
        if counted is not None:
            key = item, count.place
            count.lines[item] = Line(counted, self.on_hand[key], len(self.movements[key]), unit_cost)

    def moved(self, count: Count, lines: dict[int, Line]) -> list[int]:
        return [n for n, line in sorted(lines.items()) if len(self.movements[n, count.place]) > line.seen]

    def post(self, count: Count, *, accept_moved: bool, rest_is_missing: bool) -> Quantities:
        """The differences that are booked. Raises Refused, and then nothing has changed."""
        lines = dict(count.lines)
        for item in (0, 1):
            on_hand = self.on_hand[item, count.place]
            if rest_is_missing and on_hand and item not in lines:
                lines[item] = Line(Fraction(0), on_hand, count.seen[item], by_nobody=True)
        refused = []
        for item in self.moved(count, lines):
            corrected = any(self.movements[item, count.place][lines[item].seen :])
            if not accept_moved or lines[item].by_nobody or corrected:
                refused.append(item)
        if refused:
            raise Refused("stock-moved", *refused)
        differences = {n: one.counted - one.expected for n, one in sorted(lines.items()) if one.counted != one.expected}
        if any(self._is_unknown(lines[n], n) for n, difference in differences.items() if difference > 0):
            raise Refused("cost-unknown")
        before = deepcopy(self.on_hand), deepcopy(self.movements), deepcopy(self.items)
        try:
            for item, difference in differences.items():
                self._move(item, count.place, difference, lines[item].unit_cost, by_count=True)
        except Refused:
            self.on_hand, self.movements, self.items = before
            raise
        count.lines, count.status = lines, "POSTED"
        return differences

    def _is_unknown(self, line: Line, item: int) -> bool:
        return line.unit_cost is None and self.items[item].last_cost is None and self.items[item].on_hand <= 0
