"""What an API key may do, from where, until when, and what is on record of it."""

import asyncio
import contextlib
import io
import logging
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Literal

import asyncpg
import httpx
import pytest
from litestar import Litestar

from erp_service.access import key_format
from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.auth.api_keys.uses import KeyUses
from erp_service.db.engine import Database
from erp_service.observability import telemetry
from erp_service.settings import Settings
from tests.auth.keys import ITEMS, KEYS, MadeKey, client_from, make_key
from tests.auth.people import bearer, me, slug
from tests.support.apps import services_of
from tests.support.clients import SignIn, UserClient
from tests.support.waiting import eventually

AUDIT = "/api/v1/audit"
ITEM = {"sku": "MUG-01", "name": "Mug, blue"}


async def test_a_key_acts_for_its_maker_and_both_are_on_record(admin: UserClient, client: httpx.AsyncClient) -> None:
    made = await make_key(admin, Scope.ITEMS_WRITE, role=Role.ADMIN)
    other = await make_key(admin, Scope.ITEMS_WRITE, role=Role.ADMIN)
    assert (await client.post(ITEMS, json=ITEM, headers=bearer(made.key))).status_code == 201
    body = {**ITEM, "sku": "MUG-02"}
    assert (await client.post(ITEMS, json=body, headers=bearer(other.key))).status_code == 201
    [entry] = (await admin.get(AUDIT, params={"api_key_id": made.id})).json()["items"]
    assert (entry["action"], entry["user_id"], entry["api_key_id"]) == ("item.created", admin.user_id, made.id)
    assert (entry["actor"], entry["on_behalf_of"]) == (None, None)


async def test_a_key_needs_the_scope_of_the_endpoint_and_the_role(admin: UserClient, client: httpx.AsyncClient) -> None:
    reads = await make_key(admin, Scope.ITEMS_READ, role=Role.ADMIN)
    writes = await make_key(admin, Scope.ITEMS_WRITE, role=Role.ADMIN)
    low = await make_key(admin, role=Role.VIEWER)
    assert (await client.get(ITEMS, headers=bearer(reads.key))).status_code == 200
    answer = await client.post(ITEMS, json=ITEM, headers=bearer(reads.key))
    assert (answer.status_code, slug(answer), answer.json()["scope"]) == (403, "api-key-scope", "items:write")
    assert answer.headers["www-authenticate"] == 'Bearer error="insufficient_scope", scope="items:write"'
    answer = await client.get(ITEMS, headers=bearer(writes.key))
    assert (slug(answer), answer.json()["scope"]) == ("api-key-scope", "items:read")
    answer = await client.post(ITEMS, json=ITEM, headers=bearer(low.key))
    assert (answer.status_code, slug(answer)) == (403, "forbidden")


async def test_the_profile_of_a_key_is_that_of_its_maker_and_says_the_key(
    super_admin: UserClient, client: httpx.AsyncClient, owner: asyncpg.Connection
) -> None:
    person = (await me(client, super_admin.headers["authorization"].removeprefix("Bearer "))).json()
    assert person["api_key"] is None
    expires_at = (datetime.now(UTC) + timedelta(days=30)).isoformat().replace("+00:00", "Z")
    made = await make_key(super_admin, Scope.ITEMS_READ, role=Role.ADMIN, name="till", expires_at=expires_at)
    answer = await me(client, made.key)
    own = {"id": made.id, "name": "till", "role": "ADMIN", "scopes": ["items:read"], "expires_at": expires_at}
    assert answer.json() == {**person, "api_key": own}
    again = await client.get("/api/v1/auth/me", headers={**bearer(made.key), "If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304
    await owner.execute("update users set role = 'STAFF', version = version + 1 where id = $1", super_admin.user_id)

    async def lesser() -> bool:
        return bool((await me(client, made.key)).json()["api_key"]["role"] == "STAFF")

    assert await eventually(lesser)


async def test_what_is_no_good_key_is_401(admin: UserClient, client: httpx.AsyncClient) -> None:
    made = await make_key(admin)
    for text in (
        key_format.new_key(),
        made.key[:-1] + ("0" if made.key[-1] != "0" else "1"),
        made.key[:-1],
        made.key + "0",
        made.key + " x",
        made.key.upper(),
        "erp_",
        "erp_" + "é" * 38,
        made.key + "\u00a0",
    ):
        answer = await client.get(ITEMS, headers=[(b"authorization", f"Bearer {text}".encode("latin-1"))])
        assert (answer.status_code, slug(answer)) == (401, "unauthorized"), text
        assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_blanks_around_a_key_are_no_part_of_it(admin: UserClient, client: httpx.AsyncClient) -> None:
    made = await make_key(admin)
    for header in (f"Bearer {made.key}  ", f"bearer   {made.key}\t", f"BEARER {made.key}"):
        assert (await client.get(ITEMS, headers={"Authorization": header})).status_code == 200, header


async def test_a_key_is_taken_from_the_header_authorization_alone(admin: UserClient, client: httpx.AsyncClient) -> None:
    key = (await make_key(admin)).key
    for name in ("api_key", "key", "access_token", "token", "signature"):
        assert (await client.get(f"{ITEMS}?{name}={key}")).status_code == 401
    for headers in ({"X-Api-Key": key}, {"Cookie": f"token={key}"}, {"Authorization": key}):
        assert (await client.get(ITEMS, headers=headers)).status_code == 401
    form = await client.post("/api/v1/auth/login", data={"username": "x@example.com", "password": key})
    assert form.status_code == 401


async def test_a_key_expires(admin: UserClient, client: httpx.AsyncClient) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=1.5)).isoformat()
    made = await make_key(admin, expires_at=soon)

    async def expired() -> bool:
        answer = await client.get(ITEMS, headers=bearer(made.key))
        assert answer.status_code in (200, 401)
        return answer.status_code == 401

    assert await eventually(expired)
    assert (await admin.get(f"{KEYS}/{made.id}")).json()["is_active"] is False


