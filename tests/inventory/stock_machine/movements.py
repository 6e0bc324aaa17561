"""Movements, documents, kits, reversals and the closing of periods."""

from fractions import Fraction
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from erp_service.access.principals import system
from tests.inventory.books import PATH
from tests.inventory.company.books import Key
from tests.inventory.company.documents import Document, Line
from tests.inventory.stock_machine.catalogue import half, moment, text
from tests.inventory.stock_machine.client import WHOLE_BODY, StockClient
from tests.inventory.stock_machine.strategies import any_line, kits, quantities
from tests.support.company import close_through

_PATHS = {"IN": "in", "OUT": "out", "TRANSFER": "transfer", "ADJUSTMENT": "adjustment", "REVALUATION": "revaluation"}

CLOSINGS = (3, 7, 12)
"""The days that periods end with; later ones stay open."""


class Movements(StockClient):
    def body(self, line: Line) -> dict[str, Any]:
        body: dict[str, Any] = {"sku": self.skus[line.item]}
        if line.quantity:
            body["quantity"] = text(line.quantity)
        if line.unit:
            body["unit"] = line.unit
        if line.day is not None:
            body["occurred_at"] = moment(line.day).isoformat()
        for name in ("unit_cost", "total_cost", "difference", "value", "unit_value"):
            if (amount := getattr(line, name)) is not None:
                body[name] = text(amount)
        if line.kind in ("ADJUSTMENT", "REVALUATION"):
            body["reason"] = "looked again"
        if line.kind == "TRANSFER":
            return body | {"from_location": self.codes[line.place], "to_location": self.codes[line.to]}
        return body | ({"location": self.codes[line.place]} if line.place else {})

    @rule(line=any_line)
    def move(self, line: Line) -> None:
        answer = self.send(f"{PATH}/{_PATHS[line.kind]}", self.body(line))
        self.agree_on_document(answer, lambda: self.company.post([line]))

    def begin(self, delivery: list[Line]) -> None:
        self.wait(self.make_items_and_places())
        if delivery:
            self.post_document(delivery)

    @rule(document=st.lists(any_line, min_size=2, max_size=6))
    def post(self, document: list[Line]) -> None:
        self.post_document(document)

    def post_document(self, document: list[Line]) -> None:
        body = {"movements": [{"transaction_type": line.kind} | self.body(line) for line in document]}
        pointers = {index: f"/movements/{index}" for index in range(len(document))}
        answer = self.send(f"{PATH}/movements", body)
        self.agree_on_document(answer, lambda: self.company.post(document), pointers)

    def free(self, key: Key) -> Fraction:
        return self.company.books.on_hand[key] - self.company.books.held_at_present(key)

    def there(self) -> dict[Key, Fraction]:
        """What is available, where something is."""
        return {key: free for key in self.company.books.on_hand if (free := self.free(key)) > 0}

    @precondition(lambda self: self.there())
    @rule(data=st.data())
    def assemble(self, data: st.DataObject) -> None:
        kit = data.draw(kits([*self.there()]))
        components = [self.body(part) for part in kit.components]
        body = self.body(kit) | {"components": components, "disassemble": kit.disassemble}
        pointers = {**WHOLE_BODY, **{index: f"/components/{index - 1}" for index in range(1, len(components) + 1)}}
        answer = self.send(f"{PATH}/assembly", body)
        self.agree_on_document(answer, lambda: self.company.assemble(kit), pointers)

    @precondition(lambda self: self.posted)
    @rule(data=st.data(), parts=st.integers(0, 3))
    def reverse(self, data: st.DataObject, parts: int) -> None:
        """A document, whole or in up to three parts."""
        transaction_id, document = data.draw(st.sampled_from(self.posted))
        for _ in range(parts or 1):
            self.reverse_some(transaction_id, document, data, whole=not parts)

    def reverse_some(self, transaction_id: str, document: Document, data: st.DataObject, *, whole: bool) -> None:
        later = data.draw(st.none() | st.integers(0, 5))
        day = None if later is None or document.day > 1_000 else document.day + later
        body: dict[str, Any] = {"reason": "came back"}
        if day is not None:
            body["occurred_at"] = moment(day).isoformat()
        parts: dict[int, Fraction | None] | None = None
        pointers: dict[int, str] = {}
        if not whole:
            chosen = data.draw(st.lists(st.integers(0, len(document.lines) - 1), min_size=1, unique=True))
            parts = {index: self.part_of(document, index, data) for index in chosen}
            pointers = {index: f"/lines/{at}" for at, index in enumerate(chosen)}
            body["lines"] = [
                {"line": index + 1} | ({} if part is None else {"quantity": text(part)})
                for index, part in parts.items()
            ]
        self.agree_on_document(
            self.send(f"{PATH}/transactions/{transaction_id}/reverse", body),
            lambda: self.company.reverse(document, parts, day),
            pointers,
        )

    def part_of(self, document: Document, index: int, data: st.DataObject) -> Fraction | None:
        first = document.lines[index].own[0]
        if not first.quantity:
            return None
        whole = abs(first.quantity)
        some = st.sampled_from([whole, half(first.item, whole), half(first.item, whole)])
        return data.draw(st.none() | some | quantities(first.item))

    @precondition(lambda self: self.company.closed_through < CLOSINGS[-1])
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        day = data.draw(st.sampled_from([day for day in CLOSINGS if day > self.company.closed_through]))

        async def close() -> None:
            async with self.database.write() as db:
                await close_through(db, system("test"), moment(day).date())

        self.wait(close())
        self.company.closed_through = day
