"""The console's session: the rules of signing in, with the refresh token in a cookie for this one address."""

import asyncio
from http.cookies import Morsel, SimpleCookie
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest
from litestar import Litestar

from erp_service.access.roles import Role
from erp_service.settings import Settings
from tests.auth.devices import forget_steps, with_device
from tests.auth.people import HASH, PASSWORD, Person, actions, bearer, me, refresh, slug
from tests.support.apps import SharedApp, services_of
from tests.support.clients import client_of
from tests.support.users import make_user

SESSION = "/console/session"
OWN = {"Origin": "http://test"}
COOKIE = "erp_console"
KEY = {"Idempotency-Key": "0123456789abcdef" * 2}


@pytest.fixture
async def grace(app: Litestar) -> Person:
    email = "grace@example.com"
    return Person(await make_user(services_of(app).database, Role.STAFF, email, HASH), email)


async def open_session(
    client: httpx.AsyncClient, person: Person, headers: dict[str, str] = OWN, **form: str
) -> httpx.Response:
    data = {"username": person.email, "password": PASSWORD, **form}
    return await client.post(SESSION, data=data, headers=headers)


async def refresh_session(client: httpx.AsyncClient, token: str, **headers: str) -> httpx.Response:
    return await client.post(f"{SESSION}/refresh", headers={**OWN, "Cookie": f"{COOKIE}={token}", **headers})


def cookie_of(answer: httpx.Response, name: str = COOKIE) -> Morsel[str]:
    return SimpleCookie(answer.headers["set-cookie"])[name]


async def test_signing_in_answers_without_the_refresh_token(client: httpx.AsyncClient, grace: Person) -> None:
    answer = await open_session(client, grace)
    assert answer.status_code == 200, answer.text
    assert set(answer.json()) == {"access_token", "expires_in"}
    assert answer.headers["cache-control"] == "no-store"
    assert (await me(client, answer.json())).json()["email"] == grace.email


async def test_the_cookie_is_for_this_address_and_for_no_script_and_no_other_site(
    client: httpx.AsyncClient, grace: Person, settings: Settings
) -> None:
    cookie = cookie_of(await open_session(client, grace))
    assert (cookie["path"], cookie["httponly"], cookie["samesite"]) == (SESSION, True, "Strict")
    assert cookie["domain"] == ""
    assert cookie["secure"] == "", "without ERP_PUBLIC_URL it is not known that there is TLS"
    assert int(cookie["max-age"]) == settings.refresh_token_seconds


async def test_over_tls_the_cookie_is_secure_and_stands_below_the_path_of_the_service(
    assembled: SharedApp, settings: Settings
) -> None:
    public = msgspec.structs.replace(settings, public_url="https://example.com/erp")
    async with assembled.running(public) as app, client_of(app) as client:
        person = Person(
            await make_user(services_of(app).database, Role.STAFF, "ada@example.com", HASH), "ada@example.com"
        )
        answer = await open_session(client, person, {"Origin": "https://example.com"})
        cookie = cookie_of(answer, f"__Secure-{COOKIE}")
        assert (cookie["path"], cookie["secure"]) == (f"/erp{SESSION}", True)
        again = await client.post(
            f"{SESSION}/refresh",
            headers={"Origin": "https://example.com", "Cookie": f"__Secure-{COOKIE}={cookie.value}"},
        )
        assert again.status_code == 200
        plain = await open_session(client, person, {"Origin": "http://example.com"})
        assert (plain.status_code, slug(plain)) == (403, "other-origin")


FROM_ELSEWHERE: list[dict[str, str]] = [
    {},
    {"Origin": "null"},
    {"Origin": "http://test.example.com"},
    {"Origin": "http://test:8080"},
    {"Origin": "test"},
    {"Origin": "file://test"},
    {"Origin": "http://test@elsewhere"},
    {**OWN, "Sec-Fetch-Site": "same-site"},
    {**OWN, "Sec-Fetch-Site": "cross-site"},
    {**OWN, "Sec-Fetch-Site": "none"},
]


