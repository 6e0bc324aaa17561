"""A role that was taken away on one instance is gone on the other, whatever happens to its listening connection.

It takes a second at the most: the seconds for which silence is trusted are held by tests/db/test_notifications.py."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

import asyncpg
import httpx
import pytest
from litestar import Litestar

from erp_service.access.principals import Authority, AuthorityCache
from erp_service.access.revocations import Revocations
from erp_service.access.roles import Role
from erp_service.db.engine import Database
from erp_service.db.notifications import PROOF_HOLDS, NotificationListener
from erp_service.settings import Settings
from tests.access.listeners import SilentNotices, deaf, hears
from tests.auth.people import bearer, me
from tests.support.apps import Instances, services_of
from tests.support.users import make_user, token_of
from tests.support.waiting import eventually

USERS = "/api/v1/users"


@pytest.fixture
async def admin_token(settings: Settings, database: Database) -> str:
    return token_of(settings, await make_user(database, Role.SUPER_ADMIN))


async def warm(app: Litestar, client: httpx.AsyncClient, user_id: int, token: str) -> None:
    """Returns once the role is cached, and the notification of the user's creation, which would drop it, has passed."""
    notices, authorities = services_of(app).notifications, services_of(app).access.authorities

    async def proved_since(before: float) -> bool:
        return bool(notices.is_current and notices._proved_at > before)

    async def kept() -> bool:
        assert (await client.get(USERS, headers=bearer(token))).status_code == 200
        before = notices._proved_at
        await eventually(lambda: proved_since(before))
        return user_id in authorities._known

    await eventually(kept)


async def take_role(client: httpx.AsyncClient, admin_token: str, user_id: int) -> None:
    body = {"role": "VIEWER", "reason": "left the office"}
    answer = await client.post(f"{USERS}/{user_id}/role", json=body, headers=bearer(admin_token))
    assert answer.status_code == 200, answer.text


async def refused(client: httpx.AsyncClient, token: str) -> None:
    """Returns once the token is good for nothing there. A role that is cached and never dropped stays good for ever."""

    async def gone() -> bool:
        answer = await client.get(USERS, headers=bearer(token))
        assert answer.status_code in (200, 401)
        return answer.status_code == 401

    await eventually(gone)


async def test_a_role_taken_away_on_one_instance_is_gone_on_the_other(
    two: Instances, settings: Settings, database: Database, admin_token: str
) -> None:
    one, other = two.clients
    for app in two.apps:
        await eventually(lambda app=app: hears(app))  # type: ignore[misc]
    for end in ("role", "deactivation", "reset"):
        user_id = await make_user(database, Role.ADMIN)
        token = token_of(settings, user_id)
        await warm(two.apps[1], other, user_id, token)
        if end == "role":
            await take_role(one, admin_token, user_id)
        elif end == "deactivation":
            assert (await one.delete(f"{USERS}/{user_id}", headers=bearer(admin_token))).status_code == 204
        else:
            body = {"new_password": "another walk by the sea"}
            answer = await one.post(f"{USERS}/{user_id}/reset-password", json=body, headers=bearer(admin_token))
            assert answer.status_code == 204
        await refused(other, token)


