"""Reservations, what uses them up, and passing time."""

from dataclasses import replace
from fractions import Fraction

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from erp_service.inventory.reservations.expiry import sweep_all
from tests.inventory.books import PATH
from tests.inventory.company import reservations
from tests.inventory.company.documents import Line
from tests.inventory.reservations.reserving import HOUR, RESERVATIONS, expire
from tests.inventory.stock_machine.catalogue import half
from tests.inventory.stock_machine.movements import Movements
from tests.inventory.stock_machine.strategies import Amount, amounts, any_line, deliveries


class Reservations(Movements):
    def ids_of_holds(self) -> list[str]:
        """In the order of the model's."""
        made = (
            sent.answer.json() for sent in self.sent if sent.path == f"{RESERVATIONS}/bulk" and sent.answer.is_success
        )
        return [one["id"] for answer in made for one in answer["reservations"]]

    def body(self, line: Line) -> dict[str, object]:
        body = super().body(line)
        return body if line.hold is None else body | {"reservation_id": self.ids_of_holds()[line.hold]}

    @initialize(delivery=deliveries(), data=st.data())
    def begin_with_some_reserved(self, delivery: list[Line], data: st.DataObject) -> None:
        self.begin(delivery)
        keys = data.draw(st.lists(st.sampled_from([*self.there()]), max_size=3, unique=True)) if self.there() else []
        if keys:
            self.reserve_all([Line("", *key, quantity=half(key[0], self.free(key))) for key in keys])

    @precondition(lambda self: self.there())
    @rule(data=st.data())
    def reserve(self, data: st.DataObject) -> None:
        """Mostly what is there."""
        there = self.there()
        lines = []
        for _ in range(data.draw(st.integers(1, 2))):
            key = data.draw(st.sampled_from([*there] * 4 + [*self.company.books.on_hand]))
            free = there.get(key, Fraction(1))
            some: st.SearchStrategy[Amount] = st.sampled_from([(half(key[0], free), ""), (free, "")])
            quantity, unit = data.draw(some | amounts(key[0]))
            lines.append(Line("", *key, quantity=quantity, unit=unit))
        self.reserve_all(lines)

    def reserve_all(self, lines: list[Line]) -> None:
        body = {"reservations": [self.body(line) | {"expires_in_seconds": HOUR} for line in lines]}
        pointers = {index: f"/reservations/{index}" for index in range(len(lines))}

        def act() -> None:
            own = self.company.own(lines)
            with self.company.all_or_nothing() as books:
                reservations.reserve(books, own)

        answer = self.send(f"{RESERVATIONS}/bulk", body)
        self.agree(answer, act, pointers)

    def active_holds(self) -> list[int]:
        return [number for number, hold in enumerate(self.company.books.holds) if hold.shown == "ACTIVE"]

    def a_hold(self, data: st.DataObject) -> int:
        """Mostly one that holds something, since the others only refuse."""
        holds = self.company.books.holds
        active = self.active_holds()
        number: int = data.draw(st.sampled_from(active * 4 + [*range(len(holds))]))
        return number

    @precondition(lambda self: self.active_holds())
    @rule(data=st.data(), others=st.lists(any_line, max_size=1))
    def use(self, data: st.DataObject, others: list[Line]) -> None:
        """One or two reservations, less than they hold, all of it, or more; alone or among other lines."""
        lines = list(others)
        for _ in range(data.draw(st.integers(1, 2))):
            number = self.a_hold(data)
            hold = self.company.books.holds[number]
            item, place = hold.key
            some: st.SearchStrategy[Amount] = st.sampled_from([(half(item, hold.quantity), ""), (hold.original, "")])
            quantity, unit = data.draw(some | amounts(item))
            line = Line("OUT", item, place, quantity=quantity, unit=unit, hold=number)
            if data.draw(st.integers(0, 9)) == 9:
                line = replace(line, place=data.draw(st.sampled_from(self.company.places)))
            lines.append(line)
        if len(lines) > 1:
            self.post_document(lines)
        else:
            answer = self.send(f"{PATH}/out", self.body(lines[0]))
            self.agree_on_document(answer, lambda: self.company.post(lines))

    @precondition(lambda self: self.company.books.holds)
    @rule(data=st.data(), what=st.sampled_from(["release", "extend", "time passes", "time passes", "sweep"]))
    def change(self, data: st.DataObject, what: str) -> None:
        number = self.a_hold(data)
        match what:
            case "release":
                self.release(number)
            case "extend":
                self.extend(number)
            case "time passes":
                self.pass_time(number)
                if data.draw(st.booleans()):
                    self.extend(number)
            case _:
                self.wait(sweep_all(self.database))
                self.company.books.sweep(list(self.company.books.on_hand))

    def release(self, number: int) -> None:
        answer = self.send(f"{RESERVATIONS}/{self.ids_of_holds()[number]}", {}, "DELETE")

        def act() -> bool:
            with self.company.all_or_nothing() as books:
                reservations.release(books, number)
            return True

        self.agree(answer, act, {}, 204)

    def extend(self, number: int) -> None:
        path = f"{RESERVATIONS}/{self.ids_of_holds()[number]}/extend"

        def act() -> None:
            with self.company.all_or_nothing() as books:
                reservations.extend(books, number)

        self.agree(self.send(path, {"expires_in_seconds": HOUR}), act, {}, 200)

    def pass_time(self, number: int) -> None:
        hold = self.company.books.holds[number]
        if hold.status == "ACTIVE":
            self.wait(expire(self.owner, {"id": self.ids_of_holds()[number]}))
            hold.is_past = True

    def same_reservations(self) -> None:
        holds = self.company.books.holds
        for id_, hold in zip(self.ids_of_holds(), holds, strict=True):
            seen = self.read(f"{RESERVATIONS}/{id_}")
            assert (seen["status"], Fraction(seen["quantity"])) == (hold.shown, hold.quantity)
            assert Fraction(seen["original_quantity"]) == hold.original
        assert not any(self.company.books.in_use.values())
