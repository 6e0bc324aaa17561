"""Any history of movements, documents, reversals and retries over HTTP is that of a plain model, entry by entry."""

import asyncio
import itertools
from collections.abc import Coroutine
from copy import deepcopy
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple, TypeVar

import asyncpg
import httpx
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from erp_service.inventory.posting.valuation import NotEnough
from tests.inventory.books import PATH, assert_books, stocked
from tests.inventory.model import Model

T = TypeVar("T")
PLACES = ("MAIN", "SHOP", "YARD-")
_numbers = itertools.count()


class Moved(NamedTuple):
    """An entry as the model expects it."""

    kind: str
    item: int
    place: str
    quantity: Fraction
    value: Fraction
    on_hand: Fraction
    worth: Fraction


class Line(NamedTuple):
    kind: str
    item: int
    place: str
    to: str
    quantity: Decimal
    cost: Decimal | None


class Short(Exception):
    def __init__(self, line: int, available: Decimal) -> None:
        self.line, self.available = line, available


class Books:
    """Two items at three places, and what was posted: a list of lines for each document."""

    def __init__(self) -> None:
        self.balances = {(i, place): Model(negative=place.endswith("-")) for i in (0, 1) for place in PLACES}

    def post(self, lines: list[Line]) -> list[list[Moved]]:
        return self._all(lines, [self._posted(line) for line in lines])

    def reverse(self, document: list[list[Moved]]) -> list[list[Moved]]:
        back = list(reversed(document))
        return self._all(back, [self._reversed(moved) for moved in back])

    def _all(self, lines: list[Any], acts: list[Any]) -> list[list[Moved]]:
        """All of it or nothing."""
        before = deepcopy(self.balances)
        done = []
        for number, act in enumerate(acts):
            try:
                done.append(act())
            except NotEnough as short:
                self.balances = before
                raise Short(number, short.available) from None
        assert len(done) == len(lines)
        return done

    def _step(self, kind: str, item: int, place: str, step: tuple[str, Decimal, Decimal | None]) -> list[Moved]:
        balance, kinds = self.balances[item, place], itertools.chain([kind], itertools.repeat("ADJUSTMENT"))
        on_hand, worth = balance.on_hand, balance.value
        found = []
        for (quantity, value), name in zip(balance.apply(step), kinds, strict=False):
            on_hand, worth = on_hand + quantity, worth + value
            found.append(Moved(name, item, place, quantity, value, on_hand, worth))
        return found

    def _transfer(self, item: int, source: str, target: str, quantity: Decimal, worth: Decimal | None) -> list[Moved]:
        step = ("issue", quantity, None) if worth is None else ("issue_at_value", quantity, worth)
        out = self._step("TRANSFER_OUT", item, source, step)
        return out + self._step("TRANSFER_IN", item, target, ("receive_at_value", quantity, decimal(-out[0].value)))

    def _posted(self, line: Line) -> Any:
        if line.kind == "TRANSFER":
            return lambda: self._transfer(line.item, line.place, line.to, line.quantity, None)
        name = {"IN": "receive", "OUT": "issue", "ADJUSTMENT": "adjust"}[line.kind]
        return lambda: self._step(line.kind, line.item, line.place, (name, line.quantity, line.cost))

    def _reversed(self, moved: list[Moved]) -> Any:
        first = moved[0]
        worth, quantity = decimal(abs(first.value)), decimal(abs(first.quantity))
        if first.kind == "TRANSFER_OUT":
            return lambda: self._transfer(first.item, moved[1].place, first.place, quantity, worth)
        kind = {"IN": "OUT", "OUT": "IN", "ADJUSTMENT": "ADJUSTMENT"}[first.kind]
        name = "issue_at_value" if first.quantity > 0 else "receive_at_value"
        return lambda: self._step(kind, first.item, first.place, (name, quantity, worth))


def decimal(number: Fraction) -> Decimal:
    return Decimal(number.numerator) / number.denominator


quantities = st.one_of(st.integers(1, 4).map(Decimal), st.decimals("0.000001", "2", places=6, allow_nan=False))
costs = st.one_of(st.none(), st.integers(0, 2).map(Decimal), st.decimals("0", "9.9999", places=4, allow_nan=False))
places = st.permutations(PLACES)
items = st.integers(0, 1)


def lines_of(kind: str) -> st.SearchStrategy[Line]:
    signed = quantities | quantities.map(lambda q: -q) if kind == "ADJUSTMENT" else quantities
    return st.builds(
        lambda item, where, quantity, cost: Line(kind, item, where[0], where[1], quantity, cost),
        items,
        places,
        signed,
        costs if kind == "IN" else st.none(),
    )


lines = st.sampled_from(["IN", "IN", "OUT", "TRANSFER", "ADJUSTMENT"]).flatmap(lines_of)


