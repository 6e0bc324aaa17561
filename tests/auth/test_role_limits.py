"""Whose hands reach how far: nobody grants what is above them, and there is always a SUPER_ADMIN."""

import asyncio
from functools import partial
from typing import Any

import asyncpg
import httpx
import pytest

from erp_service.access.principals import Principal, system
from erp_service.access.roles import Role
from erp_service.auth import users
from erp_service.auth.problems import LastSuperAdmin, RoleOutOfReach
from erp_service.auth.schemas import ReasonText, RoleChange
from erp_service.db.engine import Database
from erp_service.errors import PasswordChangeRequired as MustChange
from erp_service.errors import Unauthorized
from erp_service.settings import Settings
from tests.auth.people import OTHER_PASSWORD, PASSWORD, actions, bearer, me, slug
from tests.support.apps import Instances
from tests.support.clients import SignIn, UserClient
from tests.support.users import make_user, token_of

URL = "/api/v1/users"
NEW = {"email": "new@example.com", "full_name": "New Person", "role": "STAFF", "password": PASSWORD}


async def of(client: httpx.AsyncClient, user_id: object) -> dict[str, Any]:
    answer = await client.get(f"{URL}/{user_id}")
    assert answer.status_code == 200
    return dict(answer.json())


async def test_an_admin_handles_and_grants_viewer_and_staff_only(
    admin: httpx.AsyncClient, super_admin: UserClient, sign_in: SignIn
) -> None:
    other, viewer = await sign_in(Role.ADMIN), await sign_in(Role.VIEWER)
    refused = []
    for user_id in (other.user_id, super_admin.user_id):
        url = f"{URL}/{user_id}"
        profile = await of(admin, user_id)
        refused += [
            await admin.put(url, json={"email": profile["email"], "full_name": "Changed"}),
            await admin.delete(url),
            await admin.post(f"{url}/reactivate"),
            await admin.post(f"{url}/role", json={"role": "VIEWER", "reason": "x"}),
        ]
        assert await of(admin, user_id) == profile
    profile = await of(admin, viewer.user_id)
    for role in ("ADMIN", "SUPER_ADMIN"):
        body = {"email": profile["email"], "full_name": "x", "role": role}
        refused += [
            await admin.post(URL, json=NEW | {"role": role}),
            await admin.post("/api/v1/auth/register", json=NEW | {"role": role}),
            await admin.post(f"{URL}/{viewer.user_id}/role", json={"role": role, "reason": "x"}),
            await admin.put(f"{URL}/{viewer.user_id}", json=body),
        ]
    assert [(answer.status_code, slug(answer)) for answer in refused] == [(403, "role-out-of-reach")] * len(refused)
    assert (await super_admin.post(URL, json=NEW | {"role": "SUPER_ADMIN"})).status_code == 201
    assert (await super_admin.delete(f"{URL}/{other.user_id}")).status_code == 204


