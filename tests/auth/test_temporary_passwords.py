"""A password that somebody else has set is good for a week, and for nothing but changing it."""

import asyncpg
import httpx
import pytest

from tests.auth.people import OTHER_PASSWORD, PASSWORD, Join, bearer, login, me, signed_in, slug
from tests.support.clients import UserClient

NEW_PASSWORD = "a swim in the cold river"
A_WEEK_LATER = "update users set password_expires_at = password_expires_at - interval '7 days 1 second'"


async def reset(super_admin: UserClient, user_id: int, password: str = OTHER_PASSWORD) -> None:
    answer = await super_admin.post(f"/api/v1/users/{user_id}/reset-password", json={"new_password": password})
    assert answer.status_code == 204, answer.text


async def test_a_reset_password_signs_nobody_in_after_a_week(
    super_admin: UserClient, client: httpx.AsyncClient, join: Join, owner: asyncpg.Connection
) -> None:
    person = await join()
    await reset(super_admin, person.id)
    assert (await login(client, person.email, OTHER_PASSWORD)).status_code == 200
    await owner.execute(A_WEEK_LATER)
    answer = await login(client, person.email, OTHER_PASSWORD)
    assert (answer.status_code, slug(answer)) == (401, "temporary-password-expired")
    # who does not know it learns nothing
    assert slug(await login(client, person.email, "a wrong password")) == "wrong-credentials"
    await reset(super_admin, person.id, NEW_PASSWORD)
    assert (await login(client, person.email, NEW_PASSWORD)).status_code == 200


async def test_once_changed_it_does_not_expire(
    super_admin: UserClient, client: httpx.AsyncClient, join: Join, owner: asyncpg.Connection
) -> None:
    person = await join()
    before = await owner.fetchval("select password_set_at from users where id = $1", person.id)
    await reset(super_admin, person.id)
    pair = await signed_in(client, person.email, OTHER_PASSWORD)
    body = {"old_password": OTHER_PASSWORD, "new_password": NEW_PASSWORD}
    assert (await client.put("/api/v1/auth/me/password", json=body, headers=bearer(pair))).status_code == 200
    row = await owner.fetchrow("select password_expires_at, password_set_at from users where id = $1", person.id)
    assert row["password_expires_at"] is None
    assert row["password_set_at"] > before


@pytest.mark.parametrize("url", ["/api/v1/users", "/api/v1/auth/register"])
async def test_a_person_who_is_made_with_a_temporary_password_changes_it_first(
    admin: UserClient, owner: asyncpg.Connection, url: str
) -> None:
    new = {"email": "new@example.com", "full_name": "New Person", "role": "STAFF", "password": PASSWORD}
    assert (await admin.post(url, json=new | {"must_change_password": True})).status_code == 201
    pair = await signed_in(admin, "new@example.com")
    assert slug(await me(admin, pair)) == "password-change-required"
    await owner.execute(A_WEEK_LATER)
    assert slug(await login(admin, "new@example.com")) == "temporary-password-expired"
