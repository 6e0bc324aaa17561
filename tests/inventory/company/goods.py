"""How items are counted: how far they can be divided, and in which packs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TypeVar

from tests.inventory.company.documents import Fault, Line, Refused
from tests.inventory.model import half_away, money

L = TypeVar("L")


class WrongUnit(Exception):
    def __init__(self, field: str):
        super().__init__(field)
        self.field = field


@dataclass(frozen=True)
class Goods:
    """`packs` are how many of the item's own unit one of each is."""

    decimals: int
    packs: Mapping[str, Fraction]

    def own(self, quantity: Fraction, unit: str) -> Fraction:
        """In the item's own unit. Raises WrongUnit."""
        exact = quantity * self._ratio(unit)
        if (exact * 10**self.decimals).denominator != 1:
            raise WrongUnit("quantity")
        return exact

    def own_cost(self, cost: Fraction | None, unit: str) -> Fraction | None:
        """Of one in the item's own unit."""
        return None if cost is None else half_away(cost / self._ratio(unit), 10)

    def line(self, line: Line) -> Line:
        """The same movement in the item's own unit; what it cost in all is in `total_cost`. Raises WrongUnit."""
        cost = line.total_cost if line.unit_cost is None else money(line.unit_cost * line.quantity)
        return replace(
            line,
            quantity=self.own(line.quantity, line.unit),
            unit_cost=self.own_cost(line.unit_cost, line.unit),
            total_cost=cost,
            unit_value=self.own_cost(line.unit_value, line.unit),
            unit="",
        )

    def _ratio(self, unit: str) -> Fraction:
        if unit and unit not in self.packs:
            raise WrongUnit("unit")
        return self.packs[unit] if unit else Fraction(1)


def each(lines: Sequence[L], convert: Callable[[L], L]) -> list[L]:
    """All of them converted. Raises Refused, which names every line that cannot be."""
    own, faults = [], []
    for index, line in enumerate(lines):
        try:
            own.append(convert(line))
        except WrongUnit as wrong:
            faults.append(Fault(index, wrong.field))
    if faults:
        raise Refused("invalid", faults=faults)
    return own
