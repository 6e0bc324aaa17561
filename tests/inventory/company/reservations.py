"""Stock that is held for somebody until a time."""

from collections.abc import Sequence
from fractions import Fraction

from tests.inventory.company.books import Books, Hold
from tests.inventory.company.documents import ZERO, Fault, Line, Refused


def reserve(books: Books, lines: Sequence[Line]) -> None:
    """Each finds what those before it left, also where stock may be negative. Raises Refused."""
    books.sweep([key for line in lines for key in line.places])
    for index, line in enumerate(lines):
        key = line.item, line.place
        free = books.on_hand[key] - books.held(key)
        if line.quantity > free:
            raise Refused("insufficient-stock", index, available=max(free, ZERO))
        books.holds.append(Hold(key, line.quantity, line.quantity))


def use(books: Books, lines: Sequence[Line]) -> list[Fraction]:
    """What each line takes out of the reservation that it names. Raises Refused."""
    holds = [None if line.hold is None else books.holds[line.hold] for line in lines]
    faults = [
        Fault(index, "reservation_id")
        for index, (line, hold) in enumerate(zip(lines, holds, strict=True))
        if hold is not None and hold.key != (line.item, line.place)
    ]
    if faults:
        raise Refused("invalid", faults=faults)
    parts = []
    for index, (line, hold) in enumerate(zip(lines, holds, strict=True)):
        part = ZERO
        if hold is not None:
            if hold.status != "ACTIVE":
                raise Refused("reservation-ended", index, status=hold.status)
            part = min(line.quantity, hold.quantity)
            hold.quantity -= part
            hold.status = "ACTIVE" if hold.quantity else "USED"
            books.in_use[hold.key] = books.in_use.get(hold.key, ZERO) + part
        parts.append(part)
    return parts


def release(books: Books, number: int) -> None:
    """Raises Refused."""
    hold = books.holds[number]
    if hold.status == "USED":
        raise Refused("reservation-ended", status="USED")
    books.sweep([hold.key])
    if hold.status == "ACTIVE":
        hold.status = "RELEASED"


def extend(books: Books, number: int) -> None:
    """One that has expired holds again, if nobody needed its stock since. Raises Refused."""
    hold = books.holds[number]
    if hold.status != "ACTIVE":
        raise Refused("reservation-ended", status=hold.status)
    was_past, hold.is_past = hold.is_past, False
    books.sweep([hold.key])
    if was_past and books.held(hold.key) > books.on_hand[hold.key]:
        raise Refused("reservation-ended", status="EXPIRED")