@pytest.mark.parametrize("headers", FROM_ELSEWHERE, ids=str)
async def test_no_other_page_can_begin_use_or_end_a_session(
    client: httpx.AsyncClient, grace: Person, headers: dict[str, str], owner: asyncpg.Connection
) -> None:
    opened = await open_session(client, grace)
    token = cookie_of(opened).value
    client.cookies.clear()
    for answer in (
        await open_session(client, grace, headers),
        await client.post(f"{SESSION}/refresh", headers={**headers, "Cookie": f"{COOKIE}={token}"}),
        await client.delete(SESSION, headers={**headers, **bearer(opened.json())}),
    ):
        assert (answer.status_code, slug(answer)) == (403, "other-origin")
        assert "set-cookie" not in answer.headers
    assert (await refresh_session(client, token)).status_code == 200, "the token is not used up"
    assert await actions(owner) == ["user.signed_in"], "not even counted as a log-in"


async def test_what_the_browser_says_of_the_origin_counts_before_names_of_hosts(
    client: httpx.AsyncClient, grace: Person
) -> None:
    """A proxy may have changed `Host`; no script can write this header."""
    assert (await open_session(client, grace, {"Sec-Fetch-Site": "same-origin"})).status_code == 200


async def test_each_cookie_works_once_and_a_second_use_ends_the_session(
    client: httpx.AsyncClient, grace: Person, owner: asyncpg.Connection
) -> None:
    first = cookie_of(await open_session(client, grace)).value
    client.cookies.clear()
    renewed = await refresh_session(client, first)
    second = cookie_of(renewed).value
    assert second != first
    again = await refresh_session(client, first)
    assert (again.status_code, slug(again)) == (401, "refresh-token-refused")
    assert cookie_of(again)["max-age"] == "0", "the browser forgets what is worthless"
    assert (await refresh_session(client, second)).status_code == 401
    assert (await me(client, renewed.json())).status_code == 401
    assert "user.refresh_token_reused" in await actions(owner)


async def test_an_answer_that_was_lost_may_be_asked_for_again_however_often_it_is_lost(
    client: httpx.AsyncClient, grace: Person, owner: asyncpg.Connection
) -> None:
    token = cookie_of(await open_session(client, grace)).value
    client.cookies.clear()
    lost = [await refresh_session(client, token, **KEY) for _ in range(3)]
    arrived = await refresh_session(client, token, **KEY)
    assert [answer.status_code for answer in (*lost, arrived)] == [200] * 4
    assert (await me(client, arrived.json())).status_code == 200
    assert (await refresh_session(client, cookie_of(arrived).value, **KEY)).status_code == 200
    assert "user.refresh_token_reused" not in await actions(owner)


async def test_whoever_copies_the_cookie_does_not_know_the_key(client: httpx.AsyncClient, grace: Person) -> None:
    for copied in ({}, {"Idempotency-Key": "1" * 32}):
        token = cookie_of(await open_session(client, grace)).value
        client.cookies.clear()
        renewed = await refresh_session(client, token, **KEY)
        assert (await refresh_session(client, token, **copied)).status_code == 401
        assert (await me(client, renewed.json())).status_code == 401, "the whole sign-in has ended"


async def test_of_an_answer_that_came_or_comes_late_a_second_use_ends_the_session(
    client: httpx.AsyncClient, grace: Person, owner: asyncpg.Connection
) -> None:
    first = cookie_of(await open_session(client, grace)).value
    client.cookies.clear()
    second = cookie_of(await refresh_session(client, first, **KEY)).value
    third = cookie_of(await refresh_session(client, second)).value
    assert (await refresh_session(client, first, **KEY)).status_code == 401, "its answer was used, so it came"
    assert (await refresh_session(client, third)).status_code == 401

    first = cookie_of(await open_session(client, grace)).value
    client.cookies.clear()
    late = cookie_of(await refresh_session(client, first, **KEY)).value
    again = cookie_of(await refresh_session(client, first, **KEY)).value
    assert (await refresh_session(client, late)).status_code == 401
    assert (await refresh_session(client, again)).status_code == 401
    assert (await actions(owner)).count("user.refresh_token_reused") == 2


