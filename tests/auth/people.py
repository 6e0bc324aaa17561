"""Users who can sign in, and their requests."""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import asyncpg
import httpx

from erp_service.auth.passwords import hashed

PASSWORD = "a long walk by the sea"
OTHER_PASSWORD = "a short walk by the lake"
HASH = hashed(PASSWORD)


class Person(NamedTuple):
    id: int
    email: str


Join = Callable[..., Awaitable[Person]]


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
