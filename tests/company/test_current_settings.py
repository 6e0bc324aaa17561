"""Settings are in force on every instance and in every worker within a second, and cost no look-up per request."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest

from erp_service.access.roles import Role
from erp_service.company import current
from erp_service.company.current import CurrentSettings
from erp_service.company.settings import CompanySettings, company_settings
from erp_service.db.engine import Database
from erp_service.db.notifications import APPLICATION, NotificationListener
from erp_service.settings import Settings
from tests.exports.jobs import JOBS, done
from tests.support.apps import Instances, services_of, two_instances
from tests.support.clients import UserClient
from tests.support.company import set_company
from tests.support.users import make_user, token_of
from tests.support.waiting import eventually
from tests.support.workers import Work

SETTINGS = "/api/v1/settings"
SUMMARY = "/api/v1/inventory/reports/summary"
LOW = "/api/v1/inventory/reports/low-stock"


@pytest.fixture
async def instances(settings: Settings, database: Database) -> AsyncIterator[Instances]:
    """Two, each with a client of the same ADMIN."""
    user_id = await make_user(database, Role.ADMIN)
    async with two_instances(settings) as both:
        for client in both.clients:
            client.headers["Authorization"] = f"Bearer {token_of(settings, user_id)}"
        await eventually(lambda: listening(both))
        yield both


async def listening(both: Instances) -> bool:
    return all(services_of(app).notifications.is_current for app in both.apps)


async def currencies(both: Instances) -> list[str]:
    return [(await client.get(SUMMARY)).json()["currency"] for client in both.clients]


async def test_a_change_is_in_force_on_the_other_instance(instances: Instances) -> None:
    assert await currencies(instances) == ["EUR", "EUR"]
    one, _ = instances.clients
    for currency in ("CHF", "SEK", "CHF"):
        assert (await one.patch(SETTINGS, json={"currency": currency})).status_code == 200

        async def has_come(currency: str = currency) -> bool:
            return await currencies(instances) == [currency] * 2

        await eventually(has_come)


async def test_a_quota_is_in_force_on_the_other_instance(instances: Instances) -> None:
    one, other = instances.clients
    body = {"dataset": "items"}
    assert (await other.post("/api/v1/exports/estimates", json=body)).status_code == 200
    assert (await one.patch(SETTINGS, json={"export_estimates_per_minute": 1})).status_code == 200

    async def is_refused() -> bool:
        return (await other.post("/api/v1/exports/estimates", json=body)).status_code == 429

    await eventually(is_refused)


async def test_a_change_in_sql_is_noticed_too(instances: Instances, owner: asyncpg.Connection) -> None:
    assert await currencies(instances) == ["EUR", "EUR"]
    await owner.execute("""update company set settings = settings || '{"currency": "NOK"}'""")

    async def has_come() -> bool:
        return await currencies(instances) == ["NOK", "NOK"]

    await eventually(has_come)


async def test_a_worker_takes_what_is_set_at_each_job(
    work: Work, viewer: UserClient, staff: UserClient, admin: UserClient, owner: asyncpg.Connection
) -> None:
    body = {"dataset": "items", "retention_hours": 2}
    async with work():
        assert (await done(viewer))["status"] == "succeeded"
        assert (await admin.patch(SETTINGS, json={"export_retention_hours": 1})).status_code == 200

        async def is_refused() -> list[dict[str, str]] | None:
            answer = await viewer.post(JOBS, json=body)
            faults: list[dict[str, str]] | None = answer.json().get("errors")
            return faults

        assert await eventually(is_refused) == [{"pointer": "/retention_hours", "detail": "must be at most 1 here"}]
        job = await done(viewer)
        kept = await owner.fetchval("select expires_at - finished_at from export_jobs where id = $1", job["id"])
        assert kept.total_seconds() == pytest.approx(3600, abs=1)
        # whoever keeps nothing may submit, and the worker finds that the file is too large
        assert (await admin.patch(SETTINGS, json={"export_bytes_per_user": 1})).status_code == 200
        too_large = await done(staff)
    assert (too_large["status"], too_large["error"]["type"]) == ("failed", "/problems/export-quota")


async def test_items_without_a_reorder_point_are_low_below_the_threshold(
    admin: UserClient,
) -> None:
    for sku, point in (("OWN", "7"), ("NONE", None)):
        body = {"sku": sku, "name": sku, "reorder_point": point}
        assert (await admin.post("/api/v1/inventory/items", json=body)).status_code == 201

    async def shortages() -> dict[str, Decimal]:
        low = (await admin.get(LOW)).json()["items"]
        return {line["sku"]: Decimal(line["shortage"]) for line in low}

    assert await shortages() == {"OWN": 7}
    assert (await admin.patch(SETTINGS, json={"low_stock_threshold": 3})).status_code == 200

    async def both_are_low() -> bool:
        return await shortages() == {"OWN": 7, "NONE": 3}

    await eventually(both_are_low)
    assert (await admin.get(SUMMARY)).json()["low_stock_items"] == 2


# What CurrentSettings does when it cannot hear


class CountedDatabase:
    """Counts the look-ups; each waits while `gate` is closed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.look_ups = 0
        self.gate = asyncio.Event()
        self.gate.set()

    @property
    def reader(self) -> Any:
        return self

    async def fetch_value(self, *arguments: Any) -> Any:
        return await self._database.reader.fetch_value(*arguments)

    async def scalar(self, *arguments: Any) -> Any:
        self.look_ups += 1
        found = await self._database.reader.scalar(*arguments)
        await self.gate.wait()
        return found


@contextlib.asynccontextmanager
async def kept(settings: Settings, counted: CountedDatabase) -> AsyncIterator[tuple[CurrentSettings, Any]]:
    notifications = NotificationListener(settings.listen_url)
    present = CurrentSettings(notifications, counted)  # type: ignore[arg-type]
    async with notifications.listening():
        await eventually(lambda: _is_current(notifications))
        yield present, notifications


