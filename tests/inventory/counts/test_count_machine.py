"""Any history of movements and counts, over two instances and with retries, is that of a plain model."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine
from decimal import Decimal
from fractions import Fraction
from typing import Any, TypeVar

import asyncpg
import httpx
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from erp_service.access.roles import Role
from erp_service.db.engine import Database
from erp_service.inventory.counts.proofs import PROOFS
from erp_service.settings import Settings
from tests.inventory.books import PATH, assert_books, stocked
from tests.inventory.counts.count_model import Count, Refused, Stock
from tests.inventory.counts.counting import COUNTS
from tests.support.apps import two_instances
from tests.support.users import make_user, token_of

T = TypeVar("T")
_numbers = itertools.count()

some = st.one_of(st.integers(1, 9).map(Decimal), st.decimals("0.000001", "2", places=6, allow_nan=False))
levels = st.one_of(st.just(Decimal(0)), some)
costs = st.one_of(st.none(), st.integers(0, 3).map(Decimal), st.decimals("0", "9.9999", places=4, allow_nan=False))
items = st.integers(0, 1)
Movement = tuple[int, Decimal, Decimal | None, bool]
movements = st.tuples(items, some, costs, st.booleans())
counted_items = st.dictionaries(items, st.tuples(st.none() | levels | levels, costs), min_size=1)
Counted = dict[int, tuple[Decimal | None, Decimal | None]]
sides = st.integers(0, 1)


def fraction(number: Decimal | None) -> Fraction | None:
    return None if number is None else Fraction(number)


def text(number: Decimal | None) -> str | None:
    return None if number is None else f"{number:f}"


def outcome_of(act: Callable[[], T]) -> tuple[T | None, Refused | None]:
    try:
        return act(), None
    except Refused as refused:
        return None, refused


class Counting(RuleBasedStateMachine):
    """Runs in a thread; its requests run on the loop of the test."""

    loop: asyncio.AbstractEventLoop
    clients: list[httpx.AsyncClient]
    owner: asyncpg.Connection

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    @initialize()
    def shelves(self) -> None:
        """New ones for each example: a new database would take longer than all its requests. No cost is known yet."""
        number = next(_numbers)
        self.skus = [f"S{number}-{n}" for n in range(2)]
        self.places = (f"P{number}", f"P{number}-")
        self.wait(stocked(self.owner, *self.skus, places=self.places))
        self.wait(self.owner.execute("update stock_values set last_cost = null where on_hand = 0 and last_cost = 0"))
        self.stock = Stock()
        self.ids: dict[int, str] = {}
        self.done: list[tuple[str, str, dict[str, Any], str, httpx.Response]] = []

    def send(self, method: str, path: str, body: dict[str, Any]) -> httpx.Response:
        number = next(_numbers)
        key = f"key-{number}"
        client = self.clients[number % 2]
        answer = self.wait(client.request(method, path, json=body, headers={"Idempotency-Key": key}))
        if answer.is_success:
            self.done.append((method, path, body, key, answer))
        return answer

    def agree(self, answer: httpx.Response, act: Callable[[], T]) -> T | None:
        """The model does the same, or refuses for the same reason."""
        outcome, refused = outcome_of(act)
        if refused is None:
            assert answer.is_success, answer.text
            return outcome
        problem = answer.json()
        assert problem["type"] == f"/problems/{refused.problem}", answer.text
        if refused.problem == "stock-moved":
            assert [line["sku"] for line in problem["lines"]] == [self.skus[item] for item in refused.lines]
        return None

    def a_count(self, data: st.DataObject) -> tuple[Count, str]:
        """Mostly one that is open, since the others only refuse."""
        still_open = [n for n, count in enumerate(self.stock.counts) if count.status == "OPEN"]
        every = st.integers(0, len(self.stock.counts) - 1)
        number = data.draw(st.sampled_from(still_open * 5 + [-1]) if still_open else every)
        if number < 0:
            number = data.draw(every)
        return self.stock.counts[number], f"{COUNTS}/{self.ids[number]}"

    @rule(movement=movements, side=sides)
    def move(self, movement: Movement, side: int) -> None:
        (item, quantity, cost, goes_out), place = movement, self.places[side]
        body = {"sku": self.skus[item], "location": place, "quantity": text(quantity)}
        if goes_out:
            moved = Fraction(-quantity)
            self.agree(self.send("POST", f"{PATH}/out", body), lambda: self.stock.move(item, place, moved))
            return
        answer = self.send("POST", f"{PATH}/in", body | {"unit_cost": text(cost)})
        self.agree(answer, lambda: self.stock.move(item, place, Fraction(quantity), fraction(cost)))

    @rule(side=sides, counted=counted_items)
    def open(self, side: int, counted: Counted) -> None:
        answer = self.send("POST", COUNTS, {"location": self.places[side], "lines": self.said(counted)})
        assert answer.status_code == 201, answer.text
        self.ids[len(self.stock.counts)] = answer.json()["id"]
        self.recorded(self.stock.open(self.places[side]), counted)

    def said(self, counted: Counted) -> list[dict[str, str | None]]:
        return [
            {"sku": self.skus[item], "counted": text(level), "unit_cost": None if level is None else text(cost)}
            for item, (level, cost) in counted.items()
        ]

    def recorded(self, count: Count, counted: Counted) -> None:
        self.is_open(count)
        for item, (level, cost) in counted.items():
            self.stock.record(count, item, fraction(level), fraction(cost))

    @precondition(lambda self: self.stock.counts)
    @rule(data=st.data(), counted=counted_items)
    def record(self, data: st.DataObject, counted: Counted) -> None:
        count, path = self.a_count(data)
        answer = self.send("PUT", f"{path}/lines", {"lines": self.said(counted)})
        self.agree(answer, lambda: self.recorded(count, counted))

    @precondition(lambda self: self.stock.counts)
    @rule(data=st.data(), accept=st.booleans(), rest=st.booleans())
    def post(self, data: st.DataObject, accept: bool, rest: bool) -> None:
        self.post_count(*self.a_count(data), accept, rest)

    @rule(
        side=sides,
        counted=st.lists(counted_items, min_size=1, max_size=2),
        moved=st.lists(movements, max_size=2),
        flags=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=2),
    )
    def count_at_once(
        self, side: int, counted: list[Counted], moved: list[Movement], flags: list[tuple[bool, bool]]
    ) -> None:
        """One or two counts of a place, movements there, and the posting of both."""
        for one in counted:
            self.open(side, one)
        for movement in moved:
            self.move(movement, side)
        for number, flag in zip(range(len(self.ids) - len(counted), len(self.ids)), flags, strict=False):
            self.post_count(self.stock.counts[number], f"{COUNTS}/{self.ids[number]}", *flag)

    def post_count(self, count: Count, path: str, accept: bool, rest: bool) -> None:
        answer = self.send("POST", f"{path}/post", {"accept_moved": accept, "uncounted": "zero" if rest else None})

        def act() -> dict[int, Fraction]:
            self.is_open(count)
            return self.stock.post(count, accept_moved=accept, rest_is_missing=rest)

        if (differences := self.agree(answer, act)) is not None:
            assert self.wait(self.booked(answer.json()["transaction_id"])) == {
                self.skus[item]: difference for item, difference in differences.items()
            }

    @precondition(lambda self: sum(count.status == "OPEN" for count in self.stock.counts) > 2)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        count, path = self.a_count(data)

        def act() -> None:
            self.is_open(count)
            count.status = "CANCELED"

        self.agree(self.send("POST", f"{path}/cancel", {}), act)

    @precondition(lambda self: self.stock.counts)
    @rule(data=st.data())
    def look(self, data: st.DataObject) -> None:
        count, path = self.a_count(data)
        seen = self.wait(self.clients[0].get(path)).json()
        differing = sum(line.counted != line.expected for line in count.lines.values())
        moved = len(self.stock.moved(count, count.lines)) if count.status == "OPEN" else None
        figures = [seen[name] for name in ("status", "lines", "differing", "moved")]
        assert figures == [count.status, len(count.lines), differing, moved]

    @precondition(lambda self: self.done)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        method, path, body, key, first = data.draw(st.sampled_from(self.done))
        client = self.clients[next(_numbers) % 2]
        again = self.wait(client.request(method, path, json=body, headers={"Idempotency-Key": key}))
        assert (again.status_code, again.content) == (first.status_code, first.content)

    def is_open(self, count: Count) -> None:
        if count.status != "OPEN":
            raise Refused("count-ended")

    async def booked(self, document: str | None) -> dict[str, Fraction]:
        rows = await self.owner.fetch(
            "select i.sku, e.quantity from stock_ledger e join items i on i.id = e.item_id"
            " where e.transaction_id = $1 and e.origin = 'COUNT' order by e.id",
            document,
        )
        return {sku: Fraction(quantity) for sku, quantity in rows}

    def teardown(self) -> None:
        if hasattr(self, "stock"):
            self.wait(self.compare())

    async def compare(self) -> None:
        rows = await self.owner.fetch(
            "select i.sku, l.code, b.on_hand from stock_balances b join items i on i.id = item_id"
            " join locations l on l.id = location_id where i.sku = any($1)",
            self.skus,
        )
        found = {(self.skus.index(sku), code): Fraction(on_hand) for sku, code, on_hand in rows}
        assert {key: number for key, number in found.items() if number} == {
            key: number for key, number in self.stock.on_hand.items() if number
        }
        for sku, on_hand, value in await self.owner.fetch(
            "select i.sku, v.on_hand, v.value from stock_values v join items i on i.id = item_id where i.sku = any($1)",
            self.skus,
        ):
            item = self.stock.items[self.skus.index(sku)]
            assert [Fraction(on_hand), Fraction(value)] == [item.on_hand, item.value]
        await assert_books(self.owner)
        for proof in PROOFS:
            assert await self.owner.fetch(proof.rows) == []


@pytest.fixture
async def clients(settings: Settings, database: Database) -> AsyncIterator[list[httpx.AsyncClient]]:
    token = token_of(settings, await make_user(database, Role.ADMIN))
    async with two_instances(settings) as instances:
        for client in instances.clients:
            client.headers["Authorization"] = f"Bearer {token}"
        yield instances.clients


async def test_every_history_of_counts_is_that_of_the_model(
    clients: list[httpx.AsyncClient], owner: asyncpg.Connection
) -> None:
    Counting.loop, Counting.clients, Counting.owner = asyncio.get_running_loop(), clients, owner
    rules = settings(max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck))
    await asyncio.to_thread(run_state_machine_as_test, Counting, settings=rules)
