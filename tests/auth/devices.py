"""Second factors of users, as their devices have them."""

import time
from typing import Any, NamedTuple

import asyncpg
import httpx
import pyotp

from tests.auth.people import PASSWORD, Person, bearer, signed_in

TOTP = "/api/v1/auth/me/totp"


class Device(NamedTuple):
    """A user's authenticator."""

    secret: str
    recovery_codes: list[str]

    def code(self, steps: int = 1) -> str:
        """That of so many steps of 30 s from now. The next one is taken, too, and is still valid if the step ends
        before it arrives."""
        return pyotp.TOTP(self.secret).at(int(time.time()) + 30 * steps)


async def begin(client: httpx.AsyncClient, pair: dict[str, Any], password: str = PASSWORD, **code: str) -> str:
    """The secret."""
    answer = await client.post(TOTP, json={"password": password, **code}, headers=bearer(pair))
    assert answer.status_code == 200, answer.text
    return str(answer.json()["secret"])


async def confirm(client: httpx.AsyncClient, pair: dict[str, Any], code: str) -> httpx.Response:
    return await client.post(f"{TOTP}/confirm", json={"code": code}, headers=bearer(pair))


async def enrolled(client: httpx.AsyncClient, pair: dict[str, Any]) -> Device:
    """With the code of now, so that the next one is not used yet."""
    device = Device(await begin(client, pair), [])
    answer = await confirm(client, pair, device.code(0))
    assert answer.status_code == 200, answer.text
    return Device(device.secret, answer.json()["recovery_codes"])


async def with_device(client: httpx.AsyncClient, person: Person) -> tuple[Device, dict[str, Any]]:
    """The user's device, and the sign-in that has set it up."""
    pair = await signed_in(client, person.email)
    return await enrolled(client, pair), pair


async def log_in(client: httpx.AsyncClient, email: str, code: str | None, password: str = PASSWORD) -> httpx.Response:
    form = {"username": email, "password": password} | ({} if code is None else {"totp": code})
    return await client.post("/api/v1/auth/login", data=form)


async def forget_steps(owner: asyncpg.Connection) -> None:
    """Time has passed: the present code is one that was not used yet."""
    await owner.execute("update second_factors set last_step = 0")
