"""Two instances and a model that say the same."""

import asyncio
import itertools
import json
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from fractions import Fraction
from typing import Any, NamedTuple, TypeVar

import asyncpg
import httpx
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from erp_service.db.engine import Database
from tests.inventory.books import stocked
from tests.inventory.company.company import Company
from tests.inventory.company.documents import Document, Entry, Refused
from tests.inventory.stock_machine.catalogue import GOODS, ITEMS, PLACES, moment, number

T = TypeVar("T")
_numbers = itertools.count()

WHOLE_BODY: Mapping[int, str] = {0: ""}
"""Where the lines of a request with one line stand in it."""


class Sent(NamedTuple):
    method: str
    path: str
    body: dict[str, Any]
    key: str
    answer: httpx.Response


class StockClient(RuleBasedStateMachine):
    """Runs in a thread; its requests run on the loop of the test."""

    loop: asyncio.AbstractEventLoop
    clients: list[httpx.AsyncClient]
    owner: asyncpg.Connection
    database: Database

    def __init__(self) -> None:
        super().__init__()
        example = next(_numbers)
        self.skus = [f"S{example}-{item}" for item in ITEMS]
        self.codes = {place: f"P{example}-{place}" for place in PLACES}
        self.company = Company(GOODS, PLACES)
        self.posted: list[tuple[str, Document]] = []
        self.sent: list[Sent] = []

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    async def make_items_and_places(self) -> None:
        """New ones for each example: a new database would take longer than all its requests."""
        await stocked(self.owner, *self.skus, places=tuple(self.codes.values()), free=False)
        for sku, goods in zip(self.skus, GOODS, strict=True):
            packs = [
                {"unit": unit, "numerator": one.numerator, "denominator": one.denominator}
                for unit, one in goods.packs.items()
            ]
            await self.owner.execute(
                "update items set decimals = $2, units = $3 where sku = $1", sku, goods.decimals, json.dumps(packs)
            )
        await self.owner.execute("update company set closed_through = null, closed_at = null")

    def client(self) -> httpx.AsyncClient:
        return self.clients[next(_numbers) % len(self.clients)]

    def send(self, path: str, body: dict[str, Any], method: str = "POST") -> httpx.Response:
        key = f"key-{next(_numbers)}"
        answer = self.wait(self.client().request(method, path, json=body, headers={"Idempotency-Key": key}))
        self.sent.append(Sent(method, path, body, key, answer))
        return answer

    def read(self, path: str, **params: str) -> Any:
        answer = self.wait(self.client().get(path, params=params))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def agree(
        self, answer: httpx.Response, act: Callable[[], T], pointers: Mapping[int, str], status: int = 201
    ) -> T | None:
        """What the model made of it; None if both refused it for the same reason.

        `pointers` are those of the lines into the body."""
        try:
            expected = act()
        except Refused as refused:
            self.refused(answer, refused, pointers)
            return None
        assert answer.status_code == status, answer.text
        return expected

    def refused(self, answer: httpx.Response, refused: Refused, pointers: Mapping[int, str]) -> None:
        problem = answer.json()
        assert problem["type"] == f"/problems/{refused.why}", (answer.text, refused)
        assert answer.status_code == (422 if refused.why in ("cost-unknown", "invalid") else 409)
        if refused.faults:
            named = [f"{pointers[fault.line]}/{fault.field}" for fault in refused.faults]
            assert [fault["pointer"] for fault in problem["errors"]] == named, (answer.text, named)
        if refused.available is not None:
            assert Fraction(problem["available"]) == refused.available
        if refused.status is not None:
            assert problem.get("reservation_status", problem.get("count_status")) == refused.status
        if refused.moved:
            assert [self.moved(line) for line in problem["lines"]] == refused.moved, (answer.text, refused.moved)
        if refused.day is not None:
            assert refused.day > 1_000 or datetime.fromisoformat(problem["breaks_at"]) == moment(refused.day)
        elif refused.line is not None and refused.line in pointers:
            assert problem["errors"][0]["pointer"].startswith(pointers[refused.line]), answer.text

    def moved(self, line: dict[str, Any]) -> tuple[object, ...]:
        figures = (number(line[name]) for name in ("counted", "expected", "on_hand"))
        return self.skus.index(line["sku"]), *figures, line["count_again"]

    def agree_on_document(
        self, answer: httpx.Response, act: Callable[[], Document], pointers: Mapping[int, str] = WHOLE_BODY
    ) -> None:
        if (expected := self.agree(answer, act, pointers)) is not None:
            self.same_entries(answer.json(), expected)

    def same_entries(self, document: dict[str, Any], expected: Document) -> None:
        entries = document.get("entries") or [e for e in (document, document["settlement"]) if e]
        assert [self.entry(entry) for entry in entries] == [
            (index, entry) for index, line in enumerate(expected.lines, 1) for entry in line.entries
        ]
        assert [entry["id"] for entry in entries] == sorted(entry["id"] for entry in entries)
        self.posted.append((document["transaction_id"], expected))

    def entry(self, entry: dict[str, Any]) -> tuple[int, Entry]:
        return entry["line"], Entry(
            entry["transaction_type"],
            self.skus.index(entry["sku"]),
            self.place(entry["location"]),
            Fraction(entry["quantity"]),
            Fraction(entry["value"]),
            number(entry["on_hand_after"]),
            number(entry["item_on_hand_after"]),
            number(entry["value_after"]),
            entry["origin"],
            number(entry["not_covered"]),
        )

    def place(self, code: str | None) -> str | None:
        return None if code is None else next(place for place, own in self.codes.items() if own == code)

    @precondition(lambda self: any(sent.answer.is_success for sent in self.sent))
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        done = [sent for sent in self.sent if sent.answer.is_success and sent.method != "DELETE"]
        if done:
            method, path, body, key, first = data.draw(st.sampled_from(done))
            again = self.wait(self.client().request(method, path, json=body, headers={"Idempotency-Key": key}))
            assert (again.status_code, again.text) == (first.status_code, first.text)
            assert again.headers["Idempotency-Replayed"] == "true"
