"""Signing in: the form, the answer, and what a guesser meets."""

import asyncio
import base64
from collections.abc import AsyncIterator

import asyncpg
import httpx
import jwt
import msgspec
import pytest
from argon2 import PasswordHasher
from litestar import Litestar

from erp_service.access.roles import Role
from erp_service.app import create_app
from erp_service.auth import login_limits
from erp_service.auth.passwords import HashSlot, Passwords
from erp_service.db.engine import Database
from erp_service.services import build_services
from erp_service.settings import Settings
from tests.auth.people import OTHER_PASSWORD, PASSWORD, Join, actions, login, me, signed_in, slug
from tests.support.apps import Instances, running, services_of
from tests.support.clients import client_of
from tests.support.users import make_user

URL = "/api/v1/auth/login"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


async def test_signing_in_gives_a_pair_that_no_cache_keeps(client: httpx.AsyncClient, join: Join) -> None:
    person = await join(Role.STAFF)
    answer = await login(client, person.email)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    pair = answer.json()
    assert sorted(pair) == ["access_token", "expires_in", "refresh_token", "token_type"]
    assert (pair["token_type"], pair["expires_in"]) == ("bearer", 900)
    profile = (await me(client, pair)).json()
    assert (profile["id"], profile["email"], profile["role"]) == (person.id, person.email, "STAFF")
    assert profile["last_login_at"].endswith("Z")


async def test_an_access_token_says_who_and_never_what(client: httpx.AsyncClient, join: Join) -> None:
    person = await join(Role.STAFF)
    token = (await signed_in(client, person.email))["access_token"]
    claims = jwt.decode(token, options={"verify_signature": False})
    assert sorted(claims) == ["aud", "exp", "fam", "iat", "iss", "sub", "use", "ver"]
    assert "kid" in jwt.get_unverified_header(token)


async def test_the_form_of_swagger_ui_signs_in(client: httpx.AsyncClient, join: Join) -> None:
    """Its bundle posts these fields, and the client's id and secret as Basic, empty ones too."""
    person = await join()
    basic = "Basic " + base64.b64encode(b":").decode()
    for authorization in (basic, "Bearer an-old-one", "nonsense"):
        assert (await login(client, person.email, Authorization=authorization)).status_code == 200
    fields = {"username": person.email, "password": PASSWORD, "client_id": "x", "client_secret": "y", "audience": "z"}
    assert (await client.post(URL, data=fields)).status_code == 200


async def test_capitals_and_blanks_around_the_email_do_not_matter(client: httpx.AsyncClient, join: Join) -> None:
    await join(email="Grace@Example.com")
    assert (await login(client, " gRACE@example.COM ")).status_code == 200


async def test_the_openapi_document_says_where_and_how_to_sign_in(client: httpx.AsyncClient) -> None:
    document = (await client.get("/schema/openapi.json")).json()
    scheme = document["components"]["securitySchemes"]["password"]
    assert scheme["flows"]["password"]["tokenUrl"] == URL
    operation = document["paths"][URL]["post"]
    [form] = operation["requestBody"]["content"].items()
    assert form[0] == "application/x-www-form-urlencoded"
    assert form[1]["schema"]["required"] == ["username", "password"]
    assert "/problems/wrong-credentials" in operation["responses"]["401"]["description"]
    assert "429" in operation["responses"]


_BAD_FORMS: list[tuple[bytes, dict[str, str], int, list[str]]] = [
    (b"", FORM, 422, ["/username", "/password"]),
    (b"", {}, 415, []),
    (b'{"username": "a@b", "password": "x"}', {"Content-Type": "application/json"}, 415, []),
    (b"username=a@b&password=x", {"Content-Type": "text/plain"}, 415, []),
    (b"username=a@b&password=x", {"Content-Type": "multipart/form-data; boundary=x"}, 415, []),
    (b"username=a@b", FORM, 422, ["/password"]),
    (b"username=&password=", FORM, 422, ["/username", "/password"]),
    (b"username=a@b&username=c@d&password=x&password=y", FORM, 422, ["/username", "/password"]),
    (b"username[]=a@b&password[0]=x", FORM, 422, ["/username", "/password"]),
    (b"username=a%00b&password=x%00y", FORM, 422, ["/username", "/password"]),
    (b"username=" + b"a" * 255 + b"&password=" + b"x" * 201, FORM, 422, ["/username", "/password"]),
    (b"username=%ff%fe&password=x", FORM, 400, []),
    (b"username=\xff&password=x", FORM, 400, []),
    (b"username=%ed%a0%80&password=x", FORM, 400, []),
    (b"&".join(b"f%d=1" % n for n in range(1000)), FORM, 400, []),
    (b"username=a@b&password=" + b"x" * 20_000, FORM, 413, []),
    (b"username=a%zzb&password=%", FORM, 401, []),
    (b"username=a@b&password=x", {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}, 401, []),
]


