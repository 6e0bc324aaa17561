"""Any history of movements, documents, kits, revaluations, reversals in parts, dates, closed periods and retries is
that of a plain model, entry by entry, whichever of two instances answers."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, TypeVar

import asyncpg
import httpx
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from erp_service.access.principals import system
from erp_service.access.roles import Role
from erp_service.company.service import close_through
from erp_service.db.engine import Database
from erp_service.settings import Settings
from tests.inventory.books import PATH, assert_books, stocked
from tests.inventory.company import ZERO, Company, Document, Entry, Line, Refused
from tests.support.apps import two_instances
from tests.support.users import make_user, token_of

T = TypeVar("T")
PLACES = ("MAIN", "SHOP", "YARD-")
ITEMS = (0, 1, 2)
FIRST_DAY = datetime(2026, 1, 1, 12, tzinfo=UTC)
_numbers = itertools.count()


def fractions(numbers: st.SearchStrategy[Any]) -> st.SearchStrategy[Fraction]:
    return numbers.map(Fraction)


quantities = fractions(st.one_of(st.integers(1, 4), st.decimals("0.000001", "2", places=6, allow_nan=False)))
money = fractions(st.one_of(st.integers(0, 9), st.decimals("0", "99", places=4, allow_nan=False)))
unit_costs = fractions(st.one_of(st.integers(0, 2), st.decimals("0", "9.9", places=10, allow_nan=False)))
days = st.none() | st.integers(0, 20)
items = st.sampled_from(ITEMS)
places = st.permutations(PLACES)
costs: st.SearchStrategy[tuple[Fraction | None, Fraction | None]] = st.one_of(
    st.just((None, None)),
    st.tuples(unit_costs, st.none()),
    st.tuples(unit_costs, st.none()),
    st.tuples(st.none(), money),
)
"""The unit cost and the total cost; one of them at most."""


@st.composite
def lines(draw: st.DrawFn, *kinds: str) -> Line:
    kind, item, day = draw(st.sampled_from(kinds)), draw(items), draw(days)
    if kind == "REVALUATION":
        if draw(st.booleans()):
            return Line(kind, item, unit_value=draw(unit_costs), day=day)
        difference = draw(money | money.map(lambda amount: -amount))
        return Line(kind, item, difference=difference, quantity=draw(st.just(ZERO) | quantities), day=day)
    place, to, _ = draw(places)
    line = Line(kind, item, place, to if kind == "TRANSFER" else "", draw(quantities), day=day)
    if kind == "ADJUSTMENT" and draw(st.booleans()):
        return replace(line, quantity=-line.quantity)
    if kind not in ("IN", "ADJUSTMENT"):
        return line
    unit_cost, total_cost = draw(costs)
    return replace(line, unit_cost=unit_cost, total_cost=total_cost)


any_line = lines("IN", "IN", "IN", "OUT", "OUT", "TRANSFER", "ADJUSTMENT", "REVALUATION")


@st.composite
def kits(draw: st.DrawFn) -> Line:
    kit, *others = draw(st.permutations(ITEMS))
    chosen = draw(st.lists(st.sampled_from(others), min_size=1, max_size=3))
    parts = tuple(Line("", item, draw(places)[0], quantity=draw(quantities)) for item in chosen)
    place, quantity, day = draw(places)[0], draw(quantities), draw(days)
    return Line("", kit, place, quantity=quantity, day=day, components=parts, disassemble=draw(st.booleans()))


def text(number: Fraction) -> str:
    """An exact decimal."""
    shown = f"{Decimal(number.numerator) / number.denominator:f}"
    assert Fraction(shown) == number
    return shown


class Stock(RuleBasedStateMachine):
    """Runs in a thread; its requests run on the loop of the test."""

    loop: asyncio.AbstractEventLoop
    clients: list[httpx.AsyncClient]
    owner: asyncpg.Connection
    database: Database

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    @initialize()
    def items(self) -> None:
        """New ones for each example: a new database would take longer than all its requests."""
        self.skus = [f"S{next(_numbers)}" for _ in ITEMS]
        self.wait(stocked(self.owner, *self.skus, places=PLACES, free=False))
        self.wait(self.owner.execute("update company set closed_through = null, closed_at = null"))
        self.company = Company(len(ITEMS), PLACES)
        self.posted: list[tuple[str, Document]] = []
        self.sent: list[tuple[str, dict[str, Any], str, httpx.Response]] = []

    def client(self) -> httpx.AsyncClient:
        return self.clients[next(_numbers) % len(self.clients)]

    def send(self, path: str, body: dict[str, Any]) -> httpx.Response:
        key = f"key-{next(_numbers)}"
        answer = self.wait(self.client().post(f"{PATH}/{path}", json=body, headers={"Idempotency-Key": key}))
        self.sent.append((path, body, key, answer))
        return answer

    def body(self, line: Line) -> dict[str, Any]:
        body: dict[str, Any] = {"sku": self.skus[line.item], "quantity": text(line.quantity)}
        if line.day is not None:
            body["occurred_at"] = (FIRST_DAY + timedelta(days=line.day)).isoformat()
        for name in ("unit_cost", "total_cost", "difference", "unit_value"):
            if (number := getattr(line, name)) is not None:
                body[name] = text(number)
        if line.kind in ("ADJUSTMENT", "REVALUATION"):
            body["reason"] = "looked again"
        if line.kind == "REVALUATION":
            return body if line.quantity else {name: value for name, value in body.items() if name != "quantity"}
        if line.kind == "TRANSFER":
            return body | {"from_location": line.place, "to_location": line.to}
        return body | {"location": line.place}

    def agree(self, answer: httpx.Response, act: Callable[[], Document], pointer: str = "") -> Document | None:
        try:
            expected = act()
        except Refused as refused:
            self.refused(answer, refused, pointer)
            return None
        assert answer.status_code == 201, answer.text
        document = answer.json()
        entries = document.get("entries") or [e for e in (document, document["settlement"]) if e]
        assert [self.seen(entry) for entry in entries] == [
            (number, entry) for number, line in enumerate(expected.lines, 1) for entry in line.entries
        ]
        assert [entry["id"] for entry in entries] == sorted(entry["id"] for entry in entries)
        self.posted.append((document["transaction_id"], expected))
        return expected

    def refused(self, answer: httpx.Response, refused: Refused, pointer: str) -> None:
        problem = answer.json()
        assert problem["type"] == f"/problems/{refused.why}", (answer.text, refused)
        assert answer.status_code == (422 if refused.why == "cost-unknown" else 409)
        if refused.available is not None:
            assert Fraction(problem["available"]) == refused.available
        if refused.day is not None:
            moment = FIRST_DAY + timedelta(days=refused.day)
            assert refused.day > 1_000 or datetime.fromisoformat(problem["breaks_at"]) == moment
        elif pointer and refused.line is not None:
            assert problem["errors"][0]["pointer"].startswith(pointer.format(refused.line)), answer.text

    def seen(self, entry: dict[str, Any]) -> tuple[int, Entry]:
        def number(name: str) -> Fraction | None:
            return None if entry[name] is None else Fraction(entry[name])

        return entry["line"], Entry(
            entry["transaction_type"],
            self.skus.index(entry["sku"]),
            entry["location"],
            Fraction(entry["quantity"]),
            Fraction(entry["value"]),
            number("on_hand_after"),
            number("item_on_hand_after"),
            number("value_after"),
            entry["origin"],
            number("not_covered"),
        )

    @rule(line=any_line)
    def move(self, line: Line) -> None:
        paths = {"IN": "in", "OUT": "out", "TRANSFER": "transfer", "ADJUSTMENT": "adjustment"}
        self.agree(self.send(paths.get(line.kind, "revaluation"), self.body(line)), lambda: self.company.post([line]))

    @rule(document=st.lists(any_line, min_size=2, max_size=6))
    def post(self, document: list[Line]) -> None:
        body = {"movements": [{"transaction_type": line.kind} | self.body(line) for line in document]}
        self.agree(self.send("movements", body), lambda: self.company.post(document), "/movements/{}")

    @rule(kit=kits())
    def assemble(self, kit: Line) -> None:
        components = [self.body(part) for part in kit.components]
        body = self.body(kit) | {"components": components, "disassemble": kit.disassemble}
        self.agree(self.send("assembly", body), lambda: self.company.assemble(kit))

    @precondition(lambda self: self.posted)
    @rule(data=st.data(), whole=st.booleans(), later=st.none() | st.integers(0, 5))
    def reverse(self, data: st.DataObject, whole: bool, later: int | None) -> None:
        transaction_id, document = data.draw(st.sampled_from(self.posted))
        day = None if later is None or document.day > 1_000 else document.day + later
        body: dict[str, Any] = {"reason": "came back"}
        if day is not None:
            body["occurred_at"] = (FIRST_DAY + timedelta(days=day)).isoformat()
        parts: dict[int, Fraction | None] | None = None
        if not whole:
            chosen = data.draw(st.lists(st.integers(0, len(document.lines) - 1), min_size=1, unique=True))
            parts = {index: self.part_of(document, index, data) for index in chosen}
            body["lines"] = [
                {"line": index + 1} | ({} if part is None else {"quantity": text(part)})
                for index, part in parts.items()
            ]
        self.agree(
            self.send(f"transactions/{transaction_id}/reverse", body),
            lambda: self.company.reverse(document, parts, day),
        )

    def part_of(self, document: Document, index: int, data: st.DataObject) -> Fraction | None:
        first = document.lines[index].own[0]
        if not first.quantity:
            return None
        return data.draw(st.none() | st.just(abs(first.quantity)) | quantities)

    @rule(day=st.integers(0, 12))
    def close(self, day: int) -> None:
        if day <= self.company.closed_through:
            return

        async def close() -> None:
            async with self.database.write() as db:
                await close_through(db, system("test"), (FIRST_DAY + timedelta(days=day)).date())

        self.wait(close())
        self.company.closed_through = day

    @precondition(lambda self: any(answer.status_code == 201 for *_, answer in self.sent))
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        done = [sent for sent in self.sent if sent[-1].status_code == 201]
        path, body, key, first = data.draw(st.sampled_from(done))
        again = self.wait(self.client().post(f"{PATH}/{path}", json=body, headers={"Idempotency-Key": key}))
        assert (again.status_code, again.text) == (201, first.text)
        assert again.headers["Idempotency-Replayed"] == "true"

    def teardown(self) -> None:
        if hasattr(self, "company"):
            self.wait(self.compare())

    async def compare(self) -> None:
        values = await self.owner.fetch(
            "select i.sku, v.* from stock_values v join items i on i.id = item_id where i.sku = any($1)", self.skus
        )
        for row in values:
            model = self.company.items[self.skus.index(row["sku"])]
            assert [Fraction(row["on_hand"]), Fraction(row["value"])] == [model.on_hand, model.value]
            assert row["last_cost"] == model.last_cost
        balances = await self.owner.fetch(
            "select i.sku, l.code, b.on_hand from stock_balances b"
            " join items i on i.id = item_id join locations l on l.id = location_id where i.sku = any($1)",
            self.skus,
        )
        kept = {(self.skus.index(sku), code): Fraction(on_hand) for sku, code, on_hand in balances}
        assert all(kept.get(key, ZERO) == on_hand for key, on_hand in self.company.on_hand.items())
        await assert_books(self.owner)


@pytest.fixture
async def admins(settings: Settings, database: Database) -> AsyncIterator[list[httpx.AsyncClient]]:
    """An ADMIN's client of each of two instances."""
    token = token_of(settings, await make_user(database, Role.ADMIN))
    async with two_instances(settings) as two:
        for client in two.clients:
            client.headers["Authorization"] = f"Bearer {token}"
        yield two.clients


async def test_every_history_is_that_of_the_model(
    admins: list[httpx.AsyncClient], database: Database, owner: asyncpg.Connection
) -> None:
    Stock.loop, Stock.clients, Stock.owner, Stock.database = asyncio.get_running_loop(), admins, owner, database
    rules = settings(max_examples=40, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck))
    await asyncio.to_thread(run_state_machine_as_test, Stock, settings=rules)
