"""What an item is worth at each of its places, now or before a day."""

from fractions import Fraction
from math import inf
from typing import NamedTuple

from tests.inventory.company.books import Books
from tests.inventory.company.company import Company
from tests.inventory.company.documents import ZERO
from tests.inventory.model import half_away, money


class Level(NamedTuple):
    on_hand: Fraction
    value: Fraction
    reserved: Fraction | None
    """None for the past."""
    unit_value: Fraction | None


def worth_before(books: Books, item: int, day: float) -> Fraction:
    return sum((entry.value for of_day, entry in books.entries if entry.item == item and of_day < day), ZERO)


def levels(company: Company, item: int, before: int | None = None) -> dict[str, Level]:
    """By place, where the item was before that day; None for now.

    What rounding leaves goes to the place with the most of it, of several to the first; so does all that it is worth
    while none is on hand."""
    books, end = company.books, inf if before is None else before
    ever = [place for place in company.places if books.entries_at((item, place))]
    if not ever:
        return {}
    on_hand = dict.fromkeys(ever, ZERO)
    been_there = set()
    for day, entry in books.entries:
        if entry.item == item and entry.place is not None and day < end:
            on_hand[entry.place] += entry.quantity
            been_there.add(entry.place)
    worth, whole = worth_before(books, item, end), sum(on_hand.values(), ZERO)
    values = {place: money(quantity * worth / whole) if whole else ZERO for place, quantity in on_hand.items()}
    most = max(ever, key=lambda place: (on_hand[place] != 0, on_hand[place]))
    values[most] += worth - sum(values.values(), ZERO)
    one = half_away(worth / whole, 6) if whole else None
    return {
        place: Level(
            on_hand[place], values[place], books.held_at_present((item, place)) if before is None else None, one
        )
        for place in ever
        if place in been_there or values[place]
    }