async def test_a_bad_form_is_refused_with_every_field_named(client: httpx.AsyncClient) -> None:
    for body, headers, status, pointers in _BAD_FORMS:
        answer = await client.post(URL, content=body, headers=headers)
        assert answer.status_code == status, (body[:50], answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        assert [fault["pointer"] for fault in answer.json().get("errors", [])] == pointers, body[:50]


async def test_no_form_is_kept_in_a_cache_of_the_framework(client: httpx.AsyncClient) -> None:
    """litestar.parsers keeps 1,024 form bodies: passwords, and a gigabyte of whatever strangers send."""
    from litestar._parsers import parse_url_encoded_form_data  # noqa: PLC0415

    before = parse_url_encoded_form_data.cache_info().currsize
    await login(client, "grace@example.com", "a password that must not be kept")
    assert parse_url_encoded_form_data.cache_info().currsize == before


async def test_wrong_unknown_and_deactivated_are_told_the_same(
    client: httpx.AsyncClient, join: Join, owner: asyncpg.Connection
) -> None:
    await join()
    gone = await join(email="gone@example.com")
    await owner.execute("update users set is_active = false where id = $1", gone.id)
    answers = [
        await login(client, "grace@example.com", "not her password"),
        await login(client, "nobody@example.com", "not her password"),
        await login(client, gone.email),
        await login(client, "no address at all", "x"),
    ]
    told = []
    for answer in answers:
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        problem = answer.json()
        del problem["request_id"]
        told.append(problem)
    assert told == [told[0]] * 4
    assert told[0]["type"] == "/problems/wrong-credentials"


async def test_the_audit_log_has_successes_and_failures_and_never_what_was_typed(
    client: httpx.AsyncClient, join: Join, owner: asyncpg.Connection
) -> None:
    person = await join()
    await login(client, person.email, "my-secret-guess", **{"X-Request-Id": "guess-1"})
    await login(client, "typed-into-the-wrong-field", "x")
    await login(client, person.email)
    entries = await owner.fetch("select * from audit_log order by id")
    assert [(e["action"], e["entity_id"], e["user_id"]) for e in entries] == [
        ("user.sign_in_failed", str(person.id), None),
        ("user.sign_in_failed", "unknown", None),
        ("user.signed_in", str(person.id), person.id),
    ]
    assert entries[0]["request_id"] == "guess-1"
    assert {e["address"] for e in entries} == {"127.0.0.1"}
    everything = "".join(str(dict(e)) for e in entries)
    assert "guess" not in everything.replace("guess-1", "")
    assert "wrong-field" not in everything


async def test_an_outdated_hash_is_renewed_by_a_sign_in(
    client: httpx.AsyncClient, database: Database, owner: asyncpg.Connection
) -> None:
    old = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(PASSWORD)
    user_id = await make_user(database, Role.VIEWER, "old@example.com", old)
    await signed_in(client, "old@example.com")
    renewed = await owner.fetchval("select password_hash from users where id = $1", user_id)
    assert renewed != old
    assert renewed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    await signed_in(client, "old@example.com")
    assert await owner.fetchval("select password_hash from users where id = $1", user_id) == renewed


# Guessing.


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
    assert 1 <= int(refused.headers["retry-after"]) <= login_limits.WINDOW_SECONDS
    # the right password tells a guesser nothing now
    assert (await login(two.clients[0], email)).status_code == 429
    assert (await actions(owner)).count("user.sign_in_failed") == 10, "the audit log cannot be flooded"


async def test_a_success_starts_the_account_afresh(client: httpx.AsyncClient, join: Join) -> None:
    person = await join()
    for _ in range(3):
        for _ in range(9):
            assert (await login(client, person.email, "wrong, alas")).status_code == 401
        assert (await login(client, person.email)).status_code == 200


async def test_guessing_from_one_network_does_not_lock_the_owner_out_in_another(app: Litestar, join: Join) -> None:
    person = await join()
    async with _from(app, "198.51.100.7") as guesser, _from(app, "203.0.113.9") as home:
        for _ in range(10):
            assert (await login(guesser, person.email, "wrong, alas")).status_code == 401
        assert (await login(guesser, person.email, "wrong, alas")).status_code == 429
        assert (await login(home, person.email)).status_code == 200


@pytest.fixture
async def strict(settings: Settings) -> AsyncIterator[Litestar]:
    app = create_app(
        build_services(msgspec.structs.replace(settings, login_failures_per_account=2, login_failures_per_address=6))
    )
    async with running(app):
        yield app


async def test_guessing_from_many_networks_is_slowed_for_the_account(strict: Litestar, join: Join) -> None:
    person = await join()
    statuses: list[int] = []
    for network in range(2 * login_limits.ANYWHERE_FACTOR):
        async with _from(strict, f"198.51.100.{network}") as guesser:
            guesses = await asyncio.gather(*(login(guesser, person.email, "wrong, alas") for _ in range(2)))
            statuses += [guess.status_code for guess in guesses]
    assert statuses.count(401) == 2 * login_limits.ANYWHERE_FACTOR


async def test_one_network_cannot_try_one_password_on_every_account(strict: Litestar, join: Join) -> None:
    """All of an IPv6 customer's /64 is one network, and a success of their own gives back but itself."""
    own = await join(email="guesser@example.com")
    statuses = []
    for n in range(9):
        async with _from(strict, f"2001:db8:1:2::{n:x}") as guesser:
            statuses.append((await login(guesser, f"user{n}@example.com", "Spring came late")).status_code)
            if n < 5:
                assert (await login(guesser, own.email)).status_code == 200
    assert statuses == [401] * 6 + [429] * 3
    async with _from(strict, "2001:db8:1:3::1") as neighbour:
        assert (await login(neighbour, "user1@example.com")).status_code == 401


async def test_signing_in_works_while_limits_cannot_be_read(
    client: httpx.AsyncClient, join: Join, owner: asyncpg.Connection
) -> None:
    person = await join()
    await owner.execute("revoke all on rate_limits from erp_api")
    assert (await login(client, person.email)).status_code == 200
    assert (await login(client, person.email, OTHER_PASSWORD)).status_code == 401


async def test_a_flood_of_log_ins_is_turned_away_while_others_are_served(app: Litestar, join: Join) -> None:
    person = await join(Role.STAFF)
    async with client_of(app) as client:
        pair = await signed_in(client, person.email)
        flood = [asyncio.create_task(login(client, f"user{n}@example.com")) for n in range(400)]
        served = [(await me(client, pair)).status_code for _ in range(20)]
        answers = await asyncio.gather(*flood)
    assert served == [200] * 20
    turned_away = [answer for answer in answers if answer.status_code == 503]
    assert len(turned_away) > 200
    assert all(slug(answer) == "unavailable" and answer.headers["retry-after"] == "1" for answer in turned_away)
    passwords: Passwords = services_of(app).login.passwords
    assert passwords.in_line == 0


async def test_a_reset_while_the_old_password_is_checked_wins(
    app: Litestar, join: Join, owner: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise who knows the old password starts a sign-in that the reset does not end."""
    person = await join()
    verify = HashSlot.verify

    async def slow(self: HashSlot, password_hash: str | None, password: str) -> bool:
        right = await verify(self, password_hash, password)
        await owner.execute("update users set password_hash = 'reset' where id = $1", person.id)
        return right

    monkeypatch.setattr(HashSlot, "verify", slow)
    async with client_of(app) as client:
        assert (await login(client, person.email)).status_code == 401
    assert await owner.fetchval("select count(*) from refresh_families") == 0
    assert await owner.fetchval("select password_hash from users") == "reset"


def _from(app: Litestar, address: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, client=(address, 40_000))  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=transport, base_url="http://test")
