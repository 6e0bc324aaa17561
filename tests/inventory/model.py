"""One item at one moving average over all locations, in plain fractions: worded after the contract ("Time and value in
the ledger"), and sharing no line with the service."""

from dataclasses import dataclass
from fractions import Fraction


class Unknown(Exception):
    """No cost was ever stated."""


def half_away(number: Fraction, scale: int) -> Fraction:
    shifted = abs(number) * 10**scale
    whole = (2 * shifted.numerator + shifted.denominator) // (2 * shifted.denominator)
    return Fraction(whole if number >= 0 else -whole, 10**scale)


def money(number: Fraction) -> Fraction:
    return half_away(number, 4)


Entries = list[tuple[Fraction, Fraction]]
"""The signed quantity and value of each entry of a movement."""


@dataclass
class Item:
    """Q, V and c of the contract."""

    on_hand: Fraction = Fraction(0)
    value: Fraction = Fraction(0)
    last_cost: Fraction | None = None

    def receive(self, q: Fraction, cost: Fraction | None = None, unit_cost: Fraction | None = None) -> Entries:
        if cost is not None:
            self.last_cost = half_away(cost / q, 10) if unit_cost is None else unit_cost
        elif self.on_hand > 0:
            cost = money(self.value * q / self.on_hand)
        else:
            cost = money(q * self._known())
        return self.take_back(q, cost)

    def take_back(self, q: Fraction, worth: Fraction) -> Entries:
        entries = [(q, worth)]
        if self.on_hand < 0:
            rest = money((self.on_hand + q) * worth / q) - (self.value + worth)
            entries += [(Fraction(0), rest)] if rest else []
        return self._done(entries)

    def issue(self, q: Fraction) -> Entries:
        return self._done([(-q, -self._share(q))])

    def give_back(self, q: Fraction, worth: Fraction) -> Entries:
        still_there = self.on_hand > q and self.value >= worth
        goes = worth if still_there else self._share(q)
        return self._done([(-q, -worth), *([(Fraction(0), worth - goes)] if goes != worth else [])])

    def revalue(self, difference: Fraction, quantity: Fraction | None) -> tuple[Entries, Fraction]:
        """And what is not covered."""
        there = max(self.on_hand, Fraction(0))
        of = there if quantity is None else quantity
        covered = money(difference * min(there, of) / of) if of and there else Fraction(0)
        if there:
            covered = max(covered, -self.value)
        if of and self.last_cost is not None:
            self.last_cost = max(self.last_cost + half_away(difference / of, 10), Fraction(0))
        return self._done([(Fraction(0), covered)]), difference - covered

    def set_value(self, value: Fraction) -> Entries:
        """Of what is on hand, more than nothing."""
        self.last_cost = half_away(value / self.on_hand, 10)
        return self._done([(Fraction(0), value - self.value)])

    def set_unit_value(self, unit_value: Fraction) -> Entries:
        self.last_cost = unit_value
        return self._done([(Fraction(0), money(self.on_hand * unit_value) - self.value)])

    def _share(self, q: Fraction) -> Fraction:
        if q < self.on_hand:
            return money(self.value * q / self.on_hand)
        if q == self.on_hand:
            return self.value
        there = max(self.on_hand, Fraction(0))
        return (self.value if there else 0) + money((q - there) * self._known())

    def _known(self) -> Fraction:
        if self.last_cost is None:
            raise Unknown
        return self.last_cost

    def _done(self, entries: Entries) -> Entries:
        for quantity, value in entries:
            self.on_hand += quantity
            self.value += value
        assert (self.value >= 0) if self.on_hand > 0 else (self.value <= 0) if self.on_hand < 0 else self.value == 0
        return entries
