"""Making, listing and revoking API keys."""

import asyncio
import re
from datetime import UTC, datetime, timedelta

import asyncpg
import httpx
import pytest

from erp_service.access import key_format
from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.auth.api_keys import service
from erp_service.auth.api_keys.schemas import parse_network
from erp_service.auth.passwords import HashSlot
from erp_service.db.engine import Database
from erp_service.settings import Settings
from tests.auth.keys import KEYS, make_key
from tests.auth.people import bearer, me, slug
from tests.support.clients import SignIn, UserClient
from tests.support.users import make_user, token_of


async def test_a_key_is_shown_once_and_only_its_digest_is_kept(
    admin: UserClient, client: httpx.AsyncClient, owner: asyncpg.Connection
) -> None:
    body = {"name": "web shop", "role": "STAFF", "scopes": ["stock:write", "items:read", "items:read"]}
    answer = await admin.post(KEYS, json=body, headers={"Idempotency-Key": "one"})
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    made = answer.json()
    key = made.pop("key")
    assert re.fullmatch(key_format.PATTERN, key)
    assert made["hint"] == key[:8]
    assert made["scopes"] == ["items:read", "stock:write"]
    assert (made["user_id"], made["role"], made["networks"], made["is_active"]) == (admin.user_id, "STAFF", None, True)
    one = await admin.get(answer.headers["location"])
    assert (one.json(), one.headers["etag"]) == (made, answer.headers["etag"])
    [listed] = (await admin.get(KEYS)).json()["items"]
    assert listed == made
    stored = str(await owner.fetch("select * from api_keys")) + str(await owner.fetch("select * from audit_log"))
    assert key not in stored
    assert await owner.fetchval("select count(*) from idempotency") == 0
    assert (await me(client, key)).status_code == 200


async def test_every_fault_of_a_key_is_named(admin: UserClient) -> None:
    now = datetime.now(UTC)
    good = {"name": "x", "role": "VIEWER", "scopes": ["items:read"]}
    for change, pointers in (
        ({"name": " "}, ["/name"]),
        ({"name": "x" * 101}, ["/name"]),
        ({"role": "GOD", "scopes": []}, ["/role", "/scopes"]),
        ({"scopes": ["items:read", "items:delete"]}, ["/scopes/1"]),
        ({"scopes": None}, ["/scopes"]),
        ({"expires_at": (now - timedelta(seconds=1)).isoformat()}, ["/expires_at"]),
        ({"expires_at": (now + timedelta(days=10_000)).isoformat()}, ["/expires_at"]),
        ({"expires_at": "2090-01-01T00:00:00"}, ["/expires_at"]),
        ({"networks": []}, ["/networks"]),
        ({"networks": ["203.0.113.0/24", "203.0.113.9/24", "here", "::/129"]}, [f"/networks/{n}" for n in (1, 2, 3)]),
        ({"key": "erp_mine"}, ["/key"]),
    ):
        answer = await admin.post(KEYS, json={**good, **change})
        assert (answer.status_code, slug(answer)) == (422, "invalid"), change
        assert sorted(fault["pointer"] for fault in answer.json()["errors"]) == pointers, answer.text
    assert (await admin.get(KEYS)).json()["items"] == []


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("203.0.113.9", "203.0.113.9/32"),
        ("2001:DB8:0:0::/48", "2001:db8::/48"),
        ("::ffff:203.0.113.0/120", "203.0.113.0/24"),
        ("0.0.0.0/0", "0.0.0.0/0"),
    ],
)
def test_a_network_is_kept_in_its_shortest_form(given: str, kept: str) -> None:
    assert str(parse_network(given)) == kept


@pytest.mark.parametrize("given", ["", "203.0.113.256", "203.0.113.0/24/8", "fe80::1%eth0/64", "::ffff:0.0.0.0/90"])
def test_what_is_no_network_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match=r"CIDR|IPv4|prefix"):
        parse_network(given)


async def test_nobody_makes_a_key_with_more_than_their_present_role(sign_in: SignIn, owner: asyncpg.Connection) -> None:
    admin = await sign_in(Role.ADMIN)
    body = {"name": "x", "role": "SUPER_ADMIN", "scopes": ["items:read"]}
    answer = await admin.post(KEYS, json=body)
    assert (answer.status_code, slug(answer)) == (403, "api-key-role")
    super_admin = await sign_in(Role.SUPER_ADMIN)
    assert (await super_admin.post(KEYS, json=body)).status_code == 201
    # demoted a moment ago, and this instance has not heard of it: the role is read again under the lock
    await owner.execute("alter table users disable trigger users_tell_authority")
    await owner.execute("update users set role = 'STAFF' where id = $1", super_admin.user_id)
    answer = await super_admin.post(KEYS, json={**body, "role": "STAFF"})
    assert (answer.status_code, slug(answer)) == (403, "role-out-of-reach")


