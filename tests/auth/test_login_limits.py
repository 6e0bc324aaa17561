"""What a guesser of passwords meets, and that nobody can keep an account's owner out."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack

import asyncpg
import httpx
import msgspec
import pytest
from litestar import Litestar

from erp_service import errors
from erp_service.app import create_app
from erp_service.auth.login import limits, networks
from erp_service.auth.login.networks import networks_of
from erp_service.db.engine import Database
from erp_service.observability import telemetry
from erp_service.services import build_services
from erp_service.settings import Settings
from tests.auth.people import Join, actions, login, refresh, signed_in, slug
from tests.support.apps import Instances, running, services_of
from tests.support.clients import client_of
from tests.support.waiting import eventually

WRONG = "wrong, alas"
HOME = "203.0.113.9"


def client_from(app: Litestar, address: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, client=(address, 40_000))  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=transport, base_url="http://test")


async def guess(app: Litestar, address: str, email: str, password: str = WRONG, *, times: int = 1) -> list[int]:
    """The statuses of so many attempts at once from one address."""
    async with client_from(app, address) as client:
        answers = await asyncio.gather(*(login(client, email, password) for _ in range(times)))
    return [answer.status_code for answer in answers]


async def count_from(app: Litestar, addresses: Iterable[str], email: str) -> list[int]:
    """The statuses that one wrong guess from each address would get, one after the other, without the hashing."""
    login_of_app, statuses = services_of(app).login, []
    for address in addresses:
        attempt = limits.attempt_on(email, networks_of(address), known=False)
        try:
            async with login_of_app.database.autocommit() as db:
                await limits.count(db, login_of_app.settings, attempt)
        except errors.TooMany as refused:
            statuses.append(refused.status)
        else:
            statuses.append(401)
    return statuses


@pytest.fixture
async def strict(settings: Settings) -> AsyncIterator[Litestar]:
    app = create_app(
        build_services(msgspec.structs.replace(settings, login_failures_per_account=2, login_failures_per_address=6))
    )
    async with running(app):
        yield app


@pytest.mark.parametrize("email", ["grace@example.com", "nobody@example.com"])
async def test_64_guesses_at_once_on_two_instances_are_answered_ten_times(
    two: Instances, join: Join, owner: asyncpg.Connection, email: str
) -> None:
    """The same for an account that exists and one that does not: the limit tells nothing either."""
    await join()
    answers = await asyncio.gather(*(login(two.clients[n % 2], email, f"guess number {n}") for n in range(64)))
    statuses = [answer.status_code for answer in answers]
    assert statuses.count(401) == 10
    assert statuses.count(429) == 54
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert 1 <= int(refused.headers["retry-after"]) <= limits.LONGEST_DELAY_SECONDS
    # the right password tells a guesser nothing now
    assert (await login(two.clients[0], email)).status_code == 429
    assert (await actions(owner)).count("user.sign_in_failed") == 10, "the audit log cannot be flooded"


async def test_a_success_starts_the_account_afresh(client: httpx.AsyncClient, join: Join) -> None:
    person = await join()
    for _ in range(2):
        for _ in range(9):
            assert (await login(client, person.email, WRONG)).status_code == 401
        assert (await login(client, person.email)).status_code == 200


async def test_each_further_attempt_waits_twice_as_long(strict: Litestar, owner: asyncpg.Connection) -> None:
    waits = []
    async with client_from(strict, "198.51.100.7") as client:
        assert (await login(client, "a@b.c", WRONG)).status_code == 401
        for _ in range(8):
            assert (await login(client, "a@b.c", WRONG)).status_code == 401
            refused = await login(client, "a@b.c", WRONG)
            assert refused.status_code == 429
            waits.append(int(refused.headers["retry-after"]))
            # the time has passed
            await owner.execute("update rate_limits set resets_at = now()")
    assert waits == [15, 30, 60, 120, 240, 480, 900, 900]


async def test_another_spelling_of_the_email_is_no_new_round_of_guesses(strict: Litestar, join: Join) -> None:
    """Attempts are counted by the key that users are compared by."""
    person = await join(email="info@example.com")
    assert sorted(await guess(strict, "198.51.100.7", person.email, times=3)) == [401, 401, 429]
    for spelling in ("\u0130NFO@example.com", "INFO@example.com", "i\u0307nfo@example.com"):
        assert await guess(strict, "198.51.100.7", spelling) == [429]


async def test_a_stranger_cannot_lock_an_account_from_ten_networks_of_one_site(app: Litestar, join: Join) -> None:
    """Ten /64s of one IPv6 customer are one network, and the right password from elsewhere works."""
    person = await join()
    statuses = await count_from(app, [f"2001:db8:1:{n:x}::{n:x}" for n in range(10) for _ in range(2)], person.email)
    assert (statuses.count(401), statuses.count(429)) == (10, 10)
    assert await guess(app, HOME, person.email, "a long walk by the sea") == [200]


async def test_a_stranger_cannot_lock_an_account_from_a_thousand_networks(strict: Litestar, join: Join) -> None:
    """From then on each new network has one attempt before it must wait, and the owner needs no more than that."""
    person = await join()
    many = [f"{n}.{n}.100.7" for n in range(11, 22)]
    assert await count_from(strict, [address for address in many for _ in range(2)], person.email) == [401] * 22
    assert sorted(await guess(strict, "198.51.100.1", person.email, times=4)) == [401, 429, 429, 429]
    assert await guess(strict, HOME, person.email, "a long walk by the sea") == [200]
    # and nobody's elsewhere count where the owner has been
    assert await guess(strict, HOME, person.email, times=2) == [401, 401]


async def test_the_owner_signs_in_where_they_did_before_whatever_others_do(
    strict: Litestar, join: Join, owner: asyncpg.Connection
) -> None:
    """A neighbour at the same address who tries one password on every account, too."""
    person = await join()
    assert await guess(strict, HOME, person.email, "a long walk by the sea") == [200]
    assert [await guess(strict, HOME, f"user{n}@example.com") for n in range(7)] == [[401]] * 6 + [[429]]
    assert await guess(strict, HOME, person.email, "a long walk by the sea") == [200]
    assert await owner.fetchval("select network from login_networks") == "203.0.113.9/32"


async def test_who_guesses_on_the_owners_own_network_waits_and_the_owner_signs_in_on_another(
    strict: Litestar, join: Join
) -> None:
    person = await join()
    assert await guess(strict, HOME, person.email, "a long walk by the sea") == [200]
    assert sorted(await guess(strict, HOME, person.email, times=5)) == [401, 401, 429, 429, 429]
    assert await guess(strict, "192.0.2.1", person.email, "a long walk by the sea") == [200]


async def test_a_site_cannot_use_its_256_networks_one_by_one(strict: Litestar, join: Join) -> None:
    person = await join()
    statuses = await count_from(strict, [f"2001:db8:1:{n:x}00::1" for n in range(1, 21)], person.email)
    assert statuses.count(401) == 2 * limits.SITE_FACTOR
    assert await guess(strict, "2001:db8:2::1", person.email, "a long walk by the sea") == [200]


async def test_a_provider_cannot_use_its_65536_sites_one_by_one(strict: Litestar, join: Join) -> None:
    person = await join()
    statuses = await count_from(strict, [f"2001:db8:{n:x}::1" for n in range(1, 31)], person.email)
    assert statuses.count(401) == 2 * limits.ACCOUNT_FACTOR
    assert await guess(strict, "2001:db9::1", person.email, "a long walk by the sea") == [200]


async def test_one_network_cannot_try_one_password_on_every_account(strict: Litestar, join: Join) -> None:
    """All of an IPv6 customer's /56 is one network, and a success of their own gives back but itself."""
    own = await join(email="guesser@example.com")
    statuses = []
    for n in range(9):
        address = f"2001:db8:1:{n:x}::1"
        statuses += await guess(strict, address, f"user{n}@example.com", "Spring came late")
        if n < 5:
            assert await guess(strict, address, own.email, "a long walk by the sea") == [200]
    assert statuses == [401] * 6 + [429] * 3
    assert await guess(strict, "2001:db8:1:100::1", "user1@example.com") == [401], "a neighbour"