async def test_a_key_works_from_its_networks_only(admin: UserClient, app: Litestar) -> None:
    networks = ["203.0.113.0/24", "2001:db8:7::/48"]
    made = await make_key(admin, networks=networks)
    for address, status in (
        ("203.0.113.200", 200),
        ("::ffff:203.0.113.7", 200),
        ("2001:db8:7::1", 200),
        ("203.0.114.1", 403),
        ("2001:db8:8::1", 403),
        ("testclient", 403),
    ):
        async with client_from(app, address, made.key) as program:
            answer = await program.get(ITEMS)
            assert answer.status_code == status, address
            if status == 403:
                assert (slug(answer), address in answer.json()["detail"]) == ("api-key-network", True)


async def test_a_maker_who_is_demoted_or_deactivated_takes_the_key_along(
    sign_in: SignIn, super_admin: UserClient, client: httpx.AsyncClient
) -> None:
    maker = await sign_in(Role.ADMIN)
    made = await make_key(maker, role=Role.ADMIN)
    assert (await client.post(ITEMS, json=ITEM, headers=bearer(made.key))).status_code == 201

    async def answers(status: int) -> bool:
        body = {**ITEM, "sku": "MUG-02"}
        return (await client.post(ITEMS, json=body, headers=bearer(made.key))).status_code == status

    path = f"/api/v1/users/{maker.user_id}"
    await super_admin.post(f"{path}/role", json={"role": "STAFF", "reason": "another desk"})
    await eventually(lambda: answers(403))
    assert (await client.get(ITEMS, headers=bearer(made.key))).status_code == 200, "their own role, not their token"
    await super_admin.delete(path)
    await eventually(lambda: answers(401))
    await super_admin.post(f"{path}/reactivate")
    await eventually(lambda: answers(403))


async def test_two_keys_and_their_maker_never_get_each_others_recorded_answer(
    admin: UserClient, client: httpx.AsyncClient, owner: asyncpg.Connection
) -> None:
    keys = [await make_key(admin, Scope.ITEMS_WRITE, role=Role.ADMIN) for _ in range(2)]
    senders = [admin.headers["authorization"], *(f"Bearer {made.key}" for made in keys)]
    for n, sender in enumerate(senders):
        headers = {"Authorization": sender, "Idempotency-Key": "one"}
        body = {"sku": f"MUG-{n}", "name": "Mug"}
        first = await client.post(ITEMS, json=body, headers=headers)
        again = await client.post(ITEMS, json=body, headers=headers)
        assert (first.status_code, again.status_code) == (201, 201), first.text
        assert "idempotency-replayed" not in first.headers
        assert again.headers["idempotency-replayed"] == "true"
        assert again.json() == first.json()
    assert await owner.fetchval("select count(*) from items") == 3