async def test_only_an_admin_in_person_handles_keys(
    sign_in: SignIn, admin: UserClient, client: httpx.AsyncClient
) -> None:
    made = await make_key(admin, role=Role.ADMIN)
    staff = await sign_in(Role.STAFF)
    for method, path in (("GET", KEYS), ("POST", KEYS), ("GET", f"{KEYS}/1"), ("DELETE", f"{KEYS}/1")):
        assert slug(await staff.request(method, path)) == "forbidden"
        answer = await client.request(method, path, headers=bearer(made.key))
        assert (answer.status_code, slug(answer)) == (403, "not-for-api-keys")


async def test_a_key_is_revoked_by_its_maker_and_by_who_may_change_the_maker(
    sign_in: SignIn, super_admin: UserClient, owner: asyncpg.Connection
) -> None:
    one, other = await sign_in(Role.ADMIN), await sign_in(Role.ADMIN)
    own, ones, supers = await make_key(other), await make_key(one), await make_key(super_admin)
    assert (await other.delete(f"{KEYS}/{own.id}")).status_code == 204
    for made in (ones, supers):
        answer = await other.delete(f"{KEYS}/{made.id}")
        assert (answer.status_code, slug(answer)) == (403, "role-out-of-reach")
    change = {"role": "STAFF", "reason": "another desk"}
    assert (await super_admin.post(f"/api/v1/users/{one.user_id}/role", json=change)).status_code == 200
    assert (await other.delete(f"{KEYS}/{ones.id}")).status_code == 204
    assert (await super_admin.delete(f"{KEYS}/{ones.id}")).status_code == 204, "again, which changes nothing"
    revoked = (await super_admin.get(f"{KEYS}/{ones.id}")).json()
    assert (revoked["revoked_by"], revoked["is_active"]) == (other.user_id, False)
    assert (await super_admin.delete(f"{KEYS}/999")).status_code == 404
    entries = await owner.fetch("select * from audit_log where entity = 'api_key' order by id")
    assert [(e["action"], e["entity_id"], e["user_id"]) for e in entries] == [
        ("api_key.created", str(own.id), other.user_id),
        ("api_key.created", str(ones.id), one.user_id),
        ("api_key.created", str(supers.id), super_admin.user_id),
        ("api_key.revoked", str(own.id), other.user_id),
        ("api_key.revoked", str(ones.id), other.user_id),
    ]
    assert entries[-1]["on_behalf_of"] == one.user_id


async def test_a_revocation_takes_if_match_and_a_key_has_an_etag(admin: UserClient, owner: asyncpg.Connection) -> None:
    made = await make_key(admin)
    tag = (await admin.get(f"{KEYS}/{made.id}")).headers["etag"]
    assert (await admin.get(f"{KEYS}/{made.id}", headers={"If-None-Match": tag})).status_code == 304
    await owner.execute("update api_keys set last_used_at = now()")
    assert (await admin.get(f"{KEYS}/{made.id}", headers={"If-None-Match": tag})).status_code == 304
    assert (await admin.delete(f"{KEYS}/{made.id}", headers={"If-Match": '"other"'})).status_code == 412
    assert (await admin.delete(f"{KEYS}/{made.id}", headers={"If-Match": tag})).status_code == 204
    assert (await admin.delete(f"{KEYS}/{made.id}", headers={"If-Match": tag})).status_code == 204, "a retry"
    assert (await admin.get(f"{KEYS}/{made.id}")).headers["etag"] != tag


async def test_the_list_is_filtered_and_paged(sign_in: SignIn) -> None:
    one, other = await sign_in(Role.ADMIN), await sign_in(Role.ADMIN)
    keys = [await make_key(maker) for maker in (one, other, one, one)]
    await one.delete(f"{KEYS}/{keys[2].id}")

    async def ids(query: str) -> list[int]:
        return [key["id"] for key in (await other.get(f"{KEYS}?{query}")).json()["items"]]

    assert await ids("") == [key.id for key in reversed(keys)]
    assert await ids(f"user_id={one.user_id}") == [keys[3].id, keys[2].id, keys[0].id]
    assert await ids("is_active=false") == [keys[2].id]
    assert await ids(f"is_active=true&user_id={one.user_id}") == [keys[3].id, keys[0].id]
    page = (await other.get(f"{KEYS}?limit=3")).json()
    assert await ids(f"limit=3&cursor={page['next_cursor']}") == [keys[0].id]