async def test_below_admin_nobody_handles_users(
    staff: httpx.AsyncClient, viewer: UserClient, client: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    url = f"{URL}/{viewer.user_id}"
    for method, path in (
        ("GET", URL),
        ("POST", URL),
        ("POST", "/api/v1/auth/register"),
        ("GET", url),
        ("PUT", url),
        ("DELETE", url),
        ("POST", f"{url}/reactivate"),
        ("POST", f"{url}/role"),
        ("POST", f"{url}/reset-password"),
    ):
        assert (await client.request(method, path)).status_code == 401, path
        for low in (viewer, staff):
            answer = await low.request(method, path)
            assert (answer.status_code, slug(answer)) == (403, "forbidden"), path
    answer = await admin.post(f"{url}/reset-password", json={"new_password": OTHER_PASSWORD})
    assert (answer.status_code, slug(answer)) == (403, "forbidden")


async def test_nobody_deactivates_or_promotes_themselves(
    super_admin: UserClient, sign_in: SignIn, admin: UserClient
) -> None:
    await sign_in(Role.SUPER_ADMIN)
    own = super_admin.user_id
    url, profile = f"{URL}/{own}", await of(super_admin, own)
    body = {"email": profile["email"], "full_name": "Renamed"}
    for answer in (
        await super_admin.delete(url),
        await super_admin.post(f"{url}/role", json={"role": "VIEWER", "reason": "x"}),
        await super_admin.put(url, json=body | {"role": "ADMIN"}),
        await super_admin.put(url, json=body | {"is_active": False}),
        await super_admin.post(f"{url}/reset-password", json={"new_password": OTHER_PASSWORD}),
    ):
        assert (answer.status_code, slug(answer)) == (403, "own-account")
    assert (await super_admin.put(url, json=body)).json()["full_name"] == "Renamed"
    up = await admin.post(f"{URL}/{admin.user_id}/role", json={"role": "SUPER_ADMIN", "reason": "x"})
    assert up.status_code == 403


# The last SUPER_ADMIN.


async def test_the_last_active_super_admin_stays(two: Instances, settings: Settings, database: Database) -> None:
    """Each takes the other's role, or deactivates the other, on two instances at the same moment."""
    for n in range(6):
        first, second = [await make_user(database, Role.SUPER_ADMIN, f"{name}{n}@example.com") for name in "ab"]
        pairs = ((two.clients[0], first, second), (two.clients[1], second, first))

        async def strike(client: httpx.AsyncClient, actor: int, target: int, *, demote: bool) -> httpx.Response:
            headers = bearer(token_of(settings, actor))
            if demote:
                body = {"role": "VIEWER", "reason": "a quarrel"}
                return await client.post(f"{URL}/{target}/role", json=body, headers=headers)
            return await client.delete(f"{URL}/{target}", headers=headers)

        for client, actor, _ in pairs:
            assert (await me(client, token_of(settings, actor))).status_code == 200, "the role is in the cache"
        answers = await asyncio.gather(*(strike(*pair, demote=n % 2 == 0) for pair in pairs))
        statuses = sorted(answer.status_code for answer in answers)
        assert statuses[0] in (200, 204)
        assert statuses[1] in (401, 403, 409), answers[1].text
        async with database.write() as db:
            await db.run(f"update users set is_active = false where id in ({first}, {second})")


async def test_who_lost_the_role_a_moment_ago_has_lost_it_though_the_instance_has_not_heard(
    database: Database, owner: asyncpg.Connection
) -> None:
    who = Principal(await make_user(database, Role.SUPER_ADMIN), Role.SUPER_ADMIN)
    target = await make_user(database, Role.SUPER_ADMIN)
    for lost, refusal in (("is_active = false", Unauthorized), ("is_active = true, role = 'ADMIN'", RoleOutOfReach)):
        await owner.execute(f"update users set {lost} where id = {who.user_id}")
        with pytest.raises(refusal):
            async with database.write() as db:
                await users.lock_for_update(db, who, target)


async def test_who_is_no_admin_any_more_changes_nobody_though_a_reset_waited_for_its_hash(
    database: Database, owner: asyncpg.Connection
) -> None:
    """A role that is lower than when the request came, but for a target that is within every ADMIN's reach."""
    who = Principal(await make_user(database, Role.SUPER_ADMIN), Role.SUPER_ADMIN)
    target = await make_user(database, Role.STAFF)
    lost = (("role = 'VIEWER'", RoleOutOfReach), ("must_change_password = true, role = 'SUPER_ADMIN'", MustChange))
    for change, refusal in lost:
        await owner.execute(f"update users set {change} where id = {who.user_id}")
        with pytest.raises(refusal):
            async with database.write() as db:
                await users.lock_for_update(db, who, target)


async def test_not_even_the_system_itself_takes_the_last_super_admin_away(database: Database) -> None:
    """Over HTTP this cannot happen: whoever may try is one too, and cannot try on themselves."""
    only = await make_user(database, Role.SUPER_ADMIN)
    for attempt in (users.deactivate, partial(users.change_role, body=RoleChange(Role.ADMIN, ReasonText("x")))):
        with pytest.raises(LastSuperAdmin):
            async with database.write() as db:
                await attempt(db, system("test"), await users.lock_for_update(db, system("test"), only))
    await make_user(database, Role.SUPER_ADMIN)
    async with database.write() as db:
        held = await users.lock_for_update(db, system("test"), only)
        assert not (await users.deactivate(db, system("test"), held)).user.is_active


async def test_the_first_super_admin_is_made_once_however_many_start_at_once(
    database: Database, owner: asyncpg.Connection
) -> None:
    made = await asyncio.gather(
        *(users.first_super_admin(database, f"admin{n}@example.com", PASSWORD) for n in range(5))
    )
    assert made.count(True) == 1
    assert await owner.fetchval("select count(*) from users") == 1
    assert await actions(owner) == ["user.created"]
    assert not await users.first_super_admin(database, "later@example.com", PASSWORD)
    await owner.execute("update users set is_active = false")
    assert await users.first_super_admin(database, "later@example.com", PASSWORD)


async def test_the_first_super_admin_takes_no_account_over(database: Database, owner: asyncpg.Connection) -> None:
    await make_user(database, Role.VIEWER, "taken@example.com")
    assert not await users.first_super_admin(database, "Taken@example.com", PASSWORD)
    assert await owner.fetchval("select array_agg(role) from users") == ["VIEWER"]
