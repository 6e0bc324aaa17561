"""Users: made, listed, changed, deactivated, with new roles and new passwords."""

import asyncio
from typing import Any

import asyncpg
import httpx

from erp_service.access.roles import Role
from erp_service.auth.emails import Email
from erp_service.auth.queries import Account
from erp_service.auth.schemas import (
    FullNameText,
    LoginCredentials,
    NewUser,
    PasswordChange,
    PasswordReset,
    RefreshRequest,
    TokenPair,
)
from erp_service.db.engine import Database
from tests.auth.people import OTHER_PASSWORD, PASSWORD, Join, actions, login, me, refresh, signed_in, slug
from tests.support.clients import UserClient
from tests.support.users import make_user

URL = "/api/v1/users"
NEW = {"email": "new@example.com", "full_name": "New Person", "role": "STAFF", "password": PASSWORD}


async def of(client: httpx.AsyncClient, user_id: object) -> dict[str, Any]:
    answer = await client.get(f"{URL}/{user_id}")
    assert answer.status_code == 200
    return dict(answer.json())


async def test_a_user_that_was_made_signs_in(admin: UserClient, owner: asyncpg.Connection) -> None:
    for url, email in ((URL, "one@example.com"), ("/api/v1/auth/register", "other@example.com")):
        answer = await admin.post(url, json=NEW | {"email": email})
        assert answer.status_code == 201, answer.text
        user = answer.json()
        assert answer.headers["location"] == f"{URL}/{user['id']}"
        assert answer.headers["etag"] == '"1"'
        fields = ["created_at", "email", "full_name", "id", "is_active", "last_login_at", "role", "second_factor"]
        assert sorted(user) == fields
        assert (user["role"], user["is_active"], user["last_login_at"]) == ("STAFF", True, None)
        assert (await admin.get(answer.headers["location"])).json() == user
        assert (await login(admin, email)).status_code == 200
    entry = await owner.fetchrow("select * from audit_log where action = 'user.created' order by id limit 1")
    assert entry["user_id"] == admin.user_id
    assert entry["before"] is None
    assert entry["after"] is not None
    assert PASSWORD not in str([dict(e) for e in await owner.fetch("select * from audit_log")])
    assert PASSWORD not in str([dict(e) for e in await owner.fetch("select * from users")])


async def test_a_repeated_post_with_its_key_makes_one_user(admin: httpx.AsyncClient) -> None:
    first = await admin.post(URL, json=NEW, headers={"Idempotency-Key": "one"})
    again = await admin.post(URL, json=NEW, headers={"Idempotency-Key": "one"})
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["idempotency-replayed"] == "true"


async def test_an_email_is_taken_whatever_its_capitals_also_by_a_deactivated_user(admin: httpx.AsyncClient) -> None:
    made = (await admin.post(URL, json=NEW)).json()
    await admin.delete(f"{URL}/{made['id']}")
    answer = await admin.post(URL, json=NEW | {"email": "NEW@Example.COM"})
    assert (answer.status_code, slug(answer)) == (409, "email-taken")
    other = (await admin.post(URL, json=NEW | {"email": "other@example.com"})).json()
    change = {"email": "new@EXAMPLE.com", "full_name": "Other"}
    assert slug(await admin.put(f"{URL}/{other['id']}", json=change)) == "email-taken"


async def test_every_bad_field_of_a_user_is_named(admin: httpx.AsyncClient) -> None:
    bad = {"email": "no address", "full_name": " ", "role": "KING", "password": "short", "is_admin": True}
    answer = await admin.post(URL, json=bad)
    assert answer.status_code == 422
    pointers = sorted(fault["pointer"] for fault in answer.json()["errors"])
    assert pointers == ["/email", "/full_name", "/is_admin", "/password", "/role"]
    for email in (
        "a@b@c",
        "@b",
        "a@",
        "a b@c",
        "a@b\n",
        "a@b\u2028",
        "a\t@b",
        "a@\x7f",
        "a" * 250 + "@b.cd",
        "a",
        "",
        5,
    ):
        answer = await admin.post(URL, json=NEW | {"email": email})
        assert answer.status_code == 422, email
        assert [fault["pointer"] for fault in answer.json()["errors"]] == ["/email"], email
    for password in ("Welcome12345!", "new@example.com", "elevenchars", "x" * 201, "a long\0 walk by the sea"):
        answer = await admin.post(URL, json=NEW | {"password": password})
        assert answer.status_code == 422, password
        assert {fault["pointer"] for fault in answer.json()["errors"]} == {"/password"}, password
        assert password not in answer.text


