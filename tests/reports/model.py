"""What the reports must say, from the list of what was posted: plain Python, sharing no line with the service."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

from tests.inventory.model import Model

Place = tuple[str, str]
"""The item's sku and the location's code."""


@dataclass
class Entry:
    sku: str
    location: str
    column: str
    quantity: Fraction
    value: Fraction
    at: datetime


@dataclass
class Books:
    entries: list[Entry] = field(default_factory=list)
    balances: dict[Place, Model] = field(default_factory=lambda: defaultdict(Model))

    def move(self, kind: str, sku: str, code: str, quantity: Decimal, cost: Decimal | None, at: datetime) -> None:
        """IN, OUT, ADJUSTMENT, or `TRANSFER code` to another place."""
        held = self.balances[sku, code]
        if kind.startswith("TRANSFER"):
            to = kind.partition(" ")[2]
            for moved, value in held.apply(("issue", quantity, None)):
                self.entries.append(Entry(sku, code, "transferred", moved, value, at))
                worth = Decimal(-value.numerator) / Decimal(value.denominator)
                for came, brought in self.balances[sku, to].apply(("receive_at_value", quantity, worth)):
                    self.entries.append(Entry(sku, to, "transferred", came, brought, at))
            return
        step = {"IN": "receive", "OUT": "issue", "ADJUSTMENT": "adjust"}[kind]
        column = {"IN": "in", "OUT": "out", "ADJUSTMENT": "adjusted"}[kind]
        for moved, value in held.apply((step, quantity, cost)):
            self.entries.append(Entry(sku, code, column, moved, value, at))

    def movements(
        self, period: str, zone: str, since: datetime, until: datetime | None, location: str | None
    ) -> dict[tuple[str, str], dict[str, Fraction]]:
        """By sku and first day of the period."""
        found: dict[tuple[str, str], dict[str, Fraction]] = defaultdict(lambda: defaultdict(Fraction))
        for entry in self.entries:
            if entry.at < since or (until and entry.at >= until) or (location and entry.location != location):
                continue
            line = found[entry.sku, begin(period, entry.at.astimezone(ZoneInfo(zone)).date()).isoformat()]
            line[entry.column] += -entry.quantity if entry.column == "out" else entry.quantity
            line["net"] += entry.quantity
            line["value"] += entry.value
            line["entries"] += 1
        return found

    def stock(self, as_of: datetime | None) -> dict[Place, tuple[Fraction, Fraction]]:
        found: dict[Place, tuple[Fraction, Fraction]] = {}
        for entry in self.entries:
            if as_of is None or entry.at <= as_of:
                quantity, value = found.get((entry.sku, entry.location), (Fraction(0), Fraction(0)))
                found[entry.sku, entry.location] = quantity + entry.quantity, value + entry.value
        return found

    def on_hand(self, sku: str) -> Fraction:
        return sum((entry.quantity for entry in self.entries if entry.sku == sku), Fraction(0))


def begin(period: str, day: date) -> date:
    if period == "month":
        return day.replace(day=1)
    return day - timedelta(days=day.weekday()) if period == "week" else day