async def _is_current(notifications: NotificationListener) -> bool:
    return notifications.is_current


async def test_a_thousand_requests_need_one_look_up(settings: Settings, database: Database) -> None:
    counted = CountedDatabase(database)
    async with kept(settings, counted) as (present, _):
        await asyncio.gather(*(present.now() for _ in range(500)))
        for _ in range(500):
            await present.now()
        assert counted.look_ups == 1
        await set_company(database, company_name="Lumen")

        async def is_known() -> bool:
            return (await present.now()).company_name == "Lumen"

        await eventually(is_known)
        assert counted.look_ups == 2


async def test_what_was_read_before_a_notification_is_not_kept(settings: Settings, database: Database) -> None:
    counted = CountedDatabase(database)
    async with kept(settings, counted) as (present, _):
        counted.gate.clear()
        early = asyncio.create_task(present.now())
        await eventually(lambda: _has_looked_up(counted, 1))
        await set_company(database, company_name="Lumen")

        # the look-up has read what was there before, and is still on its way
        async def late() -> CompanySettings:
            return await present.now()

        waiting: list[asyncio.Task[CompanySettings]] = []

        async def another_look_up() -> bool:
            waiting.append(asyncio.create_task(late()))
            await asyncio.sleep(0)
            return counted.look_ups == 2

        await eventually(another_look_up)
        counted.gate.set()
        assert (await early).company_name is None
        assert present.latest.company_name in (None, "Lumen")
        assert (await waiting[-1]).company_name == "Lumen"
        assert (await present.now()).company_name == present.latest.company_name == "Lumen"


async def _has_looked_up(counted: CountedDatabase, times: int) -> bool:
    return counted.look_ups >= times


async def test_an_instance_that_is_not_notified_looks_again_in_time(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = CountedDatabase(database)
    deaf = NotificationListener("postgresql://127.0.0.1:1/nowhere")
    present = CurrentSettings(deaf, counted)  # type: ignore[arg-type]
    await asyncio.gather(*(present.now() for _ in range(100)))
    assert counted.look_ups == 1, "those that come at once share one"
    await set_company(database, company_name="Lumen")

    async def is_known() -> bool:
        return (await present.now()).company_name == "Lumen"

    began = asyncio.get_running_loop().time()
    await eventually(is_known)
    looked_for = asyncio.get_running_loop().time() - began
    assert counted.look_ups <= 2 + looked_for / current.HOLDS_UNHEARD


async def test_a_connection_that_is_lost_makes_it_look_again(
    settings: Settings, database: Database, owner: asyncpg.Connection
) -> None:
    counted = CountedDatabase(database)
    async with kept(settings, counted) as (present, notifications):
        await present.now()
        # the change and the loss at once: the notification is never delivered
        async with owner.transaction():
            await owner.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where application_name = $1 and datname = current_database()",
                APPLICATION,
            )
            await owner.execute("alter table company disable trigger company_notify")
            await owner.execute("""update company set settings = '{"currency": "DKK"}'""")
            await owner.execute("alter table company enable trigger company_notify")

        async def is_known() -> bool:
            return (await present.now()).currency == "DKK"

        await eventually(is_known)
        await eventually(lambda: _is_current(notifications))
        assert (await present.now()).currency == "DKK"


async def test_a_database_that_fails_is_told_to_all_and_asked_again(settings: Settings, database: Database) -> None:
    class Failing(CountedDatabase):
        async def scalar(self, *arguments: Any) -> Any:
            if self.look_ups == 0:
                self.look_ups += 1
                raise ConnectionError("away")
            return await super().scalar(*arguments)

    counted = Failing(database)
    async with kept(settings, counted) as (present, _):
        results = await asyncio.gather(*(present.now() for _ in range(3)), return_exceptions=True)
        assert [type(result) for result in results] == [ConnectionError] * 3
        async with database.read() as db:
            assert await present.now() == await company_settings(db)


async def test_what_only_shapes_knows_nothing_rather_than_the_defaults_until_they_were_read(
    settings: Settings, database: Database
) -> None:
    counted = CountedDatabase(database)
    counted.gate.clear()
    deaf = NotificationListener("postgresql://127.0.0.1:1/nowhere")
    present = CurrentSettings(deaf, counted)  # type: ignore[arg-type]
    await present.prepare(patience=0.01)
    assert present.soon() is None
    counted.gate.set()

    async def is_known() -> bool:
        return present.soon() is not None

    await eventually(is_known)


async def test_first_requests_of_a_new_instance_have_the_limit_that_the_company_set(
    settings: Settings, database: Database, owner: asyncpg.Connection
) -> None:
    user_id = await make_user(database, Role.VIEWER)
    await set_company(database, requests_per_minute_per_user=1_000_000)
    # more than the default, in a window that is not over soon
    await owner.execute(
        "insert into rate_limits (key, taken, resets_at) values ($1, 50000, now() + interval '1 hour')",
        f"user:{user_id}",
    )
    async with two_instances(settings) as both:
        headers = {"Authorization": f"Bearer {token_of(settings, user_id)}"}
        calls = (client.get("/api/v1/auth/me", headers=headers) for client in both.clients for _ in range(8))
        assert {answer.status_code for answer in await asyncio.gather(*calls)} == {200}


async def test_the_document_does_not_depend_on_what_is_set(client: httpx.AsyncClient, database: Database) -> None:
    before = (await client.get("/schema/openapi.json")).json()
    await set_company(database, currency="JPY", export_retention_hours=5)
    assert (await client.get("/schema/openapi.json")).json() == before
    assert msgspec.json.encode(before)