async def test_users_are_listed_filtered_sorted_and_paged(admin: httpx.AsyncClient, database: Database) -> None:
    for n in range(7):
        await make_user(database, Role.STAFF if n % 2 else Role.VIEWER, f"p{6 - n}_%@example.com")
    gone = await make_user(database, Role.VIEWER, "gone@example.com")
    await admin.delete(f"{URL}/{gone}")

    async def emails(**query: object) -> list[str]:
        found: list[str] = []
        parameters = {name: str(value) for name, value in query.items()} | {"limit": "3"}
        while True:
            answer = (await admin.get(URL, params=parameters)).json()
            found += [user["email"] for user in answer["items"]]
            if answer["next_cursor"] is None:
                return found
            parameters["cursor"] = answer["next_cursor"]

    assert len(await emails()) == 9
    assert await emails(q="_%@", sort="email") == [f"p{n}_%@example.com" for n in range(7)]
    assert await emails(q="_%@", sort="-email") == [f"p{n}_%@example.com" for n in reversed(range(7))]
    assert await emails(q="_%@", sort="created_at") == [f"p{6 - n}_%@example.com" for n in range(7)]
    assert await emails(q="_%@", sort="-created_at") == await emails(q="_%@", sort="-id")
    assert await emails(q="P3_") == ["p3_%@example.com"]
    assert await emails(q="staff PERS", role="STAFF") == ["p5_%@example.com", "p3_%@example.com", "p1_%@example.com"]
    assert await emails(is_active="false") == ["gone@example.com"]
    assert len(await emails(is_active="true")) == 8
    for name, value in {
        "sort": "password_hash",
        "role": "KING",
        "limit": "501",
        "cursor": "x",
        "is_active": "perhaps",
        "roles": "STAFF",
    }.items():
        answer = await admin.get(URL, params={name: value})
        assert (answer.status_code, slug(answer)) == (422, "invalid"), name


async def test_a_change_needs_the_version_that_was_read_and_signing_in_does_not_change_it(
    admin: httpx.AsyncClient, join: Join, owner: asyncpg.Connection
) -> None:
    person = await join()
    url = f"{URL}/{person.id}"
    etag = (await admin.get(url)).headers["etag"]
    await signed_in(admin, person.email)
    assert (await admin.get(url, headers={"If-None-Match": etag})).status_code == 304
    change = {"email": "hopper@example.com", "full_name": "Grace Hopper"}
    changed = await admin.put(url, json=change, headers={"If-Match": etag})
    assert changed.status_code == 200, changed.text
    assert changed.json() == (await of(admin, person.id))
    assert (changed.json()["email"], changed.json()["role"]) == ("hopper@example.com", "VIEWER")
    assert changed.headers["etag"] != etag
    for stale in (
        await admin.put(url, json=change, headers={"If-Match": etag}),
        await admin.delete(url, headers={"If-Match": etag}),
    ):
        assert (stale.status_code, slug(stale)) == (412, "stale")
    # the same again changes nothing and is no entry
    same = await admin.put(url, json=change)
    assert same.headers["etag"] == changed.headers["etag"]
    assert (await actions(owner)).count("user.updated") == 1


