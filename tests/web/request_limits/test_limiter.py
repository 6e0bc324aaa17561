"""The limiter of instances over one database: what callers see in headers, and while the database is away."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from typing import NamedTuple

import asyncpg
import httpx
import msgspec
import pytest
from litestar import Litestar

from erp_service.access.principals import KeyGrant, Principal
from erp_service.access.roles import Role
from erp_service.app import create_app
from erp_service.db.engine import Database
from erp_service.observability import telemetry
from erp_service.services import build_services
from erp_service.settings import Settings
from erp_service.web.request_limits.leases import Tuning
from erp_service.web.request_limits.limiter import Limits, Pace, RequestLimiter
from tests.support.apps import running, services_of
from tests.support.clients import client_of
from tests.support.company import set_company
from tests.support.settings import as_role
from tests.support.users import make_user, token_of
from tests.support.waiting import eventually

ME, USERS, ESTIMATES = "/api/v1/auth/me", "/api/v1/users", "/api/v1/exports/estimates"
MOST = 40
PATIENT = Pace(patience=30, statement=30)
"""So that a busy machine is no slow database."""
AS_EVER = Tuning()


class Field(NamedTuple):
    """One item of `RateLimit`."""

    name: str
    remaining: int
    wait: int


def fields_of(answer: httpx.Response) -> list[Field]:
    found = re.findall(r'"([\w-]+)";r=(\d+);t=(\d+)', answer.headers["RateLimit"])
    assert len(found) == answer.headers["RateLimit"].count('"') / 2
    return [Field(name, int(remaining), int(wait)) for name, remaining, wait in found]


def limited_app(
    settings: Settings, limits: Limits, *, pace: Pace = PATIENT, tuning: Tuning = AS_EVER
) -> tuple[Litestar, RequestLimiter]:
    settings = as_role(settings, "erp_api")
    limiter = RequestLimiter(settings, lambda: limits, seconds=3600, pace=pace, tuning=tuning)
    return create_app(msgspec.structs.replace(build_services(settings), request_limiter=limiter)), limiter


@contextlib.asynccontextmanager
async def one_instance(settings: Settings, limits: Limits, *, pace: Pace = PATIENT) -> AsyncIterator[httpx.AsyncClient]:
    app, _ = limited_app(settings, limits, pace=pace)
    async with running(app), client_of(app) as client:
        yield client


async def authorization(settings: Settings, database: Database, role: Role = Role.VIEWER) -> dict[str, str]:
    return {"Authorization": f"Bearer {token_of(settings, await make_user(database, role))}"}


async def failed_open() -> float:
    return telemetry.REGISTRY.get_sample_value("erp_limits_failed_open_total", {"limit": "requests"}) or 0


async def test_two_instances_let_exactly_the_limit_through_and_nobody_else_is_refused(
    settings: Settings, database: Database
) -> None:
    one, other = await authorization(settings, database), await authorization(settings, database)
    limits, tuning = Limits(per_user=MOST), Tuning(idle_seconds=0.2)
    apps = [limited_app(settings, limits, tuning=tuning)[0] for _ in range(2)]
    async with running(apps[0]), running(apps[1]), client_of(apps[0]) as first, client_of(apps[1]) as second:
        clients = [first, second]
        answers = await asyncio.gather(*(clients[n % 2].get(ME, headers=one) for n in range(MOST // 2)))
        assert {answer.status_code for answer in answers} == {200}

        async def all_are_used() -> bool:
            """Uses that one instance has leased and not used go back before long, and the other lets them through."""
            answers.extend(await asyncio.gather(*(client.get(ME, headers=one) for client in clients)))
            return [answer.status_code for answer in answers].count(200) == MOST

        await eventually(all_are_used)
        for client in clients:
            last = await client.get(ME, headers=one)
            (field,) = fields_of(last)
            assert (last.status_code, last.json()["type"]) == (429, "/problems/too-many-requests")
            assert field == Field("user", 0, int(last.headers["Retry-After"]))
            assert last.headers["RateLimit-Policy"] == f'"user";q={MOST};w=3600'
            assert last.json()["retry_after"] == field.wait
            assert (await client.get(ME, headers=other)).status_code == 200


async def test_each_answer_of_a_request_with_a_token_says_how_many_remain(
    settings: Settings, database: Database
) -> None:
    headers = await authorization(settings, database)
    async with one_instance(settings, Limits(per_user=100)) as client:
        requests = [(ME, 200), (f"{ME}?unknown=1", 422), (USERS, 403), ("/api/v1/inventory/items/9", 404), (ME, 200)]
        remaining = []
        for path, status in requests:
            answer = await client.get(path, headers=headers)
            assert answer.status_code == status
            assert answer.headers["RateLimit-Policy"] == '"user";q=100;w=3600'
            (field,) = fields_of(answer)
            remaining.append(field.remaining)
            assert 3500 < field.wait <= 3600
        assert remaining == [99, 98, 97, 96, 95]
        for path in ("/health/live", "/docs"):
            assert "RateLimit" not in (await client.get(path, headers=headers)).headers
        unknown = await client.get(ME, headers={"Authorization": "Bearer nothing"})
        assert (unknown.status_code, "RateLimit" in unknown.headers) == (401, False)


async def test_limits_of_a_route_stand_beside_that_of_all_requests(settings: Settings, database: Database) -> None:
    headers = await authorization(settings, database)
    await set_company(database, export_estimates_per_minute=2)
    async with one_instance(settings, Limits(per_user=100)) as client:
        answers = [await client.post(ESTIMATES, json={"dataset": "items"}, headers=headers) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    for number, answer in enumerate(answers, 1):
        policies = answer.headers["RateLimit-Policy"].split(", ")
        assert (policies[0], len(policies)) == ('"user";q=100;w=3600', 2)
        user, estimates = fields_of(answer)
        assert policies[1] == f'"{estimates.name}";q=2;w=60'
        assert (user.remaining, estimates.remaining) == (100 - number, max(0, 2 - number))
    assert answers[2].headers["Retry-After"] == str(fields_of(answers[2])[1].wait)


async def test_key_has_a_count_of_its_own_and_none_is_no_limit(settings: Settings) -> None:
    person = Principal(user_id=7, role=Role.VIEWER)
    key = Principal(user_id=7, role=Role.VIEWER, key=KeyGrant(7, frozenset()))
    limiter = RequestLimiter(as_role(settings, "erp_api"), lambda: Limits(1, 2), pace=PATIENT)
    async with limiter.running():
        answers = [await limiter.take(who) for who in (person, key, person, key, key)]
    assert [answer and (answer.name, answer.is_refused) for answer in answers] == [
        ("user", False),
        ("key", False),
        ("user", True),
        ("key", False),
        ("key", True),
    ]
    unlimited = RequestLimiter(as_role(settings, "erp_api"), lambda: Limits(None, 2), pace=PATIENT)
    async with unlimited.running():
        assert await unlimited.take(person) is None
        assert await unlimited.take(Principal(user_id=None, role=Role.SUPER_ADMIN)) is None
        assert await limited(unlimited, key)


async def test_change_of_the_limit_holds_at_the_next_request(settings: Settings) -> None:
    limits = [Limits(per_user=2)]
    limiter = RequestLimiter(
        as_role(settings, "erp_api"), lambda: limits[0], pace=PATIENT, tuning=Tuning(refused_seconds=0)
    )
    who = Principal(user_id=7, role=Role.VIEWER)

    async def take() -> tuple[bool, int]:
        standing = await limiter.take(who)
        assert standing is not None
        return not standing.is_refused, standing.remaining

    async with limiter.running():
        assert [await take() for _ in range(3)] == [(True, 1), (True, 0), (False, 0)]
        limits[0] = Limits(per_user=3)
        assert [await take() for _ in range(2)] == [(True, 0), (False, 0)]
        limits[0] = Limits(per_user=1)
        assert await take() == (False, 0)


async def test_instance_that_stops_gives_back_what_it_had_leased(settings: Settings, owner: asyncpg.Connection) -> None:
    limiter = RequestLimiter(as_role(settings, "erp_api"), Limits, pace=PATIENT)
    async with limiter.running():
        for _ in range(3):
            assert await limiter.take(Principal(user_id=7, role=Role.VIEWER)) is not None
        assert await owner.fetchval("select taken from rate_limits where key = 'user:7'") > 3
    assert await owner.fetchval("select taken from rate_limits where key = 'user:7'") == 3


async def test_requests_pass_and_are_noted_while_they_cannot_be_counted(
    settings: Settings, database: Database, owner: asyncpg.Connection
) -> None:
    headers = await authorization(settings, database)
    await owner.execute("revoke all on rate_limits from erp_api")
    before = await failed_open()
    async with one_instance(settings, Limits(per_user=2), pace=PATIENT._replace(outage=0.05)) as client:
        answers = [await client.get(ME, headers=headers) for _ in range(5)]
        assert {answer.status_code for answer in answers} == {200}
        assert all("RateLimit" not in answer.headers for answer in answers)
        assert await failed_open() == before + 5
        await owner.execute("grant select, insert, update, delete on rate_limits to erp_api")

        async def refused() -> bool:
            return (await client.get(ME, headers=headers)).status_code == 429

        await eventually(refused)


async def test_request_waits_for_a_slow_database_no_longer_than_its_patience_and_then_passes(
    settings: Settings, database: Database, owner: asyncpg.Connection
) -> None:
    headers = await authorization(settings, database)
    async with one_instance(settings, Limits(per_user=2), pace=Pace(patience=0.05, outage=30)) as client:
        before = await failed_open()
        async with owner.transaction():
            await owner.execute("lock table rate_limits in access exclusive mode")
            # the second does not wait any more
            assert [(await client.get(ME, headers=headers)).status_code for _ in range(5)] == [200] * 5
        assert await failed_open() == before + 5


async def test_requests_that_hold_every_connection_of_the_pool_are_counted_too(
    settings: Settings, database: Database
) -> None:
    """Else a flood that fills the pool would let itself through."""
    headers = await authorization(settings, database)
    app, _ = limited_app(msgspec.structs.replace(settings, pool_size=1), Limits(per_user=3))
    async with running(app), client_of(app) as client:
        services, who = services_of(app), Principal(user_id=77, role=Role.VIEWER)
        async with services.database.read():
            refused = [await limited(services.request_limiter, who) for _ in range(5)]
        assert refused == [False, False, False, True, True]
        assert (await client.get(ME, headers=headers)).status_code == 200


async def limited(limiter: RequestLimiter, who: Principal) -> bool:
    standing = await limiter.take(who)
    assert standing is not None
    return standing.is_refused


@pytest.mark.parametrize("requests", [300])
async def test_request_of_a_busy_caller_that_asked_the_database_each_time(
    settings: Settings, requests: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of a lease it makes no round trip, and does not give way to other tasks."""
    limiter = RequestLimiter(as_role(settings, "erp_api"), Limits, pace=PATIENT)
    who = Principal(user_id=7, role=Role.VIEWER)
    async with limiter.running():
        waits = 0
        for _ in range(requests):
            taking = limiter.take(who)
            try:
                taking.send(None)
            except StopIteration:
                await asyncio.sleep(0)
            else:
                waits += 1
                taking.close()
                await limiter.take(who)
    assert waits <= requests / 10


async def test_client_that_went_away_while_it_waited_leaves_nothing_behind(
    settings: Settings, owner: asyncpg.Connection
) -> None:
    """Its use is leased and not lost: it goes to the next request, or back."""
    limiter = RequestLimiter(as_role(settings, "erp_api"), Limits, pace=PATIENT, tuning=Tuning(idle_seconds=0.1))
    who = Principal(user_id=7, role=Role.VIEWER)
    async with limiter.running():
        async with owner.transaction():
            await owner.execute("lock table rate_limits in access exclusive mode")
            gone = [asyncio.create_task(limiter.take(who)) for _ in range(5)]
            await eventually(lambda: owner.fetchval("select exists (select from pg_locks where not granted)"))
            for task in gone:
                task.cancel()
            await asyncio.wait(gone)
        assert all(task.cancelled() for task in gone)
        assert await limiter.take(who) is not None

        async def only_one_is_taken() -> bool:
            return bool(await owner.fetchval("select taken = 1 from rate_limits where key = 'user:7'"))

        await eventually(only_one_is_taken)
