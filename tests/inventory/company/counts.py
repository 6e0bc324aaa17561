"""Counts of what lies at a place."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from tests.inventory.company.books import Books
from tests.inventory.company.company import Company
from tests.inventory.company.documents import ZERO, Document, Line, Refused
from tests.inventory.company.effects import act_of, share_so_far
from tests.inventory.company.goods import WrongUnit, each
from tests.inventory.model import money


@dataclass(frozen=True)
class Counted:
    """What somebody counted of an item, in `unit`; None takes it out of the count."""

    item: int
    quantity: Fraction | None
    unit: str = ""
    unit_cost: Fraction | None = None
    total_cost: Fraction | None = None


@dataclass
class CountLine:
    counted: Counted
    expected: Fraction
    seen: int
    """How many entries of the item the place had when it was counted."""
    by_nobody: bool = False

    @property
    def difference(self) -> Fraction:
        return (self.counted.quantity or ZERO) - self.expected


@dataclass
class Count:
    place: str
    seen: list[int]
    """As of a line, of each item, when the count was opened."""
    lines: dict[int, CountLine] = field(default_factory=dict)
    status: str = "OPEN"

    def refuse_ended(self) -> None:
        if self.status != "OPEN":
            raise Refused("count-ended", status=self.status)

    def moved(self, books: Books, lines: dict[int, CountLine]) -> list[int]:
        return [item for item in sorted(lines) if len(books.entries_at((item, self.place))) > lines[item].seen]


def open_count(company: Company, place: str, counted: Sequence[Counted]) -> Count:
    books = company.books
    count = Count(place, [len(books.entries_at((item, place))) for item in range(len(books.items))])
    record(company, count, counted)
    return count


def record(company: Company, count: Count, counted: Sequence[Counted]) -> None:
    """Raises Refused."""
    count.refuse_ended()
    books = company.books
    for one in each(counted, lambda one: _own(company, one)):
        key = one.item, count.place
        count.lines.pop(one.item, None)
        if one.quantity is not None:
            count.lines[one.item] = CountLine(one, books.on_hand[key], len(books.entries_at(key)))


def _own(company: Company, one: Counted) -> Counted:
    goods = company.goods[one.item]
    if one.quantity is None:
        return one
    try:
        quantity = goods.own(one.quantity, one.unit)
    except WrongUnit as wrong:
        raise WrongUnit("counted" if wrong.field == "quantity" else wrong.field) from None
    return replace(one, quantity=quantity, unit="", unit_cost=goods.own_cost(one.unit_cost, one.unit))


def cancel(count: Count) -> None:
    count.refuse_ended()
    count.status = "CANCELED"


def post_count(company: Company, count: Count, *, accept_moved: bool, rest_is_missing: bool) -> Document | None:
    """The differences that are booked, if there are any. Raises Refused."""
    count.refuse_ended()
    books = company.books
    lines = dict(count.lines)
    for item in range(len(books.items)):
        on_hand = books.on_hand[item, count.place]
        if rest_is_missing and on_hand and item not in lines:
            lines[item] = CountLine(Counted(item, ZERO), on_hand, count.seen[item], by_nobody=True)
    _refuse_moved(books, count, lines, accept_moved=accept_moved)
    differing = [line for item, line in sorted(lines.items()) if line.difference]
    if any(_cost_is_unknown(books, line) for line in differing):
        raise Refused("cost-unknown")
    document = None
    if differing:
        acts = [act_of(_adjustment(count.place, line), "COUNT") for line in differing]
        keys = [(line.counted.item, count.place) for line in differing]
        with company.all_or_nothing():
            document = company.document(acts, [None] * len(acts), keys)
    count.lines, count.status = lines, "POSTED"
    return document


def _refuse_moved(books: Books, count: Count, lines: dict[int, CountLine], *, accept_moved: bool) -> None:
    """What another count corrected since, or nobody counted, has to be counted again."""
    named: list[tuple[object, ...]] = []
    for item in count.moved(books, lines):
        key, line = (item, count.place), lines[item]
        corrected = any(entry.origin == "COUNT" for entry in books.entries_at(key)[line.seen :])
        again = line.by_nobody or corrected
        if again or not accept_moved:
            counted = None if line.by_nobody else line.counted.quantity
            named.append((item, counted, line.expected, books.on_hand[key], again))
    if named:
        raise Refused("stock-moved", moved=named)


def _cost_is_unknown(books: Books, line: CountLine) -> bool:
    item, one = books.items[line.counted.item], line.counted
    is_stated = one.unit_cost is not None or one.total_cost is not None
    return line.difference > 0 and not is_stated and item.last_cost is None and item.on_hand <= 0


def _adjustment(place: str, line: CountLine) -> Line:
    quantity, one = line.difference, line.counted
    if quantity < 0:
        return Line("ADJUSTMENT", one.item, place, quantity=quantity)
    cost = None if one.unit_cost is None else money(quantity * one.unit_cost)
    if one.total_cost is not None:
        cost = share_so_far(one.total_cost, quantity, one.quantity or ZERO)
    return Line("ADJUSTMENT", one.item, place, quantity=quantity, unit_cost=one.unit_cost, total_cost=cost)