async def test_of_two_who_change_what_both_have_read_one_is_told(admin: httpx.AsyncClient, join: Join) -> None:
    person = await join()
    url, headers = f"{URL}/{person.id}", {"If-Match": '"1"'}
    answers = await asyncio.gather(
        *(admin.put(url, json={"email": person.email, "full_name": f"G {n}"}, headers=headers) for n in range(6))
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 5


async def test_a_deactivated_user_is_out_at_once_and_comes_back_with_the_old_password(
    admin: httpx.AsyncClient, join: Join, owner: asyncpg.Connection
) -> None:
    person = await join(Role.STAFF)
    pair = await signed_in(admin, person.email)
    url = f"{URL}/{person.id}"
    for _ in range(2):
        assert (await admin.delete(url)).status_code == 204
    assert (await of(admin, person.id))["is_active"] is False
    assert (await refresh(admin, pair["refresh_token"])).status_code == 401
    assert (await login(admin, person.email)).status_code == 401
    back = await admin.post(f"{url}/reactivate")
    assert (back.status_code, back.json()["is_active"], back.json()["role"]) == (200, True, "STAFF")
    assert (await me(admin, pair)).status_code == 401, "a token from before stays dead"
    assert (await refresh(admin, pair["refresh_token"])).status_code == 401
    assert (await me(admin, await signed_in(admin, person.email))).status_code == 200
    told = [action for action in await actions(owner) if action.startswith(("user.de", "user.re"))]
    assert told == ["user.deactivated", "user.reactivated"]


async def test_a_change_of_role_is_audited_with_its_reason_and_ends_all_sign_ins(
    admin: UserClient, join: Join, owner: asyncpg.Connection
) -> None:
    person = await join()
    pair = await signed_in(admin, person.email)
    url = f"{URL}/{person.id}/role"
    answer = await admin.post(url, json={"role": "STAFF", "reason": "joins the warehouse"})
    assert (answer.status_code, answer.json()["role"]) == (200, "STAFF")
    assert (await refresh(admin, pair["refresh_token"])).status_code == 401
    entry = await owner.fetchrow(
        "select user_id, entity_id, reason, before ->> 'role' as before, after ->> 'role' as after from audit_log"
        " where action = 'user.role_changed'"
    )
    assert tuple(entry) == (admin.user_id, str(person.id), "joins the warehouse", "VIEWER", "STAFF")
    for body in ({"role": "STAFF"}, {"role": "STAFF", "reason": " "}, {"reason": "x"}, {"role": "KING", "reason": "x"}):
        assert (await admin.post(url, json=body)).status_code == 422


async def test_a_reset_password_is_the_only_good_one_and_ends_all_sign_ins(
    super_admin: httpx.AsyncClient, join: Join, owner: asyncpg.Connection
) -> None:
    person = await join(Role.ADMIN)
    pair = await signed_in(super_admin, person.email)
    url = f"{URL}/{person.id}/reset-password"
    for weak in ("grace@example.com", "short", "Welcome12345!"):
        answer = await super_admin.post(url, json={"new_password": weak})
        assert [fault["pointer"] for fault in answer.json()["errors"]] == ["/new_password"]
    assert (await super_admin.post(url, json={"new_password": OTHER_PASSWORD})).status_code == 204
    assert (await refresh(super_admin, pair["refresh_token"])).status_code == 401
    assert (await login(super_admin, person.email)).status_code == 401
    assert (await login(super_admin, person.email, OTHER_PASSWORD)).status_code == 200
    assert "user.password_reset" in await actions(owner)
    missing = await super_admin.post(f"{URL}/{person.id + 1000}/reset-password", json={"new_password": OTHER_PASSWORD})
    assert missing.status_code == 404


async def test_an_unknown_user_is_404(super_admin: httpx.AsyncClient) -> None:
    for user_id in ("999", "0", "-1", "1_0", str(2**53), str(2**70), "x"):
        url = f"{URL}/{user_id}"
        assert (await super_admin.get(url)).status_code == 404, user_id
        body = {"email": "a@b.cd", "full_name": "x"}
        assert (await super_admin.put(url, json=body)).status_code == 404, user_id
        assert (await super_admin.delete(url)).status_code == 404, user_id
        assert (await super_admin.post(f"{url}/reactivate")).status_code == 404, user_id


async def test_a_name_has_something_to_see(super_admin: UserClient) -> None:
    for name in (" ", "\u200b", "\u3164", "\u2800"):
        answer = await super_admin.post(URL, json={**NEW, "full_name": name})
        assert answer.status_code == 422, name
        assert answer.json()["errors"] == [{"pointer": "/full_name", "detail": "has no visible character"}]


def test_secrets_are_not_in_what_a_log_or_a_traceback_prints() -> None:
    secret = "not for logs"
    for made in (
        NewUser(email=Email("a@b"), full_name=FullNameText("A"), password=secret),
        PasswordChange(secret, secret),
        PasswordReset(secret),
        RefreshRequest(secret),
        LoginCredentials("a@b", secret),
        TokenPair(access_token=secret, refresh_token=secret, expires_in=1),
        Account(1, "a@b", secret, "A", known_network=False),
    ):
        assert repr(made) == f"{type(made).__name__}(...)"
