"""One balance at moving average in plain fractions: worded after the contract, and sharing no line with the service."""

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from erp_service.inventory.posting.valuation import NotEnough

Step = tuple[str, Decimal, Decimal | None]
"""receive (with a unit cost or None), issue, adjust, receive_at_value, issue_at_value (with a value), and how much."""


def half_away(number: Fraction, scale: int) -> Fraction:
    shifted = abs(number) * 10**scale
    whole = (2 * shifted.numerator + shifted.denominator) // (2 * shifted.denominator)
    return Fraction(whole if number >= 0 else -whole, 10**scale)


@dataclass
class Model:
    """on hand, value and last average, as the contract words them ("Time and value in the ledger")."""

    on_hand: Fraction = Fraction(0)
    value: Fraction = Fraction(0)
    average: Fraction | None = None
    negative: bool = False

    def apply(self, step: Step) -> list[tuple[Fraction, Fraction]]:
        name, quantity, worth = step[0], Fraction(step[1]), None if step[2] is None else Fraction(step[2])
        if name == "adjust":
            name, quantity, worth = ("receive" if quantity > 0 else "issue"), abs(quantity), None
        entries = (
            self._in(name, quantity, worth) if name in ("receive", "receive_at_value") else self._out(quantity, worth)
        )
        for moved, value in entries:
            self.on_hand += moved
            self.value += value
        if self.on_hand > 0:
            self.average = half_away(self.value / self.on_hand, 10)
        return entries

    def _in(self, name: str, quantity: Fraction, worth: Fraction | None) -> list[tuple[Fraction, Fraction]]:
        if name == "receive_at_value" and worth is not None:
            value = worth
        elif worth is not None:
            value = half_away(quantity * worth, 4)
        elif self.on_hand > 0:
            value = half_away(self.value * quantity / self.on_hand, 4)
        else:
            value = half_away(quantity * (self.average or 0), 4)
        entries = [(quantity, value)]
        left = self.on_hand + quantity
        if self.on_hand < 0 and left >= 0:
            settled = half_away(value / quantity * left, 4) - (self.value + value)
            if settled:
                entries.append((Fraction(0), settled))
        return entries

    def _out(self, quantity: Fraction, worth: Fraction | None) -> list[tuple[Fraction, Fraction]]:
        if quantity > self.on_hand and not self.negative:
            raise NotEnough(Decimal(self.on_hand.numerator) / self.on_hand.denominator)
        rest = self.on_hand - quantity
        if rest == 0:
            return [(-quantity, -self.value)]
        if worth is not None and not (rest > 0 and self.value < worth):
            return [(-quantity, -worth)]
        if rest > 0:
            return [(-quantity, -half_away(self.value * quantity / self.on_hand, 4))]
        there = max(self.on_hand, Fraction(0))
        whole = self.value if there else Fraction(0)
        return [(-quantity, -(whole + half_away((quantity - there) * (self.average or 0), 4)))]
