"""Every endpoint and every kind of caller: who is let in, and with which problem all others are refused.

What is expected follows from the role and the scope that each route declares; what happens is asked of a real instance.
A new route is in it by itself. A new kind of caller is one more line in `add_people` or `add_keys`; a new way to refuse
one is a name more in REFUSALS."""

import itertools
import os
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from litestar import Litestar
from sqlalchemy import insert, update

from erp_service.access import key_format
from erp_service.access.roles import Role
from erp_service.access.scopes import Keys, Scope
from erp_service.auth.api_keys.models import ApiKey
from erp_service.auth.models import User
from erp_service.db.engine import Database
from erp_service.settings import Settings
from erp_service.standalone.postgres import Cluster
from erp_service.web.routing import PUBLIC
from tests.architecture.route_table import Endpoint, paths_called
from tests.support.apps import fresh_instance, services_of
from tests.support.clients import client_of
from tests.support.databases import connected
from tests.support.users import make_user, token_of
from tests.support.waiting import eventually

REFUSALS = {
    "unauthorized",
    "forbidden",
    "password-change-required",
    "second-factor-required",
    "not-for-api-keys",
    "api-key-scope",
    "api-key-network",
}
"""The problems of those who are not let in. Any other answer comes from the handler, or from what checks its input."""

LET_IN = "let in"


class Caller:
    """`refusal` is what the caller gets wherever a token is needed. A key has `scopes`, a person has none.

    A person with `password_expired`, or who `lacks_second_factor`, has to see to that first, and to the password before
    the second factor."""

    def __init__(
        self,
        name: str,
        credential: str | int | None,
        *,
        role: Role | None = None,
        scopes: frozenset[Scope] | None = None,
        refusal: str | None = None,
        password_expired: bool = False,
        lacks_second_factor: bool = False,
    ) -> None:
        self.name, self.role, self.scopes, self.refusal = name, role, scopes, refusal
        self.password_expired, self.lacks_second_factor = password_expired, lacks_second_factor
        self._credential = credential

    def headers(self, settings: Settings) -> dict[str, str]:
        if self._credential is None:
            return {}
        # of a new sign-in for each request, since one of them is a log-out
        is_user = isinstance(self._credential, int)
        text = token_of(settings, int(self._credential)) if is_user else self._credential
        return {"Authorization": f"Bearer {text}"}

    def expects(self, endpoint: Endpoint) -> str:
        if endpoint.role is PUBLIC:
            return LET_IN
        if self.refusal is not None:
            return self.refusal
        if self.password_expired and not endpoint.while_password_expired:
            return "password-change-required"
        if self.lacks_second_factor and not endpoint.without_second_factor:
            return "second-factor-required"
        if self.scopes is not None and endpoint.scope is Keys.NONE:
            return "not-for-api-keys"
        if self.role is None or not self.role.includes(endpoint.role):
            return "forbidden"
        if self.scopes is not None and endpoint.scope is not Keys.ANY and endpoint.scope not in self.scopes:
            return "api-key-scope"
        return LET_IN


