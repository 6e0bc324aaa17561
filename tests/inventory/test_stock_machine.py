"""Any history of movements, documents, kits, revaluations, reversals in parts, dates, closed periods, reservations,
counts and retries is that of a plain model, entry by entry, whichever of two instances answers; and so is what is read
of it, now and as of any day."""

import asyncio
from collections.abc import AsyncIterator
from fractions import Fraction
from typing import Any

import asyncpg
import httpx
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule, run_state_machine_as_test

from erp_service.access.roles import Role
from erp_service.db.engine import Database
from erp_service.inventory.counts.proofs import PROOFS as COUNT_PROOFS
from erp_service.settings import Settings
from tests.inventory.books import PATH
from tests.inventory.company.documents import ZERO
from tests.inventory.company.shares import Level, levels, worth_before
from tests.inventory.reservations.reserving import assert_reserved
from tests.inventory.stock_machine.catalogue import ITEMS, moment, number
from tests.inventory.stock_machine.counts import Counts
from tests.support.apps import two_instances
from tests.support.users import make_user, token_of


class Stock(Counts):
    """All rules, and what is read after each of them and at the end."""

    def levels(self, item: int, **params: str) -> dict[str | None, Level]:
        page = self.read(f"{PATH}/current", sku=self.skus[item], **params)
        return {self.place(row["location"]): _level(row) for row in page["items"]}

    @precondition(lambda self: self.sent)
    @invariant()
    def what_is_read_is_what_the_model_has(self) -> None:
        """Of one item at a time."""
        self.same_levels(len(self.sent) % len(ITEMS))

    def same_levels(self, item: int) -> None:
        seen = self.levels(item)
        assert seen == levels(self.company, item)
        assert sum((level.value for level in seen.values()), ZERO) == self.company.books.items[item].value
        assert all(
            level.on_hand >= (level.reserved or ZERO) for place, level in seen.items() if not _is_negative(place)
        )

    @precondition(lambda self: self.posted)
    @rule(item=st.sampled_from(ITEMS), day=st.integers(0, 21), whole_day=st.booleans())
    def look_back(self, item: int, day: int, whole_day: bool) -> None:
        """At an instant, which excludes what happened at it; at a date, which includes it."""
        when = moment(day)
        seen = self.levels(
            item, as_of=when.date().isoformat() if whole_day else when.isoformat().replace("+00:00", "Z")
        )
        before = day + 1 if whole_day else day
        assert seen == levels(self.company, item, before)
        assert sum((level.value for level in seen.values()), ZERO) == worth_before(self.company.books, item, before)

    def teardown(self) -> None:
        for item in ITEMS:
            self.same_levels(item)
            days = sorted({day for day, entry in self.company.books.entries if entry.item == item and day < 1_000})
            for day in days[len(days) // 2 :][:1]:
                self.look_back(item, day, whole_day=False)
        self.same_reservations()
        for path, count in self.counts:
            self.look(path, count)
        self.wait(self.compare())

    async def compare(self) -> None:
        values = await self.owner.fetch(
            "select i.sku, v.* from stock_values v join items i on i.id = item_id where i.sku = any($1)", self.skus
        )
        for row in values:
            model = self.company.books.items[self.skus.index(row["sku"])]
            assert [Fraction(row["on_hand"]), Fraction(row["value"])] == [model.on_hand, model.value]
            assert row["last_cost"] == model.last_cost
        balances = await self.owner.fetch(
            "select i.sku, l.code, b.reserved from stock_balances b"
            " join items i on i.id = item_id join locations l on l.id = location_id where i.sku = any($1)",
            self.skus,
        )
        for sku, code, reserved in balances:
            key = self.skus.index(sku), self.place(code) or ""
            assert Fraction(reserved) == self.company.books.held(key)
        await assert_reserved(self.owner)
        for proof in COUNT_PROOFS:
            assert await self.owner.fetch(proof.rows) == [], proof.holds


def _level(row: dict[str, Any]) -> Level:
    reserved, available = number(row["reserved"]), number(row["available"])
    level = Level(Fraction(row["on_hand"]), Fraction(row["value"]), reserved, number(row["unit_value"]))
    assert available == (None if reserved is None else level.on_hand - reserved)
    return level


def _is_negative(place: str | None) -> bool:
    return place is not None and place.endswith("-")


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
    rules = settings(max_examples=50, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck))
    await asyncio.to_thread(run_state_machine_as_test, Stock, settings=rules)
