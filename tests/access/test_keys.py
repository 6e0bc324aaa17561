"""A key that was revoked on one instance is dead on the other, with what it has open, and no request looks it up."""

import asyncio
import os
from collections.abc import AsyncIterator

import asyncpg
import httpx
import pytest
from litestar import Litestar

from erp_service.access import key_format
from erp_service.access.keys import KeyCache, KeyRights
from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.db.engine import Database
from erp_service.settings import Settings
from tests.access.listeners import SilentNotices, deaf, hears
from tests.auth.keys import ITEMS, KEYS, MadeKey, make_key
from tests.auth.people import bearer, slug
from tests.exports.delivery.listening import listening
from tests.support.apps import Instances, services_of
from tests.support.clients import UserClient
from tests.support.users import make_user, token_of
from tests.support.waiting import eventually

JOBS = "/api/v1/exports/jobs"
EXPORTS = (Scope.EXPORTS_READ, Scope.EXPORTS_WRITE, Scope.ITEMS_READ)


@pytest.fixture
async def admin_of_two(two: Instances, settings: Settings, database: Database) -> AsyncIterator[UserClient]:
    """An ADMIN who makes and revokes keys at the first instance."""
    user_id = await make_user(database, Role.ADMIN)
    for app in two.apps:
        await eventually(lambda app=app: hears(app))  # type: ignore[misc]
    async with UserClient(two.apps[0], user_id, token_of(settings, user_id)) as client:
        yield client


async def warm(app: Litestar, client: httpx.AsyncClient, made: MadeKey) -> None:
    """Returns once the instance keeps the key: the notification that it was made, which would drop it, has passed."""
    notices, keys = services_of(app).notifications, services_of(app).access.keys

    async def proved_since(before: float) -> bool:
        return bool(notices.is_current and notices._proved_at > before)

    async def kept() -> bool:
        assert (await client.get(ITEMS, headers=bearer(made.key))).status_code == 200
        before = notices._proved_at
        await eventually(lambda: proved_since(before))
        return key_format.digest(made.key) in keys._known

    await eventually(kept)


async def refused(client: httpx.AsyncClient, made: MadeKey) -> None:
    async def gone() -> bool:
        answer = await client.get(ITEMS, headers=bearer(made.key))
        assert answer.status_code in (200, 401)
        return answer.status_code == 401

    await eventually(gone)


async def revoke(admin: UserClient, made: MadeKey) -> None:
    assert (await admin.delete(f"{KEYS}/{made.id}")).status_code == 204


