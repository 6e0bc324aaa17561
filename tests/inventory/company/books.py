"""What is on hand where, what it is worth, what of it is reserved, and how it came to that."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from fractions import Fraction

from tests.inventory.company.documents import ZERO, Entry, Refused
from tests.inventory.model import Item

Key = tuple[int, str]
"""An item and a place; one that ends in `-` allows negative stock."""


@dataclass
class Hold:
    """A reservation."""

    key: Key
    quantity: Fraction
    original: Fraction
    status: str = "ACTIVE"
    is_past: bool = False
    """Its time is over."""

    @property
    def shown(self) -> str:
        return "EXPIRED" if self.status == "ACTIVE" and self.is_past else self.status


@dataclass
class Books:
    items: list[Item]
    on_hand: dict[Key, Fraction]
    entries: list[tuple[int, Entry]] = field(default_factory=list)
    """Each with the day when it happened, in the order in which they were posted."""
    holds: list[Hold] = field(default_factory=list)
    in_use: dict[Key, Fraction] = field(default_factory=dict)
    """What lines that are still to come take out of reservations."""

    def copy(self) -> "Books":
        return deepcopy(self)

    def held(self, key: Key) -> Fraction:
        """What is reserved, unless it has expired and somebody has noticed."""
        active = (hold.quantity for hold in self.holds if hold.key == key and hold.status == "ACTIVE")
        return sum(active, self.in_use.get(key, ZERO))

    def held_at_present(self, key: Key) -> Fraction:
        """What is reserved, without all that has expired."""
        return sum((hold.quantity for hold in self.holds if hold.key == key and hold.shown == "ACTIVE"), ZERO)

    def sweep(self, keys: Sequence[Key]) -> None:
        """Whoever changes what is there ends what has expired there."""
        for hold in self.holds:
            if hold.key in keys:
                hold.status = hold.shown

    def move(self, key: Key, quantity: Fraction, used: Fraction = ZERO) -> Fraction:
        """What is on hand after it; `used` of it was reserved for this. Raises Refused."""
        self.in_use[key] = self.in_use.get(key, ZERO) - used
        before = self.on_hand[key]
        free = before - self.held(key)
        if quantity < 0 and free + quantity < 0 and not key[1].endswith("-"):
            raise Refused("insufficient-stock", available=free)
        self.on_hand[key] += quantity
        return self.on_hand[key]

    def entries_at(self, key: Key) -> list[Entry]:
        return [entry for _, entry in self.entries if (entry.item, entry.place) == key]

    def refuse_if_history_breaks(self, own: Sequence[tuple[int, Entry]]) -> None:
        """Raises Refused if some moment of the past is below zero now that `own` are posted, and was less so before."""
        for key in sorted({(entry.item, entry.place or "") for _, entry in own if entry.quantity < 0}):
            if key[1].endswith("-"):
                continue
            here, mine = self._changes(self.entries, key), self._changes(own, key)
            short = {}
            for day in sorted(day for day in here if day >= min(mine)):
                left, change = _until(here, day), _until(mine, day)
                if left < 0 and change < 0:
                    short[day] = left - change
            if short:
                raise Refused("insufficient-stock", available=max(min(short.values()), ZERO), day=min(short))

    def _changes(self, entries: Sequence[tuple[int, Entry]], key: Key) -> dict[int, Fraction]:
        """Of each day when something moved."""
        changes: dict[int, Fraction] = {}
        for day, entry in entries:
            if (entry.item, entry.place) == key:
                changes[day] = changes.get(day, ZERO) + entry.quantity
        return changes


def _until(changes: Mapping[int, Fraction], day: int) -> Fraction:
    return sum((change for of_day, change in changes.items() if of_day <= day), ZERO)