def test_networks_are_those_of_a_customer_a_site_and_a_provider() -> None:
    assert networks_of("2001:db8:1:2ff::1") == ("2001:db8:1:200::/56", "2001:db8:1::/48", "2001:db8::/32")
    assert networks_of("203.0.113.9") == ("203.0.113.9/32", "203.0.113.0/24", "203.0.0.0/16")
    assert networks_of("::ffff:203.0.113.9") == networks_of("203.0.113.9")
    assert networks_of("fe80::1%eth0") == ("fe80::/56", "fe80::/48", "fe80::/32")
    assert networks_of(None) == networks_of("no address") == ("unknown", "unknown", "unknown")


# When attempts cannot be counted.


async def test_no_log_in_is_taken_while_attempts_cannot_be_counted(
    client: httpx.AsyncClient, join: Join, owner: asyncpg.Connection
) -> None:
    person = await join()
    await owner.execute("revoke all on rate_limits from erp_api")
    for password in ("a long walk by the sea", WRONG):
        answer = await login(client, person.email, password)
        assert (answer.status_code, slug(answer)) == (503, "unavailable")
        assert int(answer.headers["retry-after"]) >= 1
    assert await actions(owner) == []


async def test_40_guesses_while_the_pool_is_exhausted_are_all_refused(
    settings: Settings, join: Join, owner: asyncpg.Connection
) -> None:
    """They were let through uncounted, as soon as connections were free again, and one of them was right."""
    person = await join()
    app = create_app(build_services(msgspec.structs.replace(settings, pool_size=2, pool_timeout_seconds=0.2)))
    guesses = [f"guess number {n}" for n in range(39)] + ["a long walk by the sea"]
    uncounted = {"limit": "login account"}
    async with running(app), client_of(app) as client:
        async with AsyncExitStack() as stack:
            for _ in range(2):
                await stack.enter_async_context(services_of(app).database.write())
            answers = asyncio.gather(*(login(client, person.email, password) for password in guesses))

            async def nobody_waits_for_a_count() -> bool:
                passed = telemetry.REGISTRY.get_sample_value("erp_limits_failed_open_total", uncounted) or 0
                return answers.done() or passed >= len(guesses)

            await eventually(nobody_waits_for_a_count)
        statuses = [answer.status_code for answer in await answers]
    assert statuses == [503] * 40
    assert all("retry-after" in answer.headers for answer in answers.result())
    assert await actions(owner) == []