async def test_a_key_is_looked_up_once_and_dead_everywhere_once_it_is_revoked(
    two: Instances, admin_of_two: UserClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, cache = two.clients[1], services_of(two.apps[1]).access.keys
    made, another = [await make_key(admin_of_two, Scope.ITEMS_READ) for _ in range(2)]
    loads: list[bytes] = []
    load = cache._load

    async def counting(digest: bytes) -> KeyRights | None:
        loads.append(digest)
        return await load(digest)

    monkeypatch.setattr(cache, "_load", counting)
    for each in (made, another):
        await warm(two.apps[1], other, each)
    loads.clear()
    assert {(await other.get(ITEMS, headers=bearer(made.key))).status_code for _ in range(20)} == {200}
    # a busy machine may delay a proof; only then there is a look-up
    assert len(loads) <= 2
    await revoke(admin_of_two, made)
    await refused(other, made)
    assert (await other.get(ITEMS, headers=bearer(another.key))).status_code == 200


async def test_a_key_that_was_unknown_before_it_was_made_is_taken_once_it_is(
    two: Instances, admin_of_two: UserClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an instance knows to be unknown is forgotten when a key is made."""
    key = key_format.new_key()
    assert (await two.clients[1].get(ITEMS, headers=bearer(key))).status_code == 401
    monkeypatch.setattr(key_format, "new_key", lambda: key)
    await make_key(admin_of_two, Scope.ITEMS_READ)

    async def taken() -> bool:
        return (await two.clients[1].get(ITEMS, headers=bearer(key))).status_code == 200

    await eventually(taken)


async def test_a_key_is_dead_though_the_listening_connection_was_cut_at_that_moment(
    two: Instances, admin_of_two: UserClient, owner: asyncpg.Connection
) -> None:
    made = await make_key(admin_of_two, Scope.ITEMS_READ)
    await warm(two.apps[1], two.clients[1], made)
    cut = owner.fetchval(
        "select count(pg_terminate_backend(pid)) from pg_stat_activity"
        " where application_name = 'erp notices' and datname = current_database()"
    )
    count, _ = await asyncio.gather(cut, revoke(admin_of_two, made))
    assert count >= 2, "both instances were listening"
    await refused(two.clients[1], made)


async def test_a_key_is_dead_though_the_listening_connection_hangs_without_closing(
    two: Instances, admin_of_two: UserClient, owner: asyncpg.Connection
) -> None:
    made, another = [await make_key(admin_of_two, Scope.ITEMS_READ) for _ in range(2)]
    await warm(two.apps[1], two.clients[1], made)
    async with deaf(owner):
        await revoke(admin_of_two, made)
        await refused(two.clients[1], made)
        # and the instance still answers, by looking up each key
        assert (await two.clients[1].get(ITEMS, headers=bearer(another.key))).status_code == 200


async def test_what_was_read_before_a_notice_is_not_kept_after_it() -> None:
    """The key is revoked while its look-up is under way: it must not stay in the cache."""
    rights = KeyRights(1, 1, Role.ADMIN, frozenset(Scope), None, None)
    present: KeyRights | None = rights
    reading, go = asyncio.Event(), asyncio.Event()

    async def load(_digest: bytes) -> KeyRights | None:
        seen = present
        reading.set()
        await go.wait()
        return seen

    notices = SilentNotices()
    keys = KeyCache(notices, load)  # type: ignore[arg-type]
    for payload in ("1", None):
        digest = os.urandom(32)
        present = rights
        reading.clear()
        go.clear()
        look_up = asyncio.create_task(keys.of(digest))
        await reading.wait()
        present = None
        notices.hear(payload)  # type: ignore[operator]
        go.set()
        assert await look_up == rights
        assert await keys.of(digest) is None


async def test_streams_and_long_polls_of_a_revoked_key_end(two: Instances, admin_of_two: UserClient) -> None:
    one, app = two.clients[0], two.apps[1]
    # no comment in between makes it look
    services_of(app).live_status.keep_alive = 3600.0
    made = await make_key(admin_of_two, *EXPORTS)
    job = await one.post(JOBS, json={"dataset": "items"}, headers=bearer(made.key))
    assert job.status_code == 202, job.text
    path = f"{JOBS}/{job.json()['id']}"
    poll = asyncio.create_task(two.clients[1].get(path, headers={**bearer(made.key), "Prefer": "wait=20"}, timeout=60))
    async with listening(app, f"{path}/events", made.key) as listener:
        await listener.event(0)
        await revoke(admin_of_two, made)
        await listener.end()
    assert "rights" in listener.comments[-1]
    # it is woken by the export's end, and looks at the key again
    assert (await admin_of_two.post(f"{path}/cancel")).status_code == 200
    answer = await poll
    assert (answer.status_code, slug(answer)) == (401, "unauthorized")


async def test_a_body_that_ends_after_its_key_was_revoked_does_nothing(
    two: Instances, admin_of_two: UserClient, owner: asyncpg.Connection
) -> None:
    made = await make_key(admin_of_two, Scope.ITEMS_WRITE, Scope.ITEMS_READ, role=Role.ADMIN)
    other = two.clients[1]
    begun, end = asyncio.Event(), asyncio.Event()

    async def held_back() -> AsyncIterator[bytes]:
        begun.set()
        await end.wait()
        yield b'{"sku": "MUG-01", "name": "Mug"}'

    headers = {**bearer(made.key), "Content-Type": "application/json"}
    request = asyncio.create_task(other.post(ITEMS, content=held_back(), headers=headers))
    await begun.wait()
    await revoke(admin_of_two, made)
    await refused(other, made)
    end.set()
    assert (await request).status_code == 401
    assert await owner.fetchval("select count(*) from items") == 0
