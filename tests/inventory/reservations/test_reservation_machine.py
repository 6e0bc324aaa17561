"""Any history of reservations, movements and passing time over two instances is that of a plain model."""

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from copy import deepcopy
from decimal import Decimal
from typing import Any, TypeVar

import asyncpg
import httpx
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from erp_service.db.engine import Database
from erp_service.inventory.reservations.expiry import sweep_all
from tests.inventory.books import PATH, stocked
from tests.inventory.reservations.model import Ended, Hold, Key, Short, Stock
from tests.inventory.reservations.reserving import HOUR, RESERVATIONS, assert_reserved, ended, expire, short

T = TypeVar("T")
PLACES = ("MAIN", "SHOP", "YARD-")
_numbers = itertools.count()

quantities = st.one_of(st.integers(1, 3).map(Decimal), st.decimals("0.000001", "2", places=6, allow_nan=False))
picks = st.tuples(st.integers(0, 1), st.sampled_from(PLACES))

HELD = """
select i.sku, l.code, b.on_hand, b.reserved, b.allows_negative, b.on_hand - b.reserved + coalesce((
    select sum(quantity) from stock_reservations r
    where r.item_id = b.item_id and r.location_id = b.location_id and status = 'ACTIVE' and expires_at <= now()
  ), 0) as available
from stock_balances b join items i on i.id = b.item_id join locations l on l.id = b.location_id
where i.sku = any($1)
"""


class Machine(RuleBasedStateMachine):
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
        self.skus = [f"S{next(_numbers)}" for _ in range(2)]
        self.wait(stocked(self.owner, *self.skus, places=PLACES))
        self.model = Stock({(sku, code): Decimal(0) for sku in self.skus for code in PLACES})
        self.ids: list[str] = []

    def key(self, pick: tuple[int, str]) -> Key:
        return self.skus[pick[0]], pick[1]

    def send(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        client = self.clients[next(_numbers) % 2]
        return self.wait(client.request(method, path, json=body))

    def refusal(self, act: Callable[[], None]) -> Short | Ended | None:
        """What the model says against it, which leaves the model as it was; None if it was done."""
        before = deepcopy(self.model)
        try:
            act()
        except (Short, Ended) as refusal:
            self.model = before
            return refusal
        return None

    def agree(self, answer: httpx.Response, act: Callable[[], None], status: int = 201) -> None:
        match self.refusal(act):
            case None:
                assert answer.status_code == status, answer.text
            case Short(available=available):
                assert Decimal(short(answer)) == available
            case Ended(status=how):
                assert ended(answer) == how

    def hold(self, data: st.DataObject) -> tuple[Hold, str]:
        index = data.draw(st.integers(0, len(self.ids) - 1))
        return self.model.holds[index], self.ids[index]

    @rule(pick=picks, quantity=quantities)
    def receive(self, pick: tuple[int, str], quantity: Decimal) -> None:
        (sku, code), quantity = self.key(pick), quantity + 2
        body = {"sku": sku, "location": code, "quantity": f"{quantity:f}"}
        self.agree(self.send("POST", f"{PATH}/in", body), lambda: self.model.receive((sku, code), quantity))

    @rule(pick=picks, quantity=quantities)
    def issue(self, pick: tuple[int, str], quantity: Decimal) -> None:
        sku, code = self.key(pick)
        body = {"sku": sku, "location": code, "quantity": f"{quantity:f}"}
        self.agree(self.send("POST", f"{PATH}/out", body), lambda: self.model.issue((sku, code), quantity))

    @rule(pick=picks, to=st.sampled_from(PLACES), quantity=quantities)
    def move(self, pick: tuple[int, str], to: str, quantity: Decimal) -> None:
        sku, code = self.key(pick)
        if code != to:
            body = {"sku": sku, "from_location": code, "to_location": to, "quantity": f"{quantity:f}"}
            answer = self.send("POST", f"{PATH}/transfer", body)
            self.agree(answer, lambda: self.model.move((sku, code), (sku, to), quantity))

    @rule(lines=st.lists(st.tuples(picks, quantities), min_size=1, max_size=3))
    def reserve(self, lines: list[tuple[tuple[int, str], Decimal]]) -> None:
        wanted = [(self.key(pick), quantity) for pick, quantity in lines]
        body = [
            {"sku": sku, "location": code, "quantity": f"{quantity:f}", "expires_in_seconds": HOUR}
            for (sku, code), quantity in wanted
        ]
        answer = self.send("POST", f"{RESERVATIONS}/bulk", {"reservations": body})
        self.agree(answer, lambda: self.model.reserve(wanted))
        if answer.status_code == 201:
            self.ids += [one["id"] for one in answer.json()["reservations"]]

    @precondition(lambda self: self.ids)
    @rule(data=st.data(), quantity=quantities)
    def use(self, data: st.DataObject, quantity: Decimal) -> None:
        hold, id_ = self.hold(data)
        sku, code = hold.key
        body = {"sku": sku, "location": code, "quantity": f"{quantity:f}", "reservation_id": id_}
        self.agree(self.send("POST", f"{PATH}/out", body), lambda: self.model.issue(hold.key, quantity, hold))

    @precondition(lambda self: self.ids)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        hold, id_ = self.hold(data)
        self.agree(self.send("DELETE", f"{RESERVATIONS}/{id_}"), lambda: self.model.release(hold), 204)

    @precondition(lambda self: self.ids)
    @rule(data=st.data())
    def extend(self, data: st.DataObject) -> None:
        hold, id_ = self.hold(data)
        answer = self.send("POST", f"{RESERVATIONS}/{id_}/extend", {"expires_in_seconds": HOUR})
        self.agree(answer, lambda: self.model.extend(hold), 200)

    @precondition(lambda self: self.ids)
    @rule(data=st.data())
    def time_passes(self, data: st.DataObject) -> None:
        hold, id_ = self.hold(data)
        if hold.status == "ACTIVE":
            self.wait(expire(self.owner, {"id": id_}))
            hold.is_past = True

    @rule()
    def a_worker_sweeps(self) -> None:
        self.wait(sweep_all(self.database))
        self.model.sweep(*self.model.on_hand)

    @invariant()
    def never_more_is_held_than_there_is(self) -> None:
        if hasattr(self, "model"):
            for row in self.wait(self.owner.fetch(HELD, self.skus)):
                key = row["sku"], row["code"]
                assert (row["on_hand"], row["reserved"]) == (self.model.on_hand[key], self.model.held(key))
                assert row["available"] >= 0 or row["allows_negative"]

    def teardown(self) -> None:
        if hasattr(self, "model"):
            self.wait(self.compare())

    async def compare(self) -> None:
        for id_, hold in zip(self.ids, self.model.holds, strict=True):
            seen = (await self.clients[0].get(f"{RESERVATIONS}/{id_}")).json()
            assert (seen["status"], Decimal(seen["quantity"])) == (hold.shown, hold.quantity)
            assert Decimal(seen["original_quantity"]) == hold.original
        await assert_reserved(self.owner)


async def test_every_history_is_that_of_the_model(
    two: list[httpx.AsyncClient], owner: asyncpg.Connection, database: Database
) -> None:
    Machine.loop, Machine.clients = asyncio.get_running_loop(), two
    Machine.owner, Machine.database = owner, database
    rules = settings(max_examples=20, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck))
    await asyncio.to_thread(run_state_machine_as_test, Machine, settings=rules)
