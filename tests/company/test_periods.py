"""Closing periods over HTTP, and what a period, a time zone and a currency have to do with postings in progress."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import asyncpg
import httpx
import pytest

from tests.company.settings_api import SETTINGS, changed, entries, refused
from tests.support.clients import UserClient
from tests.support.waiting import eventually

STOCK = "/api/v1/inventory/stock"


@pytest.fixture
async def goods(owner: asyncpg.Connection) -> None:
    await owner.execute("insert into items (sku, name, unit) values ('BOLT', 'Bolt', 'pcs')")
    await owner.execute("insert into locations (code, name, location_type) values ('MAIN', 'Main', 'WAREHOUSE')")


def receipt(occurred_at: str | None = None) -> dict[str, object]:
    body: dict[str, object] = {"sku": "BOLT", "location": "MAIN", "quantity": "1", "unit_cost": "2"}
    return body | ({} if occurred_at is None else {"occurred_at": occurred_at})


async def received(client: httpx.AsyncClient, occurred_at: str | None = None) -> int:
    return (await client.post(f"{STOCK}/in", json=receipt(occurred_at))).status_code


@asynccontextmanager
async def posting_in_progress(owner: asyncpg.Connection) -> AsyncIterator[None]:
    """What a posting holds from its first entry to its commit."""
    async with owner.transaction():
        await owner.execute("select pg_advisory_xact_lock_shared(hashtextextended('erp closed period', 0))")
        yield


async def waits_for_the_period(owner: asyncpg.Connection) -> bool:
    waiting = "select exists (select from pg_locks where locktype = 'advisory' and not granted)"
    return bool(await owner.fetchval(waiting))


async def test_an_owner_closes_a_month_and_opens_it_again_with_a_reason(
    admin: UserClient, super_admin: UserClient, goods: None, owner: asyncpg.Connection
) -> None:
    assert await received(admin, "2020-01-31T23:59:59Z") == 201
    shown = await changed(admin, closed_through="2020-01-31", reason="the accountant is done")
    assert (shown["closed_through"], shown["closed_at"] is not None) == ("2020-01-31", True)
    late = await admin.post(f"{STOCK}/in", json=receipt("2020-01-31T23:59:59Z"))
    assert (late.json()["type"], late.json()["first_open"]) == ("/problems/period-closed", "2020-02-01T00:00:00Z")
    assert await received(admin, "2020-02-01T00:00:00Z") == 201
    await changed(admin, closed_through="2020-02-29")
    for back in ("2020-02-28", None):
        assert await refused(admin, closed_through=back, reason="a late invoice") == (403, [])
        assert await refused(super_admin, closed_through=back) == (422, ["/reason"])
        assert await refused(super_admin, closed_through=back, reason=" ") == (422, ["/reason"])
    shown = await changed(super_admin, closed_through="2020-01-31", reason="a late invoice")
    assert await received(admin, "2020-02-28T00:00:00Z") == 201
    shown = await changed(super_admin, closed_through=None, reason="a mistake")
    assert (shown["closed_through"], shown["closed_at"]) == (None, None)
    actions = [(entry["action"], entry["after"]["closed_through"], entry["reason"]) for entry in await entries(owner)]
    assert actions == [
        ("company.period_closed", "2020-01-31", "the accountant is done"),
        ("company.period_closed", "2020-02-29", None),
        ("company.period_opened", "2020-01-31", "a late invoice"),
        ("company.period_opened", None, "a mistake"),
    ]


async def test_closing_and_a_setting_at_once_have_an_entry_each(admin: UserClient, owner: asyncpg.Connection) -> None:
    shown = await changed(admin, closed_through="2020-01-31", company_name="Lumen", reason="new year")
    assert shown["version"] == 2
    assert [(entry["action"], [*entry["after"]]) for entry in await entries(owner)] == [
        ("company.period_closed", ["closed_through"]),
        ("company.settings_changed", ["company_name"]),
    ]
    closed_at = shown["closed_at"]
    assert (await changed(admin, company_name="Lux"))["closed_at"] == closed_at


async def test_only_days_that_have_ended_are_closed(admin: UserClient) -> None:
    for zone in ("UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"):
        await changed(admin, timezone=zone)
        today = datetime.now(ZoneInfo(zone)).date()
        for day in (today, today + timedelta(days=1), today + timedelta(days=30_000)):
            assert await refused(admin, closed_through=day.isoformat()) == (422, ["/closed_through"])
    # a day that has ended there, and not here
    await changed(admin, timezone="Pacific/Kiritimati")
    ended = datetime.now(ZoneInfo("Pacific/Kiritimati")).date() - timedelta(days=1)
    await changed(admin, closed_through=ended.isoformat())
    if ended >= datetime.now(ZoneInfo("Pacific/Pago_Pago")).date():
        assert await refused(admin, timezone="Pacific/Pago_Pago") == (422, ["/timezone"])


async def test_a_time_zone_that_opens_hours_of_a_closed_period_needs_what_opening_needs(
    admin: UserClient, super_admin: UserClient, goods: None
) -> None:
    """Else an ADMIN opens a closed day by moving to the other side of the world."""
    await changed(admin, closed_through="2020-01-31")
    assert await refused(admin, timezone="Pacific/Kiritimati", reason="we move") == (403, [])
    assert await refused(super_admin, timezone="Pacific/Kiritimati") == (422, ["/reason"])
    # west of it, more is closed
    await changed(admin, timezone="America/New_York")
    assert await received(admin, "2020-02-01T04:59:59Z") == 409
    assert await received(admin, "2020-02-01T05:00:00Z") == 201
    # with a later day, nothing is opened
    await changed(admin, timezone="Pacific/Kiritimati", closed_through="2020-02-02")
    await changed(super_admin, timezone="Pacific/Apia", closed_through="2020-01-31", reason="we move")


async def test_closing_waits_for_postings_in_progress(
    admin: UserClient, goods: None, owner: asyncpg.Connection
) -> None:
    async with posting_in_progress(owner):
        closing = asyncio.create_task(changed(admin, closed_through="2020-01-31"))
        await eventually(lambda: waits_for_the_period(owner))
        assert not closing.done()
    assert (await closing)["closed_through"] == "2020-01-31"


async def test_what_closes_nothing_waits_for_no_posting(admin: UserClient, owner: asyncpg.Connection) -> None:
    """A body as it was read, with one other setting."""
    await changed(admin, closed_through="2020-01-31", timezone="Europe/Berlin", currency="CHF")
    shown = (await admin.get(SETTINGS)).json()
    async with posting_in_progress(owner):
        await changed(admin, **{**shown, "company_name": "Lumen"})


async def test_the_currency_stays_once_the_ledger_has_an_entry(
    admin: UserClient, super_admin: UserClient, goods: None
) -> None:
    await changed(admin, currency="CHF")
    assert await received(admin) == 201
    for who in (admin, super_admin):
        answer = await who.patch(SETTINGS, json={"currency": "EUR", "company_name": "Lumen"})
        assert (answer.status_code, answer.json()["type"]) == (409, "/problems/currency-in-use")
    assert (await changed(admin, currency="CHF", company_name="Lumen"))["company_name"] == "Lumen"


async def test_a_currency_that_races_the_first_posting_loses(
    admin: UserClient, goods: None, owner: asyncpg.Connection
) -> None:
    """It waits for the posting, and then finds its entry."""
    async with owner.transaction():
        await owner.execute("select pg_advisory_xact_lock(hashtextextended('erp closed period', 0))")
        # the posting has its entries, and waits for the lock at its end
        posting = asyncio.create_task(received(admin))
        await eventually(lambda: waits_for_the_period(owner))
        change = asyncio.create_task(admin.patch(SETTINGS, json={"currency": "CHF"}))

        async def both_wait() -> bool:
            count = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
            return bool(await owner.fetchval(count) == 2)

        await eventually(both_wait)
    assert await posting == 201
    answer = await change
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/currency-in-use")
    assert (await admin.get(SETTINGS)).json()["currency"] == "EUR"


async def test_changes_and_postings_at_once_never_deadlock(admin: UserClient, goods: None) -> None:
    today = datetime.now(UTC).date()
    changes = [
        admin.patch(SETTINGS, json={"closed_through": (today - timedelta(days=30 - n)).isoformat()}) for n in range(6)
    ] + [admin.patch(SETTINGS, json={"currency": code}) for code in ("CHF", "SEK", "CHF")]
    posted, answers = await asyncio.gather(
        asyncio.gather(*(received(admin) for _ in range(12))), asyncio.gather(*changes)
    )
    assert posted == [201] * 12
    # closing runs forward only, so one that comes late is refused to an ADMIN
    assert {answer.status_code for answer in answers} <= {200, 403, 409}
