"""HTTP clients of an app in the test's own process."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
from litestar import Litestar

from erp_service.access.roles import Role


@contextlib.asynccontextmanager
async def client_of(app: Litestar, token: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
        yield client


SignIn = Callable[[Role], Awaitable[httpx.AsyncClient]]
"""`await sign_in(Role.STAFF)`: a client of a new user with that role; `client.user_id` is in `user_ids`."""