async def test_the_company_has_so_many_keys_at_most_also_when_they_are_made_at_once(
    admin: UserClient, monkeypatch: pytest.MonkeyPatch, owner: asyncpg.Connection
) -> None:
    await owner.execute(
        "insert into api_keys (user_id, name, role, scopes, digest, hint) select $1, 'x', 'VIEWER', '{items:read}',"
        " sha256(n::text::bytea), 'erp_xxxx' from generate_series(1, $2) n",
        admin.user_id,
        service.MOST_ACTIVE - 2,
    )
    body = {"name": "x", "role": "VIEWER", "scopes": ["items:read"]}
    answers = await asyncio.gather(*(admin.post(KEYS, json=body) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [201, 201, 409, 409, 409]
    assert {slug(answer) for answer in answers if answer.status_code == 409} == {"too-many-api-keys"}
    await owner.execute("update api_keys set revoked_at = now() where id = (select min(id) from api_keys)")
    assert (await admin.post(KEYS, json=body)).status_code == 201


async def test_the_database_keeps_a_key_as_it_was_made(admin: UserClient, owner: asyncpg.Connection) -> None:
    made = await make_key(admin, Scope.ITEMS_READ)
    for change in ("scopes = '{users:write}'", "role = 'SUPER_ADMIN'", "expires_at = null, name = 'y'", "user_id = 1"):
        if change != "user_id = 1" or admin.user_id != 1:
            with pytest.raises(asyncpg.RestrictViolationError):
                await owner.execute(f"update api_keys set {change} where id = $1", made.id)
    with pytest.raises(asyncpg.RestrictViolationError):
        await owner.execute("delete from api_keys")
    await owner.execute("update api_keys set revoked_at = now()")
    with pytest.raises(asyncpg.RestrictViolationError):
        await owner.execute("update api_keys set revoked_at = null")


async def test_a_password_that_must_be_changed_stops_its_user_and_no_key_of_theirs(
    admin: UserClient, client: httpx.AsyncClient, owner: asyncpg.Connection
) -> None:
    made = await make_key(admin, Scope.USERS_READ, Scope.USERS_WRITE, role=Role.ADMIN)
    await owner.execute("update users set must_change_password = true, authority_version = authority_version + 1")
    assert (await client.get("/api/v1/users", headers=bearer(made.key))).status_code == 200
    body = {"email": "n@example.com", "full_name": "N", "role": "VIEWER", "password": "a long walk by the sea"}
    assert (await client.post("/api/v1/users", json=body, headers=bearer(made.key))).status_code == 201


async def test_a_key_gives_its_maker_no_way_around_its_own_role(
    super_admin: UserClient, client: httpx.AsyncClient, settings: Settings, database: Database
) -> None:
    """What users may do is read again under a lock: it must be the role of the key, and not that of its maker."""
    made = await make_key(super_admin, Scope.USERS_WRITE, Scope.USERS_READ, role=Role.ADMIN)
    headers = bearer(made.key)
    body = {"email": "n@example.com", "full_name": "N", "role": "SUPER_ADMIN", "password": "a long walk by the sea"}
    answer = await client.post("/api/v1/users", json=body, headers=headers)
    assert (answer.status_code, slug(answer)) == (403, "role-out-of-reach")
    staff = await make_user(database, Role.STAFF)
    change = {"role": "SUPER_ADMIN", "reason": "a friend"}
    answer = await client.post(f"/api/v1/users/{staff}/role", json=change, headers=headers)
    assert (answer.status_code, slug(answer)) == (403, "role-out-of-reach")
    change = {"role": "VIEWER", "reason": "as asked for"}
    assert (await client.post(f"/api/v1/users/{staff}/role", json=change, headers=headers)).status_code == 200
    assert (await me(client, token_of(settings, staff))).status_code == 401


async def test_a_key_that_is_revoked_while_a_password_is_hashed_creates_nobody(
    super_admin: UserClient, client: httpx.AsyncClient, owner: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await make_key(super_admin, Scope.USERS_WRITE, role=Role.ADMIN)
    hash_ = HashSlot.hash

    async def meanwhile_revoked(slot: HashSlot, password: str) -> str:
        await owner.execute("update api_keys set revoked_at = now()")
        return await hash_(slot, password)

    monkeypatch.setattr(HashSlot, "hash", meanwhile_revoked)
    body = {"email": "heir@example.com", "full_name": "Heir", "role": "STAFF", "password": "a long walk by the sea"}
    assert (await client.post("/api/v1/users", json=body, headers=bearer(made.key))).status_code == 401
    assert await owner.fetchval("select count(*) from users where email = 'heir@example.com'") == 0
