"""A download under way ends when the right to it is taken away."""

import asyncio
import time
from collections.abc import AsyncIterator
from uuid import UUID

import httpx
import pytest
from litestar import Litestar

from erp_service.access.roles import Role
from erp_service.exports.delivery.revocation import RightsRevoked, while_allowed
from erp_service.exports.delivery.signed_urls import Signed
from tests.support.apps import services_of
from tests.support.clients import SignIn, UserClient


async def endless() -> AsyncIterator[bytes]:
    """A download as slow as its reader."""
    while True:
        yield b"x"
        await asyncio.sleep(0.05)


async def taken(pieces: AsyncIterator[bytes]) -> None:
    # a download that is not ended goes on for ever
    async with asyncio.timeout(20):
        async for _ in pieces:
            pass


def credential(client: UserClient) -> Signed:
    return Signed(client.user_id, 1, int(time.time()), UUID(int=1))


async def test_slow_download_ends_when_the_role_is_taken_away(
    app: Litestar, sign_in: SignIn, super_admin: httpx.AsyncClient
) -> None:
    admin = await sign_in(Role.ADMIN)
    pieces = while_allowed(endless(), services_of(app).access, credential(admin), Role.ADMIN)
    assert await anext(pieces) == b"x"
    change = {"role": "STAFF", "reason": "another desk"}
    answer = await super_admin.post(f"/api/v1/users/{admin.user_id}/role", json=change)
    assert answer.status_code == 200, answer.text
    with pytest.raises(RightsRevoked):
        await taken(pieces)


async def test_download_outlives_its_token_and_an_outage_of_the_database(
    app: Litestar, viewer: UserClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    async def away(*_: object, **__: object) -> None:
        nonlocal asked
        asked += 1
        raise ConnectionError("the database cannot be reached")

    monkeypatch.setattr(services_of(app).access.authorities, "of", away)
    pieces = while_allowed(endless(), services_of(app).access, credential(viewer), Role.VIEWER)
    # without a second look it goes on for ever
    async with asyncio.timeout(20):
        async for _ in pieces:
            if asked == 2:
                break
    assert await anext(pieces) == b"x"
