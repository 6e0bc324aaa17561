"""Access tokens: what is good, what is not, and what happens to those of a user whose rights changed."""

import asyncio
import time
from typing import Any
from uuid import UUID

import httpx
import jwt
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from erp_service import errors
from erp_service.access.roles import Role
from erp_service.app import create_app
from erp_service.auth.tokens import AUDIENCE, ISSUER, LEEWAY, Claims, TokenClaims, Tokens, key_id
from erp_service.db.engine import Database
from erp_service.services import build_services
from erp_service.settings import Settings
from tests.auth.people import me, slug
from tests.support.apps import running
from tests.support.clients import client_of
from tests.support.settings import SECRET
from tests.support.users import make_user, token_of

FAMILY = UUID("00000000-0000-7000-8000-000000000000")
NEWER_SECRET = "another-secret-for-tests-only-9876543210-zyxwvut"


def made(secret: str = SECRET, kid: str | None = None, algorithm: str = "HS256", **over: Any) -> str:
    """A token as ours, but for what is said; `iat` and `exp` are seconds from now."""
    now = int(time.time())
    claims: dict[str, Any] = {"sub": "1", "ver": 1, "fam": str(FAMILY), "use": "access", "iss": ISSUER, "aud": AUDIENCE}
    claims |= {"iat": 0, "exp": 900} | over
    claims = {name: value for name, value in claims.items() if value is not None}
    claims |= {name: now + claims[name] for name in ("iat", "exp") if name in claims}
    return jwt.encode(claims, secret, algorithm, headers={"kid": key_id(SECRET) if kid is None else kid})


def undated(claims: TokenClaims) -> Claims:
    return Claims(claims.user_id, claims.version, claims.family)


@pytest.fixture
def tokens(settings: Settings) -> Tokens:
    return Tokens(settings)


def test_a_token_says_what_it_was_issued_for(tokens: Tokens) -> None:
    claims = Claims(2**53 - 1, 7, FAMILY)
    at = int(time.time())
    assert tokens.read(tokens.issue(claims, now=at)) == TokenClaims(2**53 - 1, 7, FAMILY, at + tokens.seconds)


@pytest.mark.parametrize(
    "over",
    [
        {"exp": -LEEWAY - 60},
        {"iat": LEEWAY + 60},
        {"iss": "somebody else"},
        {"aud": "something else"},
        {"aud": None},
        {"iss": None},
        {"exp": None},
        {"iat": None},
        {"sub": None},
        {"sub": "0x1"},
        {"sub": "-1"},
        {"sub": ""},
        {"sub": "0"},
        {"sub": str(2**63)},
        {"sub": str(2**64)},
        {"sub": "9" * 5000},
        {"sub": 2**63},
        {"ver": 2**31},
        {"ver": 2**64},
        {"ver": -1},
        {"exp": 2**63},
        {"exp": 10**400},
        {"iat": -(10**400)},
        {"nbf": 10**400},
        {"ver": None},
        {"ver": "1"},
        {"fam": None},
        {"fam": "no uuid"},
        {"use": "download"},
        {"use": None},
        {"kid": "unknown"},
        {"kid": ""},
        {"secret": NEWER_SECRET},
        {"algorithm": "HS512"},
        {"algorithm": "none", "secret": ""},
    ],
    ids=lambda over: str(over)[:40],
)
@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_a_token_that_is_not_ours_whole_and_timely_is_refused(tokens: Tokens, over: dict[str, Any]) -> None:
    with pytest.raises(errors.Unauthorized) as refused:
        tokens.read(made(**over))
    assert refused.value.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


def test_clocks_of_two_hosts_may_differ_by_some_seconds(tokens: Tokens) -> None:
    for token in (made(iat=LEEWAY - 4), made(exp=4 - LEEWAY)):
        assert undated(tokens.read(token)) == Claims(1, 1, FAMILY)


def test_after_a_rotation_the_old_secret_still_reads_and_the_new_one_signs(settings: Settings) -> None:
    old = Tokens(settings)
    rotated = Tokens(msgspec.structs.replace(settings, jwt_secret=f"{NEWER_SECRET}, {SECRET}"))
    done = Tokens(msgspec.structs.replace(settings, jwt_secret=NEWER_SECRET))
    claims = Claims(1, 1, FAMILY)
    assert undated(rotated.read(old.issue(claims))) == claims
    assert undated(done.read(rotated.issue(claims))) == claims
    with pytest.raises(errors.Unauthorized):
        done.read(old.issue(claims))


