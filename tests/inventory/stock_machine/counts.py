"""Counts, while goods move or not."""

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.inventory.books import PATH
from tests.inventory.company.counts import Count, Counted, cancel, open_count, post_count, record
from tests.inventory.company.documents import Document
from tests.inventory.counts.counting import COUNTS
from tests.inventory.stock_machine.catalogue import ITEMS, PLACES, text
from tests.inventory.stock_machine.reservations import Reservations
from tests.inventory.stock_machine.strategies import counted_items, lines


class Counts(Reservations):
    def __init__(self) -> None:
        super().__init__()
        self.counts: list[tuple[str, Count]] = []
        """Each with its path."""

    def counted(self, data: st.DataObject, place: str) -> list[Counted]:
        return data.draw(counted_items([self.company.books.on_hand[item, place] for item in ITEMS]))

    def count_body(self, one: Counted) -> dict[str, Any]:
        body: dict[str, Any] = {
            "sku": self.skus[one.item],
            "counted": None if one.quantity is None else text(one.quantity),
        }
        if one.unit:
            body["unit"] = one.unit
        for name in ("unit_cost", "total_cost"):
            if (amount := getattr(one, name)) is not None:
                body[name] = text(amount)
        return body

    @precondition(lambda self: sum(count.status == "OPEN" for _, count in self.counts) < 2)
    @rule(data=st.data(), place=st.sampled_from(PLACES))
    def open(self, data: st.DataObject, place: str) -> None:
        counted = self.counted(data, place)
        body = {"location": self.codes[place], "lines": [self.count_body(one) for one in counted]}
        answer = self.send(COUNTS, body)
        pointers = {index: f"/lines/{index}" for index in range(len(counted))}
        count = self.agree(answer, lambda: open_count(self.company, place, counted), pointers)
        if count is not None:
            self.counts.append((f"{COUNTS}/{answer.json()['id']}", count))

    def a_count(self, data: st.DataObject) -> tuple[str, Count]:
        """Mostly one that is open, since the others only refuse."""
        still_open = [(path, count) for path, count in self.counts if count.status == "OPEN"]
        return data.draw(st.sampled_from(still_open * 5 + self.counts))

    @precondition(lambda self: self.counts)
    @rule(data=st.data())
    def record(self, data: st.DataObject) -> None:
        path, count = self.a_count(data)
        counted = self.counted(data, count.place)
        answer = self.send(f"{path}/lines", {"lines": [self.count_body(one) for one in counted]}, "PUT")
        pointers = {index: f"/lines/{index}" for index in range(len(counted))}
        self.agree(answer, lambda: record(self.company, count, counted), pointers, 200)

    @precondition(lambda self: self.counts)
    @rule(data=st.data(), accept=st.booleans(), rest=st.booleans(), give_up=st.integers(0, 5))
    def end(self, data: st.DataObject, accept: bool, rest: bool, give_up: int) -> None:
        path, count = self.a_count(data)
        self.look(path, count)
        if give_up == 5:
            self.agree(self.send(f"{path}/cancel", {}), lambda: cancel(count), {}, 200)
        else:
            self.post_one(path, count, accept=accept, rest=rest)

    @rule(data=st.data(), place=st.sampled_from(PLACES), twice=st.booleans(), accept=st.booleans(), rest=st.booleans())
    def count(self, data: st.DataObject, place: str, twice: bool, accept: bool, rest: bool) -> None:
        """One or two counts of a place, a sale there or not, and the posting of both."""
        opened = len(self.counts)
        for _ in range(2 if twice else 1):
            self.open(data, place)
        for line in data.draw(st.lists(lines("IN", "OUT"), max_size=1)):
            self.move(replace(line, place=place))
        for path, count in self.counts[opened:]:
            self.post_one(path, count, accept=accept, rest=rest)

    def post_one(self, path: str, count: Count, *, accept: bool, rest: bool) -> None:
        answer = self.send(f"{path}/post", {"accept_moved": accept, "uncounted": "zero" if rest else None})
        booked: list[Document | None] = []

        def act() -> None:
            booked.append(post_count(self.company, count, accept_moved=accept, rest_is_missing=rest))

        self.agree(answer, act, {}, 200)
        for document in booked:
            transaction_id = answer.json()["transaction_id"]
            assert (transaction_id is None) == (document is None)
            if document is not None:
                self.same_entries(self.read(f"{PATH}/transactions/{transaction_id}"), document)

    def look(self, path: str, count: Count) -> None:
        seen = self.read(path)
        differing = sum(line.difference != 0 for line in count.lines.values())
        moved = len(count.moved(self.company.books, count.lines)) if count.status == "OPEN" else None
        figures = [seen[name] for name in ("status", "lines", "differing", "moved")]
        assert figures == [count.status, len(count.lines), differing, moved]