@pytest.mark.parametrize("key", ["1", "g" * 32, "A" * 32, "0" * 33, ""])
async def test_a_key_that_may_be_guessed_is_refused_and_uses_nothing_up(
    client: httpx.AsyncClient, grace: Person, key: str
) -> None:
    token = cookie_of(await open_session(client, grace)).value
    client.cookies.clear()
    refused = await refresh_session(client, token, **{"Idempotency-Key": key})
    assert (refused.status_code, slug(refused)) == (422, "invalid")
    assert (await refresh_session(client, token)).status_code == 200


async def test_without_a_cookie_nobody_is_signed_in_and_nothing_is_wrong(client: httpx.AsyncClient) -> None:
    answer = await client.post(f"{SESSION}/refresh", headers=OWN)
    assert (answer.status_code, answer.content) == (204, b"")
    assert "set-cookie" not in answer.headers


async def test_signing_out_ends_the_sign_in_for_every_use(
    client: httpx.AsyncClient, grace: Person, owner: asyncpg.Connection
) -> None:
    opened = await open_session(client, grace)
    token = cookie_of(opened).value
    client.cookies.clear()
    nobody = await client.delete(SESSION, headers=OWN)
    assert nobody.status_code == 401
    answer = await client.delete(SESSION, headers={**OWN, **bearer(opened.json())})
    assert (answer.status_code, answer.content) == (204, b"")
    assert (cookie_of(answer)["max-age"], cookie_of(answer)["path"]) == ("0", SESSION)
    assert (await refresh_session(client, token)).status_code == 401
    assert (await refresh(client, token)).status_code == 401
    assert (await me(client, opened.json())).status_code == 401
    assert "user.signed_out" in await actions(owner)


async def test_signing_in_takes_the_second_factor_as_the_api_does(
    client: httpx.AsyncClient, grace: Person, owner: asyncpg.Connection
) -> None:
    device, _ = await with_device(client, grace)
    without = await open_session(client, grace)
    assert (without.status_code, slug(without)) == (401, "second-factor-needed")
    wrong = await open_session(client, grace, totp="000000")
    assert (wrong.status_code, slug(wrong)) == (401, "second-factor-wrong")
    await forget_steps(owner)
    assert (await open_session(client, grace, totp=device.code(0))).status_code == 200


async def test_wrong_passwords_are_counted_together_with_those_of_the_api(
    client: httpx.AsyncClient, grace: Person, settings: Settings
) -> None:
    for _ in range(settings.login_failures_per_account):
        wrong = await open_session(client, grace, password="not this one")
        assert (wrong.status_code, slug(wrong)) == (401, "wrong-credentials")
    assert (await open_session(client, grace)).status_code == 429
    api = await client.post("/api/v1/auth/login", data={"username": grace.email, "password": PASSWORD})
    assert api.status_code == 429


async def test_who_must_change_the_password_can_sign_out(
    client: httpx.AsyncClient, grace: Person, owner: asyncpg.Connection
) -> None:
    await owner.execute("update users set must_change_password = true where id = $1", grace.id)
    opened = await open_session(client, grace)
    refused = await me(client, opened.json())
    assert slug(refused) == "password-change-required"
    assert (await client.delete(SESSION, headers={**OWN, **bearer(opened.json())})).status_code == 204


async def test_a_role_that_is_taken_away_ends_the_session(
    client: httpx.AsyncClient, grace: Person, super_admin: httpx.AsyncClient
) -> None:
    opened = await open_session(client, grace)
    token = cookie_of(opened).value
    client.cookies.clear()
    body: dict[str, Any] = {"role": "VIEWER", "reason": "left the warehouse"}
    assert (await super_admin.post(f"/api/v1/users/{grace.id}/role", json=body)).status_code == 200
    assert (await me(client, opened.json())).status_code == 401
    assert (await refresh_session(client, token)).status_code == 401


async def test_two_who_refresh_one_after_the_other_stay_signed_in(client: httpx.AsyncClient, grace: Person) -> None:
    """What the page's lock makes of two tabs: the second has the cookie that the first was given."""
    token = cookie_of(await open_session(client, grace)).value
    client.cookies.clear()
    lock = asyncio.Lock()

    async def tab() -> int:
        nonlocal token
        async with lock:
            answer = await refresh_session(client, token)
            token = cookie_of(answer).value
        return (await me(client, answer.json())).status_code

    assert await asyncio.gather(*(tab() for _ in range(6))) == [200] * 6
