"""The demo stock that `erp up` loads."""

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
from httpx import AsyncClient

from erp_service.db.engine import Database
from erp_service.operations.verify import verify
from erp_service.settings import Settings
from erp_service.standalone.demo import COLLEAGUE, catalogue, load_colleague, load_demo, movements

NOW = datetime(2026, 3, 4, 15, 30, tzinfo=UTC)


async def test_demo_stock_is_loaded_once_and_its_books_hold(settings: Settings, owner: asyncpg.Connection) -> None:
    assert await load_demo(settings.database_url)
    assert not await load_demo(settings.database_url)
    counts = await owner.fetchrow(
        "select (select count(*) from items), (select count(*) from locations), (select count(*) from stock_ledger),"
        " (select count(distinct entry_type) from stock_ledger), (select count(*) from audit_log)"
    )
    items, locations, entries, kinds, audited = counts
    # an entry for each of the three files, and one for the company's name
    assert (items, locations, kinds, audited) == (40, 6, 5, 4)
    assert 500 < entries < 1500
    assert await verify(settings) == []


async def test_two_that_start_at_once_load_it_once(settings: Settings, owner: asyncpg.Connection) -> None:
    assert sorted(await asyncio.gather(*(load_demo(settings.database_url) for _ in range(3)))) == [False, False, True]
    assert await owner.fetchval("select count(*) from items") == 40


async def test_nothing_is_loaded_where_there_are_items(settings: Settings, owner: asyncpg.Connection) -> None:
    await owner.execute("insert into items (sku, name, unit, deleted_at) values ('MINE', 'Mine', 'pcs', now())")
    assert not await load_demo(settings.database_url)
    assert await owner.fetchval("select count(*) from locations") == 0


def test_the_story_is_the_same_for_the_same_day_and_ends_before_it() -> None:
    goods = catalogue()
    story = list(movements(goods, NOW))
    assert story == list(movements(goods, NOW.replace(hour=1)))
    times = [datetime.fromisoformat(movement.occurred_at) for movement in story]
    assert NOW - timedelta(days=91) < times[0] <= times[-1] < NOW.replace(hour=0)
    assert times == sorted(times)


def test_whatever_the_day_there_is_always_something_to_sell_and_something_low() -> None:
    goods = catalogue()
    for day in range(40):
        on_hand = dict.fromkeys((good.sku for good in goods), 0.0)
        for movement in movements(goods, NOW + timedelta(days=day)):
            sign = {"IN": 1, "ADJUSTMENT": 1, "OUT": -1, "TRANSFER": 0}[movement.type]
            on_hand[movement.sku] += sign * float(movement.quantity)
        low = [good.sku for good in goods if on_hand[good.sku] <= good.reorder_point]
        assert 0 < len(low) < len(goods) / 2, (day, low)
        assert min(on_hand.values()) >= 0


async def test_the_colleague_is_there_once_and_nobody_can_sign_in_as_them(
    database: Database, client: AsyncClient
) -> None:
    for _ in range(2):
        await load_colleague(database)
    form = {"username": COLLEAGUE, "password": "!"}
    assert (await client.post("/api/v1/auth/login", data=form)).status_code == 401
