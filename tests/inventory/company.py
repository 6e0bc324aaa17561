"""A company's stock in plain fractions: what each movement makes of it, or why it is refused.

It shares no line with the service."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

from tests.inventory.model import Item, Unknown, money

NOW = 10_000
"""The day of a movement that states none: after all that are stated."""
ZERO = Fraction(0)


@dataclass(frozen=True)
class Line:
    """A movement as a client says it. `day` is when it happened; None for now."""

    kind: str
    item: int
    place: str = ""
    to: str = ""
    quantity: Fraction = ZERO
    unit_cost: Fraction | None = None
    total_cost: Fraction | None = None
    difference: Fraction | None = None
    unit_value: Fraction | None = None
    day: int | None = None
    """Of a kit, what it is made of."""
    components: tuple["Line", ...] = ()
    disassemble: bool = False

    @property
    def happened(self) -> int:
        return NOW if self.day is None else self.day


class Entry(NamedTuple):
    """A ledger entry as the model expects it."""

    kind: str
    item: int
    place: str | None
    quantity: Fraction
    value: Fraction
    on_hand: Fraction | None
    item_on_hand: Fraction | None
    worth: Fraction | None
    origin: str | None
    not_covered: Fraction | None = None


class Posted(NamedTuple):
    """A line of a document: the entries of its own, and the settlement."""

    own: list[Entry]
    settlement: list[Entry]

    @property
    def entries(self) -> list[Entry]:
        return self.own + self.settlement


class Refused(Exception):
    """`line` is the index of the first line at fault."""

    def __init__(self, why: str, line: int | None = None, available: Fraction | None = None, day: int | None = None):
        super().__init__(why)
        self.why, self.line, self.available, self.day = why, line, available, day


@dataclass
class Document:
    lines: list[Posted]
    day: int
    reversed: list[Fraction] = field(default_factory=list)
    """How much of each line; of a change of value 1 for all of it."""

    def left(self, line: int) -> Fraction:
        first = self.lines[line].own[0]
        return (abs(first.quantity) or Fraction(1)) - self.reversed[line]


class Company:
    def __init__(self, items: int, places: Sequence[str]) -> None:
        self.items = [Item() for _ in range(items)]
        self.on_hand = {(item, place): ZERO for item in range(items) for place in places}
        self.moved: list[tuple[int, str, int, Fraction]] = []
        """What moved: item, place, day, quantity."""
        self.closed_through = -1

    def post(self, lines: Sequence[Line]) -> Document:
        self._refuse_closed([line.day for line in lines])
        acts = [self._act(line) for line in lines]
        return Document(self._all(acts), max(line.happened for line in lines), [ZERO] * len(acts))

    def assemble(self, kit: Line) -> Document:
        self._refuse_closed([kit.day])
        parts = [
            Line("IN" if kit.disassemble else "OUT", part.item, part.place, quantity=part.quantity, day=kit.day)
            for part in kit.components
        ]
        if kit.disassemble:
            worth = self._worth_of([(0, kit)])
            values = shared(worth, [self._weight(index + 1, part) for index, part in enumerate(parts)])
            lines = [Line("OUT", kit.item, kit.place, quantity=kit.quantity, day=kit.day)]
            lines += [cost_stated(part, value) for part, value in zip(parts, values, strict=True)]
        else:
            made = Line("IN", kit.item, kit.place, quantity=kit.quantity, day=kit.day)
            lines = [*parts, cost_stated(made, self._worth_of(list(enumerate(parts, 1))))]
        acts = [self._act(line, "ASSEMBLY") for line in lines]
        return Document(self._all(acts), kit.happened, [ZERO] * len(acts))

    def _worth_of(self, parts: Sequence[tuple[int, Line]]) -> Fraction:
        """What these take with them, one after the other."""
        items, worth = deepcopy(self.items), ZERO
        for index, part in parts:
            try:
                worth -= sum((value for _, value in items[part.item].issue(part.quantity)), ZERO)
            except Unknown:
                raise Refused("cost-unknown", index) from None
        return worth

    def _weight(self, index: int, part: Line) -> Fraction:
        item = self.items[part.item]
        if item.on_hand > 0:
            return item.value / item.on_hand * part.quantity
        if item.last_cost is None:
            raise Refused("cost-unknown", index)
        return item.last_cost * part.quantity

    def reverse(self, document: Document, parts: dict[int, Fraction | None] | None, day: int | None) -> Document:
        """`parts` are the indices of lines, and how much of each; None for all that is left."""
        chosen = {}
        for index in range(len(document.lines)):
            left, wanted = document.left(index), None if parts is None else parts.get(index, ZERO)
            if parts is not None and index not in parts:
                continue
            if not left or (wanted is not None and wanted > left):
                if parts is None:
                    continue
                raise Refused("already-reversed", index)
            chosen[index] = left if wanted is None else wanted
        if not chosen:
            raise Refused("already-reversed")
        self._refuse_closed([day])
        back = [
            self._reversal(document.lines[index], quantity, document.reversed[index], NOW if day is None else day)
            for index, quantity in reversed(chosen.items())
        ]
        lines = self._all(back)
        for index, quantity in chosen.items():
            document.reversed[index] += quantity
        return Document(lines, NOW if day is None else day, [ZERO] * len(lines))

    def _all(self, acts: Sequence[Callable[[], Posted]]) -> list[Posted]:
        """All of it or nothing."""
        before = deepcopy((self.items, self.on_hand, self.moved))
        posted = []
        try:
            for index, act in enumerate(acts):
                try:
                    posted.append(act())
                except Unknown:
                    raise Refused("cost-unknown", index) from None
                except Refused as refused:
                    refused.line = index
                    raise
            self._fits_history(len(before[2]))
        except Refused:
            self.items, self.on_hand, self.moved = before
            raise
        return posted

    def _fits_history(self, known: int) -> None:
        own = self.moved[known:]
        for key in sorted({(item, place) for item, place, _, quantity in own if quantity < 0}):
            if key[1].endswith("-"):
                continue
            since = min(day for item, place, day, _ in own if (item, place) == key)
            here = [(day, quantity) for item, place, day, quantity in self.moved if (item, place) == key]
            mine = [(day, quantity) for item, place, day, quantity in own if (item, place) == key]
            short = {}
            for day in sorted({day for day, _ in here if day >= since}):
                left = sum((q for d, q in here if d <= day), ZERO)
                change = sum((q for d, q in mine if d <= day), ZERO)
                if left < 0 and change < 0:
                    short[day] = left - change
            if short:
                raise Refused("insufficient-stock", None, max(min(short.values()), ZERO), min(short))

    def _refuse_closed(self, days: Sequence[int | None]) -> None:
        for index, day in enumerate(days):
            if day is not None and day <= self.closed_through:
                raise Refused("period-closed", index)

    def _move(self, item: int, place: str, quantity: Fraction, day: int) -> Fraction:
        there = self.on_hand[item, place]
        if there + quantity < 0 and quantity < 0 and not place.endswith("-"):
            raise Refused("insufficient-stock", None, there)
        self.on_hand[item, place] += quantity
        self.moved.append((item, place, day, quantity))
        return self.on_hand[item, place]

    def _act(self, line: Line, origin: str | None = None) -> Callable[[], Posted]:
        if line.kind == "TRANSFER":
            return lambda: self._transfer(line.item, line.place, line.to, line.quantity, line.happened, origin)
        if line.kind == "REVALUATION":
            return lambda: self._revalue(line)
        cost = line.total_cost
        if line.unit_cost is not None:
            cost = money(line.unit_cost * line.quantity)

        def act() -> Posted:
            goes_out = line.kind == "OUT" or line.quantity < 0
            quantity = abs(line.quantity)
            on_hand = self._move(line.item, line.place, -quantity if goes_out else quantity, line.happened)
            item = self.items[line.item]
            before = deepcopy(item)
            entries = item.issue(quantity) if goes_out else item.receive(quantity, cost, line.unit_cost)
            return self._entries(line.kind, line.item, line.place, before, entries, on_hand, origin)

        return act

    def _transfer(self, item: int, place: str, to: str, quantity: Fraction, day: int, origin: str | None) -> Posted:
        left = self._move(item, place, -quantity, day)
        arrived = self._move(item, to, quantity, day)
        return Posted(
            [
                Entry("TRANSFER_OUT", item, place, -quantity, ZERO, left, None, None, origin),
                Entry("TRANSFER_IN", item, to, quantity, ZERO, arrived, None, None, origin),
            ],
            [],
        )

    def _revalue(self, line: Line) -> Posted:
        item = self.items[line.item]
        before, not_covered = deepcopy(item), ZERO
        if line.unit_value is not None:
            entries = item.set_unit_value(line.unit_value)
        else:
            entries, not_covered = item.revalue(line.difference or ZERO, line.quantity or None)
        posted = self._entries("ADJUSTMENT", line.item, None, before, entries, None, "REVALUATION")
        return Posted([posted.own[0]._replace(not_covered=not_covered)], [])

    def _entries(
        self,
        kind: str,
        number: int,
        place: str | None,
        before: Item,
        entries: list[tuple[Fraction, Fraction]],
        on_hand: Fraction | None,
        origin: str | None,
    ) -> Posted:
        quantity, worth, made = before.on_hand, before.value, []
        for index, (moved, value) in enumerate(entries):
            quantity, worth = quantity + moved, worth + value
            known = (kind, origin) if index == 0 else ("ADJUSTMENT", "SETTLEMENT")
            made.append(Entry(known[0], number, place, moved, value, on_hand, quantity, worth, known[1]))
        return Posted(made[:1], made[1:])

    def _reversal(self, posted: Posted, quantity: Fraction, done: Fraction, day: int) -> Callable[[], Posted]:
        first = posted.own[0]
        if first.kind == "TRANSFER_OUT":
            source, target = posted.own[1].place or "", first.place or ""
            return lambda: self._transfer(first.item, source, target, quantity, day, "REVERSAL")
        item = self.items[first.item]
        if not first.quantity:
            return lambda: self._undo(first)
        whole = abs(first.quantity)

        def share(part: Fraction) -> Fraction:
            return abs(first.value) if part == whole else money(abs(first.value) * part / whole)

        worth = share(done + quantity) - share(done)
        kind = {"IN": "OUT", "OUT": "IN", "ADJUSTMENT": "ADJUSTMENT"}[first.kind]

        def act() -> Posted:
            on_hand = self._move(first.item, first.place or "", -quantity if first.quantity > 0 else quantity, day)
            before = deepcopy(item)
            entries = (item.give_back if first.quantity > 0 else item.take_back)(quantity, worth)
            return self._entries(kind, first.item, first.place, before, entries, on_hand, "REVERSAL")

        return act

    def _undo(self, first: Entry) -> Posted:
        item = self.items[first.item]
        before = deepcopy(item)
        after = item.value - first.value
        allowed = after
        if item.on_hand == 0 or (item.on_hand > 0 and after < 0) or (item.on_hand < 0 and after > 0):
            allowed = ZERO
        entries = [(ZERO, -first.value)] + ([(ZERO, allowed - after)] if allowed != after else [])
        item.value = allowed
        return self._entries("ADJUSTMENT", first.item, None, before, entries, None, "REVERSAL")


def cost_stated(line: Line, cost: Fraction) -> Line:
    return Line(line.kind, line.item, line.place, quantity=line.quantity, total_cost=cost, day=line.day)


def shared(value: Fraction, weights: list[Fraction]) -> list[Fraction]:
    """In proportion to the weights, none more than is left; the last takes the rest."""
    whole = sum(weights, ZERO)
    shares: list[Fraction] = []
    for weight in weights[:-1]:
        shares.append(min(money(value * weight / whole) if whole else ZERO, value - sum(shares, ZERO)))
    return [*shares, value - sum(shares, ZERO)]
