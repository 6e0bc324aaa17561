"""A second factor that the company's settings require, from a role upwards."""

from typing import Any

import asyncpg
import httpx
import msgspec
import pytest

from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.auth import users
from erp_service.db.engine import Database
from erp_service.errors import SecondFactorRequired
from tests.architecture.assembled import HANDLERS
from tests.auth.devices import TOTP, Device, begin, confirm, enrolled, log_in, with_device
from tests.auth.people import OTHER_PASSWORD, PASSWORD, Join, bearer, me, refresh, signed_in, slug
from tests.support.apps import Instances
from tests.support.waiting import eventually

REQUIRED = (403, "second-factor-required")


async def require_from(owner: asyncpg.Connection, role: Role | None) -> None:
    changed = msgspec.json.encode({"second_factor_from": role}).decode()
    await owner.execute("update company set settings = settings || $1::jsonb", changed)


async def told(client: httpx.AsyncClient, pair: dict[str, Any], path: str = "/api/v1/inventory/items") -> Any:
    answer = await client.get(path, headers=bearer(pair))
    return 200 if answer.status_code == 200 else (answer.status_code, slug(answer))


async def test_a_change_of_the_setting_holds_on_every_instance_within_a_second(
    two: Instances, join: Join, owner: asyncpg.Connection
) -> None:
    one, other = two.clients
    roles = {role: await join(role, f"{role.lower()}@example.com") for role in Role}
    pairs = {role: await signed_in(one, person.email) for role, person in roles.items()}
    for client in two.clients:
        assert [await told(client, pair) for pair in pairs.values()] == [200] * 4
    for least, allowed in ((Role.ADMIN, 2), (Role.VIEWER, 0), (Role.SUPER_ADMIN, 3), (None, 4)):
        await require_from(owner, least)
        expected = [200] * allowed + [REQUIRED] * (4 - allowed)
        for client in (one, other):

            async def holds(client: httpx.AsyncClient = client, expected: list[Any] = expected) -> bool:
                return [await told(client, pair) for pair in pairs.values()] == expected

            await eventually(holds, seconds=2)


async def test_who_lacks_it_sets_it_up_and_can_do_everything_again_with_the_same_token(
    two: Instances, join: Join, owner: asyncpg.Connection
) -> None:
    one, other = two.clients
    person = await join(Role.ADMIN)
    await require_from(owner, Role.ADMIN)
    pair = await signed_in(one, person.email)
    for client in two.clients:
        assert await told(client, pair) == REQUIRED
        for method, path in (
            ("GET", "/api/v1/users"),
            ("GET", "/api/v1/auth/sessions"),
            ("POST", "/api/v1/inventory/stock/in"),
            ("POST", "/api/v1/exports/jobs"),
            ("GET", "/health/database"),
            ("DELETE", TOTP),
        ):
            answer = await client.request(method, path, headers=bearer(pair))
            assert (answer.status_code, slug(answer)) == REQUIRED, path
            assert "POST /api/v1/auth/me/totp" in answer.json()["detail"]
    assert not (await me(other, pair)).json()["second_factor"]
    assert (await other.get(TOTP, headers=bearer(pair))).json()["required"]
    pair = (await refresh(other, pair["refresh_token"])).json()
    body = {"old_password": PASSWORD, "new_password": OTHER_PASSWORD}
    pair = (await one.put("/api/v1/auth/me/password", json=body, headers=bearer(pair))).json()
    assert await told(one, pair) == REQUIRED
    secret = await begin(one, pair, OTHER_PASSWORD)
    assert (await confirm(one, pair, Device(secret, []).code(0))).status_code == 200
    # at once, though the notice of it may still be on its way
    assert [await told(client, pair) for client in two.clients] == [200, 200]


async def test_it_cannot_be_removed_while_it_is_required_and_it_can_be_replaced(
    client: httpx.AsyncClient, join: Join, owner: asyncpg.Connection
) -> None:
    person = await join(Role.STAFF)
    device, pair = await with_device(client, person)
    await require_from(owner, Role.STAFF)
    body = {"password": PASSWORD, "code": device.code()}
    answer = await client.request("DELETE", TOTP, json=body, headers=bearer(pair))
    assert (answer.status_code, slug(answer)) == (409, "second-factor-kept")
    second = await begin(client, pair, code=device.code())
    assert second != device.secret
    await require_from(owner, Role.ADMIN)
    body["code"] = device.recovery_codes[0]
    assert (await client.request("DELETE", TOTP, json=body, headers=bearer(pair))).status_code == 204


async def test_who_is_promoted_into_the_setting_must_set_it_up_first(
    client: httpx.AsyncClient, join: Join, owner: asyncpg.Connection
) -> None:
    person = await join(Role.STAFF)
    await require_from(owner, Role.ADMIN)
    assert await told(client, await signed_in(client, person.email)) == 200
    await owner.execute("update users set role = 'ADMIN' where id = $1", person.id)
    assert await told(client, await signed_in(client, person.email)) == REQUIRED


async def test_a_password_that_must_be_changed_comes_first(
    client: httpx.AsyncClient, join: Join, owner: asyncpg.Connection
) -> None:
    person = await join(Role.STAFF)
    await require_from(owner, Role.VIEWER)
    await owner.execute("update users set must_change_password = true")
    pair = await signed_in(client, person.email)
    for path in ("/api/v1/auth/me", TOTP, "/api/v1/users"):
        assert await told(client, pair, path) == (403, "password-change-required")


async def test_a_reset_of_it_while_it_is_required_leaves_nothing_but_setting_it_up(
    client: httpx.AsyncClient, join: Join, owner: asyncpg.Connection
) -> None:
    boss, person = await join(Role.SUPER_ADMIN, "boss@example.com"), await join(Role.ADMIN)
    _, his = await with_device(client, boss)
    _, hers = await with_device(client, person)
    await require_from(owner, Role.ADMIN)
    answer = await client.post(f"/api/v1/users/{person.id}/reset-totp", json={"reason": "lost it"}, headers=bearer(his))
    assert answer.status_code == 204
    assert (await me(client, hers)).status_code == 401
    pair = (await log_in(client, person.email, None)).json()
    assert await told(client, pair) == REQUIRED
    await enrolled(client, pair)


async def test_who_must_have_one_in_the_meantime_changes_no_user(
    database: Database, join: Join, owner: asyncpg.Connection
) -> None:
    """The request came before the setting was changed, and waited for the lock on users."""
    person, other = await join(Role.ADMIN), await join(Role.VIEWER, "other@example.com")
    await require_from(owner, Role.ADMIN)
    async with database.write() as db:
        with pytest.raises(SecondFactorRequired):
            await users.lock_for_update(db, Principal(person.id, Role.ADMIN), other.id)


def test_only_these_routes_work_without_a_second_factor() -> None:
    allowed = {
        (path, method)
        for path, handler in HANDLERS
        if handler.opt.get("without_second_factor")
        for method in handler.http_methods
    }
    assert allowed == {
        ("/api/v1/auth/logout", "POST"),
        ("/api/v1/auth/me", "GET"),
        ("/api/v1/auth/me/password", "PUT"),
        ("/api/v1/auth/me/totp", "GET"),
        ("/api/v1/auth/me/totp", "POST"),
        ("/api/v1/auth/me/totp/confirm", "POST"),
        ("/console/session", "DELETE"),
    }
