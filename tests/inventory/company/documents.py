"""What a client says, and what the model expects to be posted or refused."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from fractions import Fraction
from typing import NamedTuple

from hypothesis.vendor.pretty import RepresentationPrinter

NOW = 10_000
"""Movements that state no day have this one and those after it, document by document: later than all that are
stated."""
ZERO = Fraction(0)


@dataclass(frozen=True)
class Line:
    """A movement as a client says it: `quantity` and costs in `unit`. `day` is when it happened; None for now."""

    kind: str
    item: int
    place: str = ""
    to: str = ""
    quantity: Fraction = ZERO
    unit: str = ""
    """Empty for the item's own."""
    unit_cost: Fraction | None = None
    total_cost: Fraction | None = None
    difference: Fraction | None = None
    value: Fraction | None = None
    unit_value: Fraction | None = None
    day: int | None = None
    hold: int | None = None
    """The number of the reservation that it uses up."""
    components: tuple["Line", ...] = ()
    """Of a kit, what it is made of."""
    disassemble: bool = False

    def _repr_pretty_(self, printer: RepresentationPrinter, _: bool) -> None:
        """In a failing example, only what it states."""
        stated = [f"{one.name}={value!r}" for one in fields(self) if (value := getattr(self, one.name)) != one.default]
        printer.text(f"Line({', '.join(stated)})")

    @property
    def places(self) -> list[tuple[int, str]]:
        return [(self.item, place) for place in (self.place, self.to) if place]


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


@dataclass
class Document:
    lines: list[Posted]
    day: int
    reversed: list[Fraction] = field(default_factory=list)
    """How much of each line; of a change of value 1 for all of it."""

    def left(self, line: int) -> Fraction:
        first = self.lines[line].own[0]
        return (abs(first.quantity) or Fraction(1)) - self.reversed[line]


class Fault(NamedTuple):
    """A field of a line that is wrong, whatever the stock is."""

    line: int
    field: str


class Refused(Exception):
    """`why` is the slug of the problem."""

    def __init__(
        self,
        why: str,
        line: int | None = None,
        *,
        available: Fraction | None = None,
        day: int | None = None,
        faults: Sequence[Fault] = (),
        status: str | None = None,
        moved: Sequence[tuple[object, ...]] = (),
    ):
        super().__init__(why)
        self.why = why
        self.line = line
        """The index of the first line at fault."""
        self.available = available
        self.day = day
        """The first moment that does not fit."""
        self.faults = faults
        self.status = status
        """How the reservation or the count ended."""
        self.moved = moved
        """Of a count: item, counted, expected, on hand, and whether it must be counted again."""
