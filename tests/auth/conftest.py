"""People who can sign in, and two instances to sign in on."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

import asyncpg
import httpx
import pytest
from litestar import Litestar

from erp_service.access.roles import Role
from erp_service.app import create_app
from erp_service.auth.passwords import hashed
from erp_service.db.engine import Database
from erp_service.services import build_services
from erp_service.settings import Settings
from tests.conftest import client_of, make_user, running

PASSWORD = "a long walk by the sea"
OTHER_PASSWORD = "a short walk by the lake"
HASH = hashed(PASSWORD)


class Person(NamedTuple):
    id: int
    email: str


Join = Callable[..., Awaitable[Person]]


@pytest.fixture
async def join(database: Database) -> Join:
    """`await join(Role.STAFF, "grace@example.com")`: somebody whose password is PASSWORD."""

    async def join(role: Role = Role.VIEWER, email: str = "grace@example.com") -> Person:
        return Person(await make_user(database, role, email, HASH), email)

    return join


class Instances(NamedTuple):
    apps: list[Litestar]
    clients: list[httpx.AsyncClient]


@pytest.fixture
async def two(settings: Settings) -> AsyncIterator[Instances]:
    apps = [create_app(build_services(settings)), create_app(build_services(settings))]
    async with running(apps[0]), running(apps[1]), client_of(apps[0]) as one, client_of(apps[1]) as other:
        yield Instances(apps, [one, other])


async def login(client: httpx.AsyncClient, email: str, password: str = PASSWORD, **headers: str) -> httpx.Response:
    form = {"grant_type": "password", "username": email, "password": password, "scope": ""}
    return await client.post("/api/v1/auth/login", data=form, headers=headers)


async def signed_in(client: httpx.AsyncClient, email: str, password: str = PASSWORD) -> dict[str, Any]:
    answer = await login(client, email, password)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def refresh(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.post("/api/v1/auth/refresh", json={"refresh_token": token})


def bearer(pair: dict[str, Any] | str) -> dict[str, str]:
    token = pair if isinstance(pair, str) else pair["access_token"]
    return {"Authorization": f"Bearer {token}"}


async def me(client: httpx.AsyncClient, pair: dict[str, Any] | str) -> httpx.Response:
    return await client.get("/api/v1/auth/me", headers=bearer(pair))


def slug(answer: httpx.Response) -> str:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return str(answer.json()["type"]).removeprefix("/problems/")


async def actions(owner: asyncpg.Connection) -> list[str]:
    return [row["action"] for row in await owner.fetch("select action from audit_log order by id")]