async def test_a_role_is_not_looked_up_for_each_request(
    two: Instances, settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, client = two.apps[0], two.clients[0]
    authorities: AuthorityCache = services_of(app).access.authorities
    loaded: list[int] = []
    load = authorities._load

    async def counting(user_id: int) -> Authority | None:
        loaded.append(user_id)
        return await load(user_id)

    monkeypatch.setattr(authorities, "_load", counting)
    await eventually(lambda: hears(app))
    user_id = await make_user(database, Role.ADMIN)
    token = token_of(settings, user_id)
    await warm(app, client, user_id, token)
    loaded.clear()
    statuses = [(await me(client, token)).status_code for _ in range(20)]
    assert statuses == [200] * 20
    # a busy machine may delay a proof; only then there is a look-up
    assert len(loaded) <= 2


async def test_a_role_is_gone_though_the_listening_connection_was_cut_at_that_moment(
    two: Instances, settings: Settings, database: Database, owner: asyncpg.Connection, admin_token: str
) -> None:
    one, other = two.clients
    for _ in range(3):
        for app in two.apps:
            await eventually(lambda app=app: hears(app))  # type: ignore[misc]
        user_id = await make_user(database, Role.ADMIN)
        token = token_of(settings, user_id)
        await warm(two.apps[1], other, user_id, token)
        cut = owner.fetchval(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity"
            " where application_name = 'erp notices' and datname = current_database()"
        )
        count, _ = await asyncio.gather(cut, take_role(one, admin_token, user_id))
        assert count >= 2, "both instances were listening"
        await refused(other, token)


async def test_a_role_is_gone_though_the_listening_connection_hangs_without_closing(
    two: Instances, settings: Settings, database: Database, owner: asyncpg.Connection, admin_token: str
) -> None:
    one, other = two.clients
    for app in two.apps:
        await eventually(lambda app=app: hears(app))  # type: ignore[misc]
    user_id = await make_user(database, Role.ADMIN)
    token = token_of(settings, user_id)
    await warm(two.apps[1], other, user_id, token)
    async with deaf(owner):
        await take_role(one, admin_token, user_id)
        await refused(other, token)
        # and the instance still answers, by looking up each role
        assert (await me(other, admin_token)).status_code == 200
    await eventually(lambda: hears(two.apps[1]))


async def test_a_listener_cut_while_it_subscribes_comes_back(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncpg then raises its InternalClientError, which is no PostgresError and no InterfaceError."""
    add_listener = asyncpg.Connection.add_listener
    cut: list[str] = []

    async def cut_once(self: asyncpg.Connection, channel: str, callback: object) -> None:
        if not cut:
            cut.append(channel)
            raise asyncpg.InternalClientError("cannot switch to state 11; another operation (2) is in progress")
        await add_listener(self, channel, callback)

    monkeypatch.setattr(asyncpg.Connection, "add_listener", cut_once)
    notices = NotificationListener(settings.listen_url)
    notices.subscribe("erp_authority", lambda _: None)

    async def certain() -> bool:
        return notices.is_current

    async with notices.listening():
        assert await eventually(certain)
    assert cut == ["erp_authority"]


def cache_of(notices: SilentNotices, load: Callable[[int], Awaitable[Authority]]) -> AuthorityCache:
    async def none(_: object) -> dict[UUID, float]:
        return {}

    revocations = Revocations(SilentNotices(), none, none)  # type: ignore[arg-type]
    return AuthorityCache(notices, load, revocations)  # type: ignore[arg-type]


async def test_what_was_read_before_a_notice_is_not_kept_after_it() -> None:
    """The role changes while its look-up is under way: the old role must not stay in the cache."""
    role, reading, go = Role.ADMIN, asyncio.Event(), asyncio.Event()

    async def load(user_id: int) -> Authority:
        found = Authority(user_id, role, active=True, version=1)
        reading.set()
        await go.wait()
        return found

    notices = SilentNotices()
    authorities = cache_of(notices, load)
    for gap in ("1", None):
        role = Role.ADMIN
        reading.clear()
        go.clear()
        slow = asyncio.create_task(authorities.of(1))
        await reading.wait()
        role = Role.VIEWER
        notices.hear(gap)  # type: ignore[operator]
        go.set()
        await slow
        now = await authorities.of(1)
        assert now is not None
        assert now.role is Role.VIEWER
        notices.hear(None)  # type: ignore[operator]


async def test_a_token_newer_than_the_cache_is_looked_up_and_an_older_one_refused() -> None:
    version = 1

    async def load(user_id: int) -> Authority:
        return Authority(user_id, Role.VIEWER, active=True, version=version)

    authorities = cache_of(SilentNotices(), load)
    await authorities.of(1)
    version = 2
    old, new = await authorities.of(1, at_least=1), await authorities.of(1, at_least=2)
    assert old is not None
    assert new is not None
    assert (old.version, new.version) == (1, 2)


def test_a_proof_leaves_time_for_a_look_up_within_the_promised_second() -> None:
    assert PROOF_HOLDS <= 0.7
