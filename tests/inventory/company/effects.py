"""What one line of a document does to the books."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from fractions import Fraction

from tests.inventory.company.books import Books
from tests.inventory.company.documents import ZERO, Entry, Line, Posted, Refused
from tests.inventory.model import Entries, Item, money

Act = Callable[[Books], Posted]


def act_of(line: Line, origin: str | None = None, used: Fraction = ZERO) -> Act:
    """`used` of the quantity was reserved for it."""
    if line.kind == "TRANSFER":
        return lambda books: transfer(books, line.item, line.place, line.to, line.quantity, origin)
    if line.kind == "REVALUATION":
        return lambda books: revalue(books, line)

    def act(books: Books) -> Posted:
        goes_out = line.kind == "OUT" or line.quantity < 0
        quantity = abs(line.quantity)
        on_hand = books.move((line.item, line.place), -quantity if goes_out else quantity, used)
        item = books.items[line.item]
        before = deepcopy(item)
        moves = item.issue(quantity) if goes_out else item.receive(quantity, line.total_cost, line.unit_cost)
        return posted(line.kind, line.item, line.place, before, moves, on_hand, origin)

    return act


def transfer(books: Books, item: int, place: str, to: str, quantity: Fraction, origin: str | None) -> Posted:
    left = books.move((item, place), -quantity)
    arrived = books.move((item, to), quantity)
    out = Entry("TRANSFER_OUT", item, place, -quantity, ZERO, left, None, None, origin)
    return Posted([out, Entry("TRANSFER_IN", item, to, quantity, ZERO, arrived, None, None, origin)], [])


def revalue(books: Books, line: Line) -> Posted:
    item = books.items[line.item]
    before, not_covered = deepcopy(item), ZERO
    if line.unit_value is not None:
        moves = item.set_unit_value(line.unit_value)
    elif line.value is not None:
        if item.on_hand <= 0:
            raise Refused("invalid")
        moves = item.set_value(line.value)
    else:
        moves, not_covered = item.revalue(line.difference or ZERO, line.quantity or None)
    made = posted("ADJUSTMENT", line.item, None, before, moves, None, "REVALUATION")
    return Posted([made.own[0]._replace(not_covered=not_covered)], [])


def reversal_of(line: Posted, quantity: Fraction, done: Fraction) -> Act:
    """Of `quantity` of a line, of which `done` was reversed before."""
    first = line.own[0]
    if first.kind == "TRANSFER_OUT":
        source, target = line.own[1].place or "", first.place or ""
        return lambda books: transfer(books, first.item, source, target, quantity, "REVERSAL")
    if not first.quantity:
        return lambda books: _undo(books.items[first.item], first)
    whole = abs(first.quantity)
    worth = share_so_far(abs(first.value), done + quantity, whole) - share_so_far(abs(first.value), done, whole)
    kind = {"IN": "OUT", "OUT": "IN", "ADJUSTMENT": "ADJUSTMENT"}[first.kind]

    def act(books: Books) -> Posted:
        on_hand = books.move((first.item, first.place or ""), -quantity if first.quantity > 0 else quantity)
        item = books.items[first.item]
        before = deepcopy(item)
        moves = (item.give_back if first.quantity > 0 else item.take_back)(quantity, worth)
        return posted(kind, first.item, first.place, before, moves, on_hand, "REVERSAL")

    return act


def _undo(item: Item, first: Entry) -> Posted:
    before = deepcopy(item)
    after = item.value - first.value
    allowed = after
    if item.on_hand == 0 or (item.on_hand > 0 and after < 0) or (item.on_hand < 0 and after > 0):
        allowed = ZERO
    moves = [(ZERO, -first.value)] + ([(ZERO, allowed - after)] if allowed != after else [])
    item.value = allowed
    return posted("ADJUSTMENT", first.item, None, before, moves, None, "REVERSAL")


def posted(
    kind: str,
    number: int,
    place: str | None,
    before: Item,
    moves: Entries,
    on_hand: Fraction | None,
    origin: str | None,
) -> Posted:
    quantity, worth, made = before.on_hand, before.value, []
    for index, (moved, value) in enumerate(moves):
        quantity, worth = quantity + moved, worth + value
        known = (kind, origin) if index == 0 else ("ADJUSTMENT", "SETTLEMENT")
        made.append(Entry(known[0], number, place, moved, value, on_hand, quantity, worth, known[1]))
    return Posted(made[:1], made[1:])


def share_so_far(value: Fraction, part: Fraction, whole: Fraction) -> Fraction:
    return value if part == whole else money(value * part / whole)


def shared(value: Fraction, weights: Sequence[Fraction]) -> list[Fraction]:
    """In proportion to the weights, none more than is left; the last takes the rest."""
    whole = sum(weights, ZERO)
    shares: list[Fraction] = []
    for weight in weights[:-1]:
        shares.append(min(money(value * weight / whole) if whole else ZERO, value - sum(shares, ZERO)))
    return [*shares, value - sum(shares, ZERO)]
