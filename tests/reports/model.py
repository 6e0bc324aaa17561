"""What the reports must say, from the list of what was posted: plain fractions, sharing no line with the service.

What each movement is worth is for the tests of posting: the model takes the values that were answered."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

KINDS = ("received", "issued", "adjusted", "assembled", "transferred")
ZERO = Fraction(0)


@dataclass
class Entry:
    sku: str
    location: str | None
    kind: str
    entry_type: str
    quantity: Fraction
    value: Fraction
    at: datetime


@dataclass
class Books:
    entries: list[Entry] = field(default_factory=list)

    def post(self, document: Any, kind: str) -> None:
        """What was answered; all of its entries are of one kind, but those that only change a value."""
        for entry in document["entries"]:
            quantity = Fraction(entry["quantity"])
            self.entries.append(
                Entry(
                    entry["sku"],
                    entry["location"],
                    kind if quantity else "revalued",
                    entry["transaction_type"],
                    quantity,
                    Fraction(entry["value"]),
                    datetime.fromisoformat(entry["occurred_at"]),
                )
            )

    def movements(
        self, period: str, zone: str, since: datetime, until: datetime | None, places: set[str] | None
    ) -> dict[tuple[str, str], dict[str, Fraction]]:
        """By sku and first day of the period."""
        lines: dict[tuple[str, str], dict[str, Fraction]] = {}
        span = [e for e in self.entries if since <= e.at and (until is None or e.at < until)]
        for sku, day in {(e.sku, begin(period, e.at.astimezone(ZoneInfo(zone)).date())) for e in span}:
            of_item = [e for e in span if e.sku == sku]
            earlier = [e for e in of_item if begin(period, e.at.astimezone(ZoneInfo(zone)).date()) < day]
            own = [e for e in of_item if begin(period, e.at.astimezone(ZoneInfo(zone)).date()) == day]
            before = [e for e in self.entries if e.sku == sku and e.at < since]
            line = self._line(sku, [*before, *earlier], own, places)
            if line["entries"] or line["value"]:
                lines[sku, day.isoformat()] = line
        return lines

    def _line(self, sku: str, before: list[Entry], own: list[Entry], places: set[str] | None) -> dict[str, Fraction]:
        opening, closing = self._at(sku, before, places), self._at(sku, [*before, *own], places)
        line: dict[str, Fraction] = defaultdict(Fraction)
        line |= {"opening_quantity": opening[0], "closing_quantity": closing[0]}
        line |= {"opening_value": opening[1], "closing_value": closing[1]}
        line |= {"net": closing[0] - opening[0], "value": closing[1] - opening[1]}
        for entry in own:
            if places is not None and entry.location not in places:
                continue
            line["entries"] += 1
            line["in"] += entry.quantity if entry.entry_type == "IN" else 0
            line["out"] -= entry.quantity if entry.entry_type == "OUT" else 0
            sign = -1 if entry.kind == "issued" else 1
            line[entry.kind] += sign * entry.quantity
            line[f"{entry.kind}_value"] += sign * entry.value
        if places is not None:
            named = line["received_value"] - line["issued_value"] + line["adjusted_value"] + line["assembled_value"]
            line["revalued_value"] = line["value"] - named
        return line

    def _at(self, sku: str, entries: list[Entry], places: set[str] | None) -> tuple[Fraction, Fraction]:
        """Quantity and value after these entries, at these places."""
        levels = {e.location: ZERO for e in self.entries if e.sku == sku and e.location is not None}
        for entry in entries:
            if entry.location is not None:
                levels[entry.location] += entry.quantity
        value = sum((entry.value for entry in entries), ZERO)
        if places is None:
            return sum(levels.values(), ZERO), value
        there = shares(levels, value)
        return (
            sum((levels[place] for place in places & levels.keys()), ZERO),
            sum((there[place] for place in places & levels.keys()), ZERO),
        )

    def stock(self, as_of: datetime | None) -> dict[tuple[str, str], tuple[Fraction, Fraction]]:
        """On hand and value by sku and location, where the item had been, or what rounding leaves is."""
        stock = {}
        for sku in {entry.sku for entry in self.entries}:
            of_item = [e for e in self.entries if e.sku == sku]
            known = [e for e in of_item if as_of is None or e.at < as_of]
            levels = {e.location: ZERO for e in of_item if e.location is not None}
            for entry in known:
                if entry.location is not None:
                    levels[entry.location] += entry.quantity
            there = shares(levels, sum((e.value for e in known), ZERO))
            for place, on_hand in levels.items():
                if there[place] or any(e.location == place for e in known):
                    stock[sku, place] = on_hand, there[place]
        return stock

    def on_hand(self, sku: str, places: set[str] | None = None) -> Fraction:
        return sum(
            (e.quantity for e in self.entries if e.sku == sku and (places is None or e.location in places)), ZERO
        )


def shares(levels: dict[str, Fraction], value: Fraction) -> dict[str, Fraction]:
    """By place: half away from zero; the rest to the place with the most, of several to the first by name, which the
    tests make in this order."""
    whole = sum(levels.values(), ZERO)
    rounded = {}
    for place, on_hand in levels.items():
        exact = on_hand * value / whole * 10_000 if whole else ZERO
        rounded[place] = Fraction(int(abs(exact) + Fraction(1, 2)), 10_000) * (1 if exact >= 0 else -1)
    if levels:
        most = min(levels, key=lambda place: (levels[place] == 0, -levels[place], place))
        rounded[most] += value - sum(rounded.values(), ZERO)
    return rounded


def begin(period: str, day: date) -> date:
    if period == "month":
        return day.replace(day=1)
    return day - timedelta(days=day.weekday()) if period == "week" else day