@given(st.text() | st.text("abcdefgeyJ0.-_="), st.integers(0, 400), st.characters())
def test_whatever_is_sent_as_a_token_is_refused_and_nothing_breaks(text: str, at: int, instead: str) -> None:
    tokens = Tokens(Settings(database_url="postgresql://x/y", jwt_secret=SECRET))
    good = made()
    changed = good[:at] + instead + good[at + 1 :]
    for token in (text, changed):
        if token != good:
            try:
                # the last characters of a part may hold bits that say nothing
                assert tokens.read(token) == tokens.read(good)
            except errors.Unauthorized:
                continue


async def test_without_a_bearer_token_the_answer_says_how_to_ask(
    client: httpx.AsyncClient, settings: Settings, database: Database
) -> None:
    token = token_of(settings, await make_user(database, Role.VIEWER))
    schemes = ["", "Bearer", "Bearer ", f"Basic {token}", token, f"Token {token}", f"Bearer {token}x"]
    wrong = [*schemes, f"Bearer {token} {token}", f"Bearer{token}", "Bearer " + "x" * 5000]
    for headers in ({}, *({"Authorization": sent} for sent in wrong)):
        answer = await client.get("/api/v1/auth/me", headers=headers)
        assert (answer.status_code, slug(answer)) == (401, "unauthorized"), headers
        assert answer.headers["www-authenticate"].startswith("Bearer"), headers


async def test_the_scheme_may_be_written_in_any_case_and_a_cookie_is_not_looked_at(
    client: httpx.AsyncClient, settings: Settings, database: Database
) -> None:
    token = token_of(settings, await make_user(database, Role.VIEWER))
    for scheme in ("bearer", "BEARER"):
        assert (await client.get("/api/v1/auth/me", headers={"Authorization": f"{scheme} {token}"})).status_code == 200
    for name in ("token", "Authorization", "access_token"):
        answer = await client.get("/api/v1/auth/me", headers={"Cookie": f"{name}=Bearer {token}"})
        assert answer.status_code == 401


async def test_a_token_of_nobody_or_of_another_version_is_refused(
    client: httpx.AsyncClient, settings: Settings, database: Database
) -> None:
    user_id = await make_user(database, Role.VIEWER)
    assert (await me(client, token_of(settings, user_id))).status_code == 200
    assert (await me(client, token_of(settings, user_id, version=2))).status_code == 401
    assert (await me(client, token_of(settings, user_id, version=0))).status_code == 401
    assert (await me(client, token_of(settings, user_id + 1))).status_code == 401


async def test_a_sub_beyond_what_the_database_counts_is_401(
    client: httpx.AsyncClient, settings: Settings, database: Database
) -> None:
    """It was a 500, and so were the look-ups of all others in the same batch."""
    good = token_of(settings, await make_user(database, Role.VIEWER))
    for sub in (str(2**53), str(2**63 - 1), str(2**63), str(2**64), "9" * 100):
        bad, other = await asyncio.gather(me(client, made(sub=sub)), me(client, good))
        assert (bad.status_code, slug(bad)) == (401, "unauthorized"), sub
        assert other.status_code == 200


async def test_an_instance_with_the_new_secret_takes_tokens_of_one_with_the_old(
    settings: Settings, database: Database
) -> None:
    rotated = msgspec.structs.replace(settings, jwt_secret=f"{NEWER_SECRET},{SECRET}")
    app = create_app(build_services(rotated))
    user_id = await make_user(database, Role.VIEWER)
    async with running(app), client_of(app) as client:
        assert (await me(client, token_of(settings, user_id))).status_code == 200


def test_token_that_was_verified_once_is_not_verified_again_and_still_expires(
    tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = int(time.time())
    token = tokens.issue(Claims(1, 1, FAMILY), now=at)
    first = tokens.read(token)
    monkeypatch.setattr(jwt, "decode", None)
    assert tokens.read(token) is first
    monkeypatch.setattr(time, "time", lambda: float(first.expires_at + LEEWAY - 1))
    assert tokens.read(token) is first
    monkeypatch.setattr(time, "time", lambda: float(first.expires_at + LEEWAY))
    with pytest.raises(errors.Unauthorized, match="expired"):
        tokens.read(token)


def test_refused_tokens_are_not_remembered_and_good_ones_not_without_bound(tokens: Tokens) -> None:
    for n in range(100):
        with pytest.raises(errors.Unauthorized):
            tokens.read(made(NEWER_SECRET, sub=str(n + 1)))
    assert len(tokens._verified) == 0
    for n in range(5_000):
        tokens.read(tokens.issue(Claims(n + 1, 1, FAMILY)))
    assert len(tokens._verified) == 4_096