# Log-ins that succeed.


async def test_sign_ins_of_one_account_are_limited_by_the_minute(
    settings: Settings, join: Join, owner: asyncpg.Connection
) -> None:
    person, other = await join(), await join(email="other@example.com")
    app = create_app(build_services(msgspec.structs.replace(settings, sign_ins_per_account=3)))
    async with running(app), client_of(app) as client:
        answers = await asyncio.gather(*(login(client, person.email) for _ in range(12)))
        refused = [answer for answer in answers if answer.status_code == 429]
        assert len(refused) == 9
        assert all(1 <= int(answer.headers["retry-after"]) <= 60 for answer in refused)
        assert await owner.fetchval("select count(*) from refresh_families") == 3
        assert (await actions(owner)).count("user.signed_in") == 3
        assert (await login(client, other.email)).status_code == 200


async def test_refreshes_of_one_sign_in_are_limited_by_the_minute(
    settings: Settings, join: Join, owner: asyncpg.Connection
) -> None:
    """Each leaves a row for two weeks. The token of a refused one is not used up."""
    person = await join()
    app = create_app(build_services(msgspec.structs.replace(settings, sign_ins_per_account=3)))
    async with running(app), client_of(app) as client:
        token = (await signed_in(client, person.email))["refresh_token"]
        for _ in range(2):
            token = (await refresh(client, token)).json()["refresh_token"]
        refused = await refresh(client, token)
        assert (refused.status_code, slug(refused)) == (429, "too-many-requests")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        await owner.execute("update refresh_tokens set issued_at = issued_at - interval '1 minute'")
        assert (await refresh(client, token)).status_code == 200


# What is remembered.


async def test_few_networks_are_remembered_and_a_new_password_forgets_them(
    app: Litestar, join: Join, owner: asyncpg.Connection, database: Database
) -> None:
    person = await join()
    async with database.write() as db:
        for n in range(networks.MOST_KNOWN + 5):
            await networks.remember(db, person.id, networks_of(f"198.51.100.{n}"))
    assert await owner.fetchval("select count(*) from login_networks") == networks.MOST_KNOWN
    async with client_from(app, HOME) as client:
        pair = await signed_in(client, person.email)
        body = {"old_password": "a long walk by the sea", "new_password": "a short walk by the lake"}
        headers = {"Authorization": f"Bearer {pair['access_token']}"}
        assert (await client.put("/api/v1/auth/me/password", json=body, headers=headers)).status_code == 200
    assert [row["network"] for row in await owner.fetch("select network from login_networks")] == ["203.0.113.9/32"]
