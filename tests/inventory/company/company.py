"""A company's stock in plain fractions: what each movement makes of it, or why it is refused.

It shares no line with the service."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction

from tests.inventory.company.books import Books, Key
from tests.inventory.company.documents import NOW, ZERO, Document, Fault, Line, Posted, Refused
from tests.inventory.company.effects import Act, act_of, reversal_of, shared
from tests.inventory.company.goods import Goods, WrongUnit, each
from tests.inventory.company.reservations import use
from tests.inventory.model import Item, Unknown


class Company:
    def __init__(self, goods: Sequence[Goods], places: Sequence[str]) -> None:
        self.goods, self.places = goods, places
        on_hand = {(item, place): ZERO for item in range(len(goods)) for place in places}
        self.books = Books([Item() for _ in goods], on_hand)
        self.closed_through = -1
        self.now = NOW

    @contextmanager
    def all_or_nothing(self) -> Iterator[Books]:
        before = self.books.copy()
        try:
            yield self.books
        except Refused:
            self.books = before
            raise

    def own(self, lines: Sequence[Line]) -> list[Line]:
        """In the items' own units. Raises Refused."""
        return each(lines, lambda line: self.goods[line.item].line(line))

    def post(self, lines: Sequence[Line]) -> Document:
        lines = self.own(lines)
        self._refuse_closed([line.day for line in lines])
        with self.all_or_nothing() as books:
            used = use(books, lines)
            acts = [act_of(line, None, part) for line, part in zip(lines, used, strict=True)]
            return self.document(acts, [line.day for line in lines], [key for line in lines for key in line.places])

    def assemble(self, kit: Line) -> Document:
        kit, *parts = self.own([kit, *kit.components])
        self._refuse_closed([kit.day])
        kind = "IN" if kit.disassemble else "OUT"
        parts = [replace(part, kind=kind, day=kit.day) for part in parts]
        numbers = list(range(1, len(parts) + 1))
        if kit.disassemble:
            worth = self._worth_of([(0, kit)])
            values = shared(worth, [self._weight(number, part) for number, part in zip(numbers, parts, strict=True)])
            components = [replace(part, total_cost=value) for part, value in zip(parts, values, strict=True)]
            lines, numbers = [replace(kit, kind="OUT"), *components], [0, *numbers]
        else:
            cost = self._worth_of(list(zip(numbers, parts, strict=True)))
            lines, numbers = [*parts, replace(kit, kind="IN", total_cost=cost)], [*numbers, 0]
        keys = [key for line in lines for key in line.places]
        with self.all_or_nothing():
            return self.document([act_of(line, "ASSEMBLY") for line in lines], [kit.day] * len(lines), keys, numbers)

    def _worth_of(self, parts: Sequence[tuple[int, Line]]) -> Fraction:
        """What these take with them, one after the other."""
        items, worth = self.books.copy().items, ZERO
        for number, part in parts:
            try:
                worth -= sum((value for _, value in items[part.item].issue(part.quantity)), ZERO)
            except Unknown:
                raise Refused("cost-unknown", number) from None
        return worth

    def _weight(self, number: int, part: Line) -> Fraction:
        item = self.books.items[part.item]
        if item.on_hand > 0:
            return item.value / item.on_hand * part.quantity
        if item.last_cost is None:
            raise Refused("cost-unknown", number)
        return item.last_cost * part.quantity

    def reverse(self, document: Document, parts: Mapping[int, Fraction | None] | None, day: int | None) -> Document:
        """`parts` are the indices of lines, and how much of each; None for all that is left."""
        wanted = range(len(document.lines)) if parts is None else sorted(parts)
        chosen = self._left_of(document, dict.fromkeys(wanted) if parts is None else parts)
        if not chosen or (parts is not None and len(chosen) < len(parts)):
            raise Refused("already-reversed")
        self._refuse_closed([day])
        back = [
            reversal_of(document.lines[index], quantity, document.reversed[index])
            for index, quantity in reversed(chosen.items())
        ]
        keys = [(e.item, e.place) for index in wanted for e in document.lines[index].own if e.place is not None]
        with self.all_or_nothing():
            made = self.document(back, [day] * len(back), keys, list(reversed(chosen)))
        for index, quantity in chosen.items():
            document.reversed[index] += quantity
        return made

    def _left_of(self, document: Document, parts: Mapping[int, Fraction | None]) -> dict[int, Fraction]:
        """How much of each line is reversed, in their order, without those of which not so much is left."""
        chosen, faults = {}, []
        for index, quantity in sorted(parts.items()):
            left = document.left(index)
            if not left or (quantity is not None and quantity > left):
                continue
            try:
                if quantity is not None:
                    self.goods[document.lines[index].own[0].item].own(quantity, "")
            except WrongUnit as wrong:
                faults.append(Fault(index, wrong.field))
            chosen[index] = left if quantity is None else quantity
        if faults:
            raise Refused("invalid", faults=faults)
        return chosen

    def document(
        self,
        acts: Sequence[Act],
        days: Sequence[int | None],
        keys: Sequence[Key],
        numbers: Sequence[int] | None = None,
    ) -> Document:
        """What these did, one after the other. `numbers` are the indices by which the client knows them.

        Raises Refused, and then not all of it was undone: it must stand in `all_or_nothing`."""
        books = self.books
        books.sweep(keys)
        self.now += 1
        happened = [self.now if day is None else day for day in days]
        known, lines = len(books.entries), []
        for number, act, day in zip(numbers or range(len(acts)), acts, happened, strict=True):
            lines.append(_done(number, act, books))
            books.entries += [(day, entry) for entry in lines[-1].entries]
        books.refuse_if_history_breaks(books.entries[known:])
        return Document(lines, max(happened), [ZERO] * len(lines))

    def _refuse_closed(self, days: Sequence[int | None]) -> None:
        for index, day in enumerate(days):
            if day is not None and day <= self.closed_through:
                raise Refused("period-closed", index)


def _done(number: int, act: Callable[[Books], Posted], books: Books) -> Posted:
    try:
        return act(books)
    except Unknown:
        raise Refused("cost-unknown", number) from None
    except Refused as refused:
        refused.line = number
        raise
