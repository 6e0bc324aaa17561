"""A password that an administrator has set is known to somebody else: it is good for nothing but changing it."""

import asyncpg
import httpx

from erp_service.access.roles import Role
from erp_service.db.engine import Database
from erp_service.settings import Settings
from tests.architecture.assembled import HANDLERS
from tests.auth.people import OTHER_PASSWORD, PASSWORD, Join, bearer, login, me, refresh, signed_in, slug
from tests.support.apps import Instances
from tests.support.clients import UserClient
from tests.support.users import make_user, token_of

NEW_PASSWORD = "a swim in the cold river"


async def reset(client: httpx.AsyncClient, user_id: int) -> None:
    body = {"new_password": OTHER_PASSWORD}
    answer = await client.post(f"/api/v1/users/{user_id}/reset-password", json=body)
    assert answer.status_code == 204, answer.text


async def change(client: httpx.AsyncClient, pair: dict[str, str], old: str, new: str) -> httpx.Response:
    body = {"old_password": old, "new_password": new}
    return await client.put("/api/v1/auth/me/password", json=body, headers=bearer(pair))


async def test_a_reset_password_must_be_changed_before_anything_else_on_every_instance(
    two: Instances, join: Join, settings: Settings, database: Database, owner: asyncpg.Connection
) -> None:
    one, other = two.clients
    person = await join(Role.ADMIN)
    await reset_by_super_admin(one, settings, database, person.id)
    pair = await signed_in(one, person.email, OTHER_PASSWORD)
    for client in two.clients:
        for method, path in (
            ("GET", "/api/v1/auth/me"),
            ("GET", "/api/v1/users"),
            ("GET", "/api/v1/inventory/items"),
            ("POST", "/api/v1/inventory/stock/in"),
            ("POST", "/api/v1/exports/jobs"),
            ("GET", "/health/database"),
        ):
            answer = await client.request(method, path, headers=bearer(pair))
            assert (answer.status_code, slug(answer)) == (403, "password-change-required"), path
            # it says what to do next, also to who reads no documentation
            assert "PUT /api/v1/auth/me/password" in answer.json()["detail"]
    refreshed = (await refresh(other, pair["refresh_token"])).json()
    assert slug(await me(other, refreshed)) == "password-change-required"
    fresh = (await change(other, refreshed, OTHER_PASSWORD, NEW_PASSWORD)).json()
    for client in two.clients:
        assert (await me(client, fresh)).status_code == 200
        assert (await me(client, refreshed)).status_code == 401
    assert not await owner.fetchval("select must_change_password from users where id = $1", person.id)
    assert (await me(one, await signed_in(one, person.email, NEW_PASSWORD))).status_code == 200


async def reset_by_super_admin(client: httpx.AsyncClient, settings: Settings, database: Database, user_id: int) -> None:
    token = token_of(settings, await make_user(database, Role.SUPER_ADMIN))
    answer = await client.post(
        f"/api/v1/users/{user_id}/reset-password", json={"new_password": OTHER_PASSWORD}, headers=bearer(token)
    )
    assert answer.status_code == 204, answer.text


async def test_who_must_change_the_password_can_sign_out(super_admin: UserClient, join: Join) -> None:
    person = await join()
    await reset(super_admin, person.id)
    pair = await signed_in(super_admin, person.email, OTHER_PASSWORD)
    assert (await super_admin.post("/api/v1/auth/logout", headers=bearer(pair))).status_code == 204
    assert (await refresh(super_admin, pair["refresh_token"])).status_code == 401


async def test_the_reset_password_itself_cannot_be_kept(super_admin: UserClient, join: Join) -> None:
    person = await join()
    await reset(super_admin, person.id)
    pair = await signed_in(super_admin, person.email, OTHER_PASSWORD)
    for variant in (OTHER_PASSWORD, OTHER_PASSWORD + "2", "A Short Walk by the Lake!"):
        answer = await change(super_admin, pair, OTHER_PASSWORD, variant)
        assert [fault["pointer"] for fault in answer.json()["errors"]] == ["/new_password"], variant
    assert slug(await me(super_admin, pair)) == "password-change-required"


async def test_a_password_that_was_given_with_a_new_user_need_not_be_changed(admin: UserClient) -> None:
    """Programs create users for programs, with passwords that no person knows."""
    body = {"email": "robot@example.com", "full_name": "Robot", "role": "STAFF", "password": PASSWORD}
    assert (await admin.post("/api/v1/users", json=body)).status_code == 201
    assert (await me(admin, (await login(admin, "robot@example.com")).json())).status_code == 200


def test_only_the_change_of_the_password_and_log_out_work_before_it() -> None:
    allowed = {
        (path, method)
        for path, handler in HANDLERS
        if handler.opt.get("while_password_expired")
        for method in handler.http_methods
    }
    assert allowed == {
        ("/api/v1/auth/logout", "POST"),
        ("/api/v1/auth/me/password", "PUT"),
        ("/console/session", "DELETE"),
    }