@contextlib.contextmanager
def logging_as(form: Literal["json", "text"]) -> Iterator[io.StringIO]:
    """What a process of the service logs, at the level that says the most."""
    root, output = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    with contextlib.redirect_stderr(output):
        telemetry.configure(Settings(database_url="", log_format=form, log_level="debug"))
        yield output
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize("form", ["json", "text"])
async def test_no_log_holds_a_key_wherever_it_was_sent(
    admin: UserClient, client: httpx.AsyncClient, owner: asyncpg.Connection, form: Literal["json", "text"]
) -> None:
    made = await make_key(admin, Scope.ITEMS_WRITE, role=Role.ADMIN)
    key = made.key
    with logging_as(form) as logs:
        await client.get(f"{ITEMS}?q={key}", headers=bearer(key))
        await client.get(f"/api/v1/{key}")
        await client.get(ITEMS, headers={"X-Request-Id": key})
        created = await client.post(ITEMS, json=ITEM, headers={**bearer(key), "X-Request-Id": f"a.{key}"})
        assert created.status_code == 201
        telemetry.log.error("a fault", text=f"sent {key}", error=ValueError(f"not {key}"))
        try:
            raise RuntimeError(f"a bug with {key}")
        except RuntimeError as exc:
            telemetry.log.error("a bug", exc_info=exc)
    output = logs.getvalue()
    assert key not in output
    assert output.count(key_format.MASK) >= 4
    assert "api_key_id" in output
    entries = str([dict(entry) for entry in await owner.fetch("select * from audit_log")])
    assert key not in entries


async def use_is_written(app: Litestar, owner: asyncpg.Connection, made: MadeKey) -> datetime:
    await services_of(app).access.key_uses.write()
    at = await owner.fetchval("select last_used_at from api_keys where id = $1", made.id)
    assert isinstance(at, datetime)
    return at


async def test_the_last_use_is_kept_to_the_minute_and_written_for_many_at_once(
    app: Litestar, admin: UserClient, client: httpx.AsyncClient, owner: asyncpg.Connection
) -> None:
    keys = [await make_key(admin) for _ in range(3)]
    before = datetime.now(UTC).replace(second=0, microsecond=0)
    for _ in range(5):
        for made in keys[:2]:
            assert (await client.get(ITEMS, headers=bearer(made.key))).status_code == 200
    assert await owner.fetchval("select count(last_used_at) from api_keys") == 0, "no write for each request"
    heard: list[str] = []
    await owner.add_listener("erp_api_keys", lambda *event: heard.append(str(event)))
    for made in keys[:2]:
        at = await use_is_written(app, owner, made)
        assert before <= at <= datetime.now(UTC)
        assert (at.second, at.microsecond) == (0, 0)
    assert (await admin.get(f"{KEYS}/{keys[2].id}")).json()["last_used_at"] is None
    # an instance whose clock is behind, or that was slow, takes nothing back
    await owner.execute("update api_keys set last_used_at = now() + interval '1 hour'")
    ahead = await owner.fetchval("select last_used_at from api_keys where id = $1", keys[0].id)
    await client.get(ITEMS, headers=bearer(keys[0].key))
    assert await use_is_written(app, owner, keys[0]) == ahead
    assert heard == [], "uses notify nobody"


@pytest.mark.parametrize("stops", [True, False])
async def test_uses_are_written_from_time_to_time_and_when_the_instance_stops(
    stops: bool, admin: UserClient, database: Database, owner: asyncpg.Connection
) -> None:
    made = await make_key(admin)

    async def is_written() -> bool:
        return await owner.fetchval("select last_used_at is not null from api_keys where id = $1", made.id) is True

    uses = KeyUses(database, every=3600 if stops else 0.01)
    async with uses.running():
        uses.note(made.id)
        if not stops:
            await eventually(is_written)
    assert await is_written()


async def test_uses_that_could_not_be_written_are_written_later(
    app: Litestar, admin: UserClient, client: httpx.AsyncClient, owner: asyncpg.Connection
) -> None:
    made = await make_key(admin)
    await client.get(ITEMS, headers=bearer(made.key))
    uses = services_of(app).access.key_uses
    await owner.execute("alter table api_keys rename to away")
    await uses.write()
    await owner.execute("alter table away rename to api_keys")
    await use_is_written(app, owner, made)


async def test_many_unknown_keys_push_out_no_known_one_and_are_looked_up_together(
    app: Litestar, admin: UserClient, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await make_key(admin)
    services = services_of(app)

    async def kept() -> bool:
        assert (await me(client, made.key)).status_code == 200
        return services.notifications.is_current and key_format.digest(made.key) in services.access.keys._known

    await eventually(kept)
    cache = services.access.keys
    taken: list[object] = []
    read = services.database.read

    def counting() -> object:
        taken.append(None)
        return read()

    monkeypatch.setattr(services.database, "read", counting)
    digests = [os.urandom(32) for _ in range(10_000)]
    found = await asyncio.gather(*(cache.of(digest) for digest in digests))
    assert set(found) == {None}
    assert len(taken) <= 3, "one statement for all that come at once"
    assert len(cache._unknown) <= 1_000
    assert key_format.digest(made.key) in cache._known
