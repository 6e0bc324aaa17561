"""The API needs no state of a database session: two instances through pgbouncer in transaction mode."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from itertools import cycle
from typing import Any

import asyncpg
import httpx
import pytest
from litestar import Litestar
from sqlalchemy import text

from erp_service.access.roles import Role
from erp_service.app import create_app
from erp_service.db.engine import Database
from erp_service.services import build_services
from erp_service.settings import Settings
from tests.auth.people import HASH, PASSWORD, login
from tests.exports.jobs import JOBS, done
from tests.inventory.books import assert_books
from tests.support.apps import running
from tests.support.clients import client_of
from tests.support.users import make_user, token_of
from tests.support.waiting import eventually
from tests.support.workers import Work

STOCK = "/api/v1/inventory/stock"


@pytest.fixture
async def apps(settings: Settings) -> AsyncIterator[list[Litestar]]:
    one, other = create_app(build_services(settings)), create_app(build_services(settings))
    async with running(one), running(other):
        yield [one, other]


@pytest.fixture
async def both(apps: list[Litestar], settings: Settings, database: Database) -> AsyncIterator[list[httpx.AsyncClient]]:
    """One person, signed in to both instances."""
    token = token_of(settings, await make_user(database, Role.SUPER_ADMIN))
    async with client_of(apps[0], token) as one, client_of(apps[1], token) as other:
        yield [one, other]


@pytest.fixture
async def bolt(both: list[httpx.AsyncClient], owner: asyncpg.Connection) -> AsyncIterator[None]:
    body: dict[str, Any] = {"sku": "BOLT", "name": "Bolt", "unit": "pcs"}
    (await both[0].post("/api/v1/inventory/items", json=body)).raise_for_status()
    for code in ("MAIN", "SHOP"):
        body = {"code": code, "name": code, "location_type": "BIN"}
        (await both[1].post("/api/v1/inventory/locations", json=body)).raise_for_status()
    yield
    await assert_books(owner)


async def test_signing_in_refreshing_and_being_slowed_when_guessing(apps: list[Litestar], database: Database) -> None:
    await make_user(database, Role.VIEWER, "grace@example.com", HASH)
    async with client_of(apps[0]) as one, client_of(apps[1]) as other:
        pair = (await login(one, "grace@example.com")).json()
        again = await other.post("/api/v1/auth/refresh", json={"refresh_token": pair["refresh_token"]})
        assert again.status_code == 200
        twice = await one.post("/api/v1/auth/refresh", json={"refresh_token": pair["refresh_token"]})
        assert twice.status_code == 401
        clients = cycle([one, other])
        answers = [await login(next(clients), "grace@example.com", "wrong" + PASSWORD) for _ in range(12)]
        assert {answer.status_code for answer in answers} == {401, 429}


@pytest.mark.usefixtures("bolt")
async def test_many_postings_at_once_over_few_sessions(both: list[httpx.AsyncClient]) -> None:
    clients = cycle(both)
    body = {"sku": "BOLT", "location": "MAIN", "quantity": "1", "unit_cost": "2"}
    answers = await asyncio.gather(*(next(clients).post(f"{STOCK}/in", json=body) for _ in range(60)))
    assert {answer.status_code for answer in answers} == {201}
    body = {"sku": "BOLT", "location": "MAIN", "quantity": "7"}
    answers = await asyncio.gather(*(next(clients).post(f"{STOCK}/out", json=body) for _ in range(12)))
    assert sorted(answer.status_code for answer in answers) == [201] * 8 + [409] * 4
    body = {"sku": "BOLT", "from_location": "MAIN", "to_location": "SHOP", "quantity": "1"}
    assert (await both[0].post(f"{STOCK}/transfer", json=body)).status_code == 201
    reads = [
        f"{STOCK}/current", f"{STOCK}/ledger", "/api/v1/inventory/items?q=bo", "/api/v1/inventory/reports/movements",
        "/api/v1/inventory/reports/summary", "/api/v1/inventory/reports/snapshot.csv", "/api/v1/audit", "/api/v1/users",
        "/api/v1/auth/me", "/health/ready", "/health/database", "/health/scaling", "/api/v1/exports/datasets",
        "/api/v1/exports/schedules", "/metrics",
    ]  # fmt: skip
    answers = await asyncio.gather(*(next(clients).get(path) for path in reads * 4))
    assert {(str(answer.url), answer.status_code) for answer in answers} == {
        (f"http://test{path}", 200) for path in reads
    }


@pytest.mark.usefixtures("bolt")
async def test_a_key_has_one_effect_on_whichever_session(
    both: list[httpx.AsyncClient], owner: asyncpg.Connection
) -> None:
    body = {"sku": "BOLT", "location": "MAIN", "quantity": "1", "unit_cost": "2"}
    for n in range(10):
        headers = {"Idempotency-Key": f"key-{n}"}
        answers = await asyncio.gather(
            *(client.post(f"{STOCK}/in", json=body, headers=headers) for client in both for _ in range(3))
        )
        assert {answer.status_code for answer in answers} <= {201, 409}
        first = await both[0].post(f"{STOCK}/in", json=body, headers=headers)
        assert first.headers["Idempotency-Replayed"] == "true"
    assert await owner.fetchval("select on_hand from stock_balances") == 10


async def test_requests_are_counted_together_on_whichever_session(
    both: list[httpx.AsyncClient], owner: asyncpg.Connection
) -> None:
    async def is_counted(client: httpx.AsyncClient) -> bool:
        """Requests whose count takes too long pass uncounted."""
        return "RateLimit" in (await client.get("/api/v1/auth/me")).headers

    for client in both:
        await eventually(partial(is_counted, client))
    # one row for both instances
    assert await owner.fetchval("select count(*) from rate_limits where key like 'user:%'") == 1
    assert await owner.fetchval("select taken from rate_limits where key like 'user:%'") >= 2


@pytest.mark.usefixtures("bolt")
async def test_exports_from_submission_to_file(both: list[httpx.AsyncClient], work: Work) -> None:
    async with work():
        jobs = await asyncio.gather(*(done(client, dataset="items") for client in both for _ in range(3)))
    assert {job["status"] for job in jobs} == {"succeeded"}
    file = await both[1].get(f"{JOBS}/{jobs[0]['id']}/download")
    assert b"BOLT" in file.content


async def test_a_role_that_is_taken_away_is_gone_on_every_instance(
    both: list[httpx.AsyncClient], apps: list[Litestar], settings: Settings, database: Database
) -> None:
    user = await make_user(database, Role.ADMIN)
    async with client_of(apps[1], token_of(settings, user)) as demoted:
        assert (await demoted.get("/api/v1/users")).status_code == 200
        body = {"role": "VIEWER", "reason": "moved"}
        (await both[0].post(f"/api/v1/users/{user}/role", json=body)).raise_for_status()

        async def refused() -> bool:
            return (await demoted.get("/api/v1/users")).status_code in (401, 403)

        await eventually(refused)


# Limits, which with a pooler are set for each transaction


async def test_a_transaction_has_its_limits_and_leaves_none_behind(database: Database) -> None:
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    show = text("select " + ", ".join(f"current_setting('{name}')" for name in names))
    for _ in range(10):
        async with database.write() as db:
            assert tuple((await db.execute(show)).one()) == ("30s", "10s", "5s")
        async with database.read() as db:
            assert tuple((await db.execute(show)).one()) == ("0", "0", "0")


async def test_a_read_that_takes_too_long_is_given_up_and_ended_in_the_server(
    settings: Settings, owner: asyncpg.Connection
) -> None:
    values = {name: getattr(settings, name) for name in settings.__struct_fields__}
    database = Database(Settings(**{**values, "statement_seconds": 0.5}))
    try:
        with pytest.raises(TimeoutError):
            async with database.read() as db:
                await db.execute(text("select pg_sleep(600)"))

        async def ended() -> bool:
            sleeping = "select count(*) from pg_stat_activity where query like '%pg_sleep(600)' and state = 'active'"
            return bool(await owner.fetchval(sleeping) == 0)

        await eventually(ended)
        async with database.read() as db:
            assert await db.scalar(text("select 1")) == 1
    finally:
        await database.close()