class Stock(RuleBasedStateMachine):
    """Runs in a thread; its requests run on the loop of the test."""

    loop: asyncio.AbstractEventLoop
    client: httpx.AsyncClient
    owner: asyncpg.Connection

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    @initialize()
    def items(self) -> None:
        """New ones for each example: a new database would take longer than all its requests."""
        self.skus = [f"S{next(_numbers)}" for _ in range(2)]
        self.wait(stocked(self.owner, *self.skus, places=PLACES))
        self.books = Books()
        self.posted: list[tuple[str, list[list[Moved]]]] = []
        self.taken_back: set[str] = set()
        self.asked: list[tuple[str, dict[str, Any], str, httpx.Response]] = []

    def send(self, path: str, body: dict[str, Any]) -> httpx.Response:
        key = f"key-{next(_numbers)}"
        answer = self.wait(self.client.post(f"{PATH}/{path}", json=body, headers={"Idempotency-Key": key}))
        self.asked.append((path, body, key, answer))
        return answer

    def said(self, line: Line) -> dict[str, Any]:
        body: dict[str, Any] = {"sku": self.skus[line.item], "quantity": f"{line.quantity:f}"}
        if line.kind == "TRANSFER":
            return body | {"from_location": line.place, "to_location": line.to}
        cost = {} if line.cost is None else {"unit_cost": f"{line.cost:f}"}
        reason = {"reason": "counted"} if line.kind == "ADJUSTMENT" else {}
        return body | {"location": line.place} | cost | reason

    def outcome(self, act: Any) -> tuple[list[list[Moved]], Short | None]:
        try:
            return act(), None
        except Short as short:
            return [], short

    def agree(self, answer: httpx.Response, act: Any, at: str = "") -> None:
        expected, short = self.outcome(act)
        if short is not None:
            problem = answer.json()
            assert (answer.status_code, problem["type"]) == (409, "/problems/insufficient-stock"), answer.text
            assert Decimal(problem["available"]) == short.available
            assert [fault["pointer"] for fault in problem.get("errors", [])] == ([at.format(short.line)] if at else [])
            return
        assert answer.status_code == 201, answer.text
        document = answer.json()
        entries = document.get("entries") or [e for e in (document, document["settlement"]) if e]
        numbered = [(number, moved) for number, line in enumerate(expected, 1) for moved in line]
        assert [self.seen(entry) for entry in entries] == numbered
        assert [entry["id"] for entry in entries] == sorted(entry["id"] for entry in entries)
        self.posted.append((document["transaction_id"], expected))

    def seen(self, entry: dict[str, Any]) -> tuple[int, Moved]:
        figures = (Fraction(entry[name]) for name in ("quantity", "value", "on_hand_after", "value_after"))
        return entry["line"], Moved(
            entry["transaction_type"], self.skus.index(entry["sku"]), entry["location"], *figures
        )

    @rule(line=lines)
    def move(self, line: Line) -> None:
        path = {"IN": "in", "OUT": "out", "TRANSFER": "transfer", "ADJUSTMENT": "adjustment"}[line.kind]
        self.agree(self.send(path, self.said(line)), lambda: self.books.post([line]), "/quantity")

    @rule(document=st.lists(lines, min_size=2, max_size=6))
    def post(self, document: list[Line]) -> None:
        body = {"movements": [{"transaction_type": line.kind} | self.said(line) for line in document]}
        self.agree(self.send("movements", body), lambda: self.books.post(document), "/movements/{}/quantity")

    @precondition(lambda self: self.posted)
    @rule(data=st.data())
    def reverse(self, data: st.DataObject) -> None:
        transaction_id, document = data.draw(st.sampled_from(self.posted))
        answer = self.send(f"transactions/{transaction_id}/reverse", {"reason": "mistake"})
        if transaction_id in self.taken_back:
            assert (answer.status_code, answer.json()["type"]) == (409, "/problems/already-reversed")
            return
        self.agree(answer, lambda: self.books.reverse(document))
        if answer.status_code == 201:
            self.taken_back.add(transaction_id)

    @precondition(lambda self: any(answer.status_code == 201 for *_, answer in self.asked))
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        done = [asked for asked in self.asked if asked[-1].status_code == 201]
        path, body, key, first = data.draw(st.sampled_from(done))
        again = self.wait(self.client.post(f"{PATH}/{path}", json=body, headers={"Idempotency-Key": key}))
        assert (again.status_code, again.text) == (201, first.text)
        assert again.headers["Idempotency-Replayed"] == "true"

    def teardown(self) -> None:
        if hasattr(self, "books"):
            self.wait(self.compare())

    async def compare(self) -> None:
        rows = await self.owner.fetch(
            "select i.sku, l.code, b.on_hand, b.value, b.last_average from stock_balances b"
            " join items i on i.id = item_id join locations l on l.id = location_id where i.sku = any($1)",
            self.skus,
        )
        for sku, code, on_hand, value, average in rows:
            model = self.books.balances[self.skus.index(sku), code]
            assert [Fraction(on_hand), Fraction(value)] == [model.on_hand, model.value]
            assert average == model.average
        untouched = self.books.balances.keys() - {(self.skus.index(row["sku"]), row["code"]) for row in rows}
        assert all(self.books.balances[key].on_hand == 0 for key in untouched)
        await assert_books(self.owner)


async def test_every_history_is_that_of_the_model(admin: httpx.AsyncClient, owner: asyncpg.Connection) -> None:
    Stock.loop, Stock.client, Stock.owner = asyncio.get_running_loop(), admin, owner
    rules = settings(max_examples=25, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck))
    await asyncio.to_thread(run_state_machine_as_test, Stock, settings=rules)
