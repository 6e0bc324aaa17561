"""HTTP clients of an app in the test's own process."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
from litestar import Litestar

from erp_service.access.roles import Role


@contextlib.asynccontextmanager
async def client_of(app: Litestar, token: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """Without a token, a client that is not signed in."""
    async with httpx.AsyncClient(**_arguments(app, token)) as client:
        yield client


class UserClient(httpx.AsyncClient):
    """A client that is signed in as a user of its own."""

    def __init__(self, app: Litestar, user_id: int, token: str) -> None:
        super().__init__(**_arguments(app, token))
        self.user_id = user_id


SignIn = Callable[[Role], Awaitable[UserClient]]
"""`await sign_in(Role.STAFF)`: a client of a new user with that role."""


def _arguments(app: Litestar, token: str | None) -> dict[str, Any]:
    return {
        "transport": httpx.ASGITransport(app),  # type: ignore[arg-type]
        "base_url": "http://test",
        "headers": {"Authorization": f"Bearer {token}"} if token else {},
    }