class Matrix:
    """The people and the keys that call, made without the API."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.callers: list[Caller] = [Caller("nobody", None, refusal="unauthorized")]

    async def person(self, role: Role, **values: object) -> int:
        """With a second factor, unless `second_factor_since` is None."""
        user_id = await make_user(self._database, role)
        columns = {"second_factor_since": datetime.now(UTC), **values}
        async with self._database.write() as db:
            await db.execute(update(User).where(User.id == user_id).values(columns))
        return user_id

    async def key(self, maker: int, role: Role, *scopes: Scope, **values: object) -> str:
        key = key_format.new_key()
        row = {"user_id": maker, "name": "x", "role": role, "scopes": list(scopes), "hint": key_format.hint(key)}
        async with self._database.write() as db:
            await db.execute(insert(ApiKey).values({**row, "digest": key_format.digest(key), **values}))
        return key

    def add(self, *caller: Any, **values: Any) -> None:
        self.callers.append(Caller(*caller, **values))


_UNPREPARED: dict[str, tuple[dict[str, object], dict[str, bool]]] = {
    "without the second factor": ({"second_factor_since": None}, {"lacks_second_factor": True}),
    "who must change the password": ({"must_change_password": True}, {"password_expired": True}),
    "who must do both": (
        {"second_factor_since": None, "must_change_password": True},
        {"lacks_second_factor": True, "password_expired": True},
    ),
}
"""Columns of users, and what they make of the caller."""


async def add_people(matrix: Matrix) -> None:
    for role in Role:
        matrix.add(role, await matrix.person(role), role=role)
    for what, (columns, lack) in _UNPREPARED.items():
        matrix.add(f"person {what}", await matrix.person(Role.SUPER_ADMIN, **columns), role=Role.SUPER_ADMIN, **lack)
    gone = await matrix.person(Role.SUPER_ADMIN, is_active=False)
    matrix.add("deactivated person", gone, refusal="unauthorized")


async def add_keys(matrix: Matrix) -> None:
    chief, every, past = await matrix.person(Role.SUPER_ADMIN), frozenset(Scope), datetime.now(UTC) - timedelta(days=1)
    for role in Role:
        matrix.add(f"key of {role}", await matrix.key(chief, role, *every), role=role, scopes=every)
    for scope in Scope:
        key = await matrix.key(chief, Role.SUPER_ADMIN, scope)
        matrix.add(f"key for {scope}", key, role=Role.SUPER_ADMIN, scopes=frozenset({scope}))
    staff = await matrix.person(Role.STAFF)
    key = await matrix.key(staff, Role.SUPER_ADMIN, *every)
    matrix.add("key of a maker who was demoted", key, role=Role.STAFF, scopes=every)
    gone = await matrix.person(Role.SUPER_ADMIN, is_active=False)
    for name, maker, values in (
        ("revoked key", chief, {"revoked_at": past}),
        ("expired key", chief, {"expires_at": past}),
        ("key of a deactivated maker", gone, {}),
    ):
        matrix.add(name, await matrix.key(maker, Role.SUPER_ADMIN, *every, **values), refusal="unauthorized")
    for what, (columns, _) in _UNPREPARED.items():
        maker = await matrix.person(Role.SUPER_ADMIN, **columns)
        key = await matrix.key(maker, Role.SUPER_ADMIN, *every)
        # what a maker must do first does not stop the programs that run by now
        matrix.add(f"key of a maker {what}", key, role=Role.SUPER_ADMIN, scopes=every)
    matrix.add("unknown key", key_format.new_key(), refusal="unauthorized")
    matrix.add("cut key", key_format.new_key()[:-1], refusal="unauthorized")
    elsewhere = await matrix.key(chief, Role.SUPER_ADMIN, *every, networks=["203.0.113.0/24"])
    matrix.add("key on a foreign network", elsewhere, role=Role.SUPER_ADMIN, scopes=every, refusal="api-key-network")


@pytest.fixture(scope="session")
async def strict_app(
    cluster: Cluster, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Litestar]:
    """An instance of a company in which everybody must have a second factor."""
    async with fresh_instance(cluster, template, f"strict_{os.getpid()}", tmp_path_factory.mktemp("strict")) as app:
        async with connected(services_of(app).settings.migration_database_url or "") as owner:
            await owner.execute("""update company set settings = '{"second_factor_from": "VIEWER"}'""")
        yield app


@pytest.fixture(scope="session")
async def callers(strict_app: Litestar) -> list[Caller]:
    services = services_of(strict_app)
    matrix = Matrix(services.database)
    await add_people(matrix)
    await add_keys(matrix)

    async def hears() -> bool:
        return services.notifications.is_current

    await eventually(hears)
    return matrix.callers


def expected(caller: Caller, endpoint: Endpoint) -> str:
    refusal = caller.expects(endpoint)
    # whether a key may be used at all comes before where from
    return "not-for-api-keys" if refusal == "api-key-network" and endpoint.scope is Keys.NONE else refusal


def outcome(answer: httpx.Response) -> str:
    if answer.status_code not in (401, 403) or not answer.content:
        return LET_IN if answer.status_code not in (401, 403) else str(answer.status_code)
    slug = str(answer.json()["type"]).removeprefix("/problems/")
    return slug if slug in REFUSALS else LET_IN


CALLS = [*paths_called()]
_STRANGERS = ("nobody", "deactivated person", "revoked key")


@pytest.mark.parametrize(("endpoint", "path"), CALLS, ids=[str(endpoint) for endpoint, _ in CALLS])
async def test_who_is_let_in_and_how_others_are_refused(
    strict_app: Litestar, callers: list[Caller], endpoint: Endpoint, path: str
) -> None:
    settings = services_of(strict_app).settings
    # where no token is needed, none is looked at: a few callers show it
    who = callers if endpoint.role is not PUBLIC else [each for each in callers if each.name in _STRANGERS]
    seen: dict[str, str] = {}
    async with client_of(strict_app) as client:
        for caller in who:
            # nothing that a handler would accept, so that nobody changes anything
            body: dict[str, object] | None = None if endpoint.method in ("GET", "HEAD") else {}
            answer = await client.request(endpoint.method, path, headers=caller.headers(settings), json=body)
            assert answer.status_code < 500, (caller.name, answer.text)
            seen[caller.name] = _without_body(answer, expected(caller, endpoint))
    assert seen == {caller.name: expected(caller, endpoint) for caller in who}


def _without_body(answer: httpx.Response, hoped: str) -> str:
    """HEAD has no problem document: only its status can be compared."""
    if answer.request.method != "HEAD" or answer.status_code not in (401, 403):
        return outcome(answer)
    status = {"unauthorized": 401, LET_IN: 200}.get(hoped, 403)
    return hoped if answer.status_code == status else str(answer.status_code)


def kinds() -> Iterator[str]:
    yield from ("nobody", *Role, "deactivated person")
    yield from (f"person {what}" for what in _UNPREPARED)
    yield from (f"key of {role}" for role in Role)
    yield from (f"key for {scope}" for scope in Scope)
    yield from ("revoked key", "expired key", "unknown key", "cut key", "key of a deactivated maker")
    yield from (f"key of a maker {what}" for what in _UNPREPARED)
    yield from ("key of a maker who was demoted", "key on a foreign network")


async def test_every_kind_of_caller_is_in_the_matrix(callers: list[Caller]) -> None:
    names = [caller.name for caller in callers]
    assert set(names) >= set(kinds())
    assert len(names) == len(set(names))


async def test_every_scope_opens_something_and_no_two_kinds_of_refusal_are_mixed_up(callers: list[Caller]) -> None:
    opened = {
        caller.name: {str(endpoint) for endpoint, _ in CALLS if expected(caller, endpoint) == LET_IN}
        for caller in callers
    }
    for scope, other in itertools.permutations([s for s in Scope if any(e.scope is s for e, _ in CALLS)], 2):
        assert opened[f"key for {scope}"] - opened[f"key for {other}"], f"{scope} opens nothing of its own"
