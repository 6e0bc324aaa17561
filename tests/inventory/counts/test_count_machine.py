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

    def opened(self, data: st.DataObject) -> tuple[Count, str]:
        number = data.draw(st.integers(0, len(self.stock.counts) - 1))
        return self.stock.counts[number], f"{COUNTS}/{self.ids[number]}"

    @rule(item=items, side=sides, quantity=some, cost=costs)
    def receive(self, item: int, side: int, quantity: Decimal, cost: Decimal | None) -> None:
        place = self.places[side]
        body = {"sku": self.skus[item], "location": place, "quantity": text(quantity), "unit_cost": text(cost)}
        answer = self.send("POST", f"{PATH}/in", body)
        self.agree(answer, lambda: self.stock.move(item, place, Fraction(quantity), fraction(cost)))

    @rule(item=items, side=sides, quantity=some)
    def issue(self, item: int, side: int, quantity: Decimal) -> None:
        place = self.places[side]
        body = {"sku": self.skus[item], "location": place, "quantity": text(quantity)}
        self.agree(self.send("POST", f"{PATH}/out", body), lambda: self.stock.move(item, place, -Fraction(quantity)))

    @rule(side=sides)
    def open(self, side: int) -> None:
        answer = self.send("POST", COUNTS, {"location": self.places[side]})
        assert answer.status_code == 201, answer.text
        self.ids[len(self.stock.counts)] = answer.json()["id"]
        self.stock.open(self.places[side])

    @precondition(lambda self: self.stock.counts)
    @rule(data=st.data(), counted=st.dictionaries(items, st.tuples(st.none() | levels, costs), min_size=1))
    def record(self, data: st.DataObject, counted: dict[int, tuple[Decimal | None, Decimal | None]]) -> None:
        count, path = self.opened(data)
        body = [
            {"sku": self.skus[item], "counted": text(level), "unit_cost": None if level is None else text(cost)}
            for item, (level, cost) in counted.items()
        ]
        answer = self.send("PUT", f"{path}/lines", {"lines": body})

        def act() -> None:
            self.is_open(count)
            for item, (level, cost) in counted.items():
                self.stock.record(count, item, fraction(level), fraction(cost))

        self.agree(answer, act)

    @precondition(lambda self: self.stock.counts)
    @rule(data=st.data(), accept=st.booleans(), rest=st.booleans())
    def post(self, data: st.DataObject, accept: bool, rest: bool) -> None:
        count, path = self.opened(data)
        answer = self.send("POST", f"{path}/post", {"accept_moved": accept, "uncounted": "zero" if rest else None})

        def act() -> dict[int, Fraction]:
            self.is_open(count)
            return self.stock.post(count, accept_moved=accept, rest_is_missing=rest)

        if (differences := self.agree(answer, act)) is not None:
            assert self.wait(self.booked(answer.json()["transaction_id"])) == {
                self.skus[item]: difference for item, difference in differences.items()
            }

    @precondition(lambda self: self.stock.counts)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        count, path = self.opened(data)

        def act() -> None:
            self.is_open(count)
            count.status = "CANCELED"

        self.agree(self.send("POST", f"{path}/cancel", {}), act)

    @precondition(lambda self: self.stock.counts)
    @rule(data=st.data())
    def look(self, data: st.DataObject) -> None:
        count, path = self.opened(data)
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
    rules = settings(max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))
    await asyncio.to_thread(run_state_machine_as_test, Counting, settings=rules)
