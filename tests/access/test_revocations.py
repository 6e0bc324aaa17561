"""A sign-in that was ended on one instance is over on the other: its access tokens and its signed addresses, with no
look-up for each request, whatever happens to the listening connection."""

import asyncio
from collections.abc import Mapping
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from litestar import Litestar

from erp_service.access import revocations as module
from erp_service.access.revocations import Revocations
from erp_service.access.roles import Role
from erp_service.auth.authority.loader import AuthorityLoader, RevocationLoader
from erp_service.db.engine import Database
from erp_service.db.sessions import ReadSession
from tests.auth.people import HASH, bearer, me, refresh, signed_in
from tests.exports.delivery.listening import listening
from tests.support.apps import Instances, services_of
from tests.support.users import make_user
from tests.support.waiting import eventually


@pytest.fixture
async def grace(database: Database) -> str:
    await make_user(database, Role.VIEWER, "grace@example.com", HASH)
    return "grace@example.com"


async def hears(app: Litestar) -> bool:
    return bool(services_of(app).notifications.is_current)


async def end(client: httpx.AsyncClient, pair: dict[str, str], how: str) -> None:
    if how == "logout":
        assert (await client.post("/api/v1/auth/logout", headers=bearer(pair))).status_code == 204
    else:
        assert (await refresh(client, pair["refresh_token"])).status_code == 200
        assert (await refresh(client, pair["refresh_token"])).status_code == 401


async def refused(client: httpx.AsyncClient, token: dict[str, str]) -> None:
    async def gone() -> bool:
        answer = await me(client, token)
        assert answer.status_code in (200, 401)
        return answer.status_code == 401

    await eventually(gone)


@pytest.mark.parametrize("how", ["logout", "reuse"])
async def test_the_access_token_of_an_ended_sign_in_is_dead_on_every_instance(
    two: Instances, grace: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two.clients
    for app in two.apps:
        await eventually(lambda app=app: hears(app))  # type: ignore[misc]
    pair, another = await signed_in(one, grace), await signed_in(one, grace)
    for client in two.clients:
        assert (await me(client, pair)).status_code == 200
    looked_up: list[UUID] = []

    async def look_up(self: Revocations, family: UUID) -> bool:
        looked_up.append(family)
        return False

    for app in two.apps:
        monkeypatch.setattr(services_of(app).access.authorities.revocations, "_look_up", look_up)
    await end(one, pair, how)
    assert (await me(one, pair)).status_code == 401, "at once, where it was ended"
    await refused(other, pair)
    for client in two.clients:
        assert (await me(client, another)).status_code == 200, "no other sign-in of the same user"


async def test_an_instance_that_starts_later_knows_the_sign_ins_that_were_ended_before(
    two: Instances, grace: str
) -> None:
    """It loads those whose access tokens may still live."""
    one, other = two.clients
    pair = await signed_in(one, grace)
    await end(one, pair, "logout")
    late = services_of(two.apps[1]).access.authorities.revocations
    late._families.clear()
    late._on_revocation(None)
    await eventually(lambda: hears(two.apps[1]))
    assert (await me(other, pair)).status_code == 401
    assert len(late._families) == 1


async def test_a_sign_in_is_over_though_the_listening_connection_was_cut_at_that_moment(
    two: Instances, grace: str, owner: asyncpg.Connection
) -> None:
    one, other = two.clients
    for _ in range(3):
        for app in two.apps:
            await eventually(lambda app=app: hears(app))  # type: ignore[misc]
        pair = await signed_in(one, grace)
        assert (await me(other, pair)).status_code == 200
        cut = owner.fetchval(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity"
            " where application_name = 'erp notices' and datname = current_database()"
        )
        count, _ = await asyncio.gather(cut, end(one, pair, "logout"))
        assert count >= 2, "both instances were listening"
        await refused(other, pair)


async def test_a_sign_in_that_the_version_before_ended_is_over_here(
    two: Instances, grace: str, owner: asyncpg.Connection
) -> None:
    pair = await signed_in(two.clients[0], grace)
    assert (await me(two.clients[1], pair)).status_code == 200
    await owner.execute("update refresh_families set revoked_at = now(), revoked_because = 'logout'")
    await refused(two.clients[1], pair)


async def test_a_stream_ends_at_once_when_its_sign_in_is_ended_on_another_instance(two: Instances, grace: str) -> None:
    one, app = two.clients[0], two.apps[1]
    # no comment in between makes it look
    services_of(app).live_status.keep_alive = 3600.0
    pair = await signed_in(one, grace)
    job = await one.post("/api/v1/exports/jobs", json={"dataset": "items"}, headers=bearer(pair))
    path = f"/api/v1/exports/jobs/{job.json()['id']}/events"
    async with listening(app, path, pair["access_token"]) as listener:
        await listener.event(0)
        await end(one, pair, "logout")
        await listener.end()
    assert "rights" in listener.comments[-1]


async def test_the_version_before_is_not_told_of_families_on_its_channel(
    two: Instances, owner: asyncpg.Connection, grace: str
) -> None:
    heard: list[tuple[str, str]] = []
    for channel in ("erp_authority", "erp_revocations"):
        await owner.add_listener(channel, lambda _c, _p, name, payload: heard.append((name, payload)))
    pair = await signed_in(two.clients[0], grace)
    await end(two.clients[0], pair, "logout")

    async def told() -> bool:
        await owner.execute("select 1")
        return bool(heard)

    await eventually(told)
    family = await owner.fetchval("select id::text from refresh_families")
    assert heard == [("erp_revocations", family)]


# The list of one instance.


class Notices:
    """A listener that the test switches on and off."""

    def __init__(self) -> None:
        self.is_current = True

    def subscribe(self, _channel: str, hear: object) -> None:
        self.hear = hear


async def test_a_gap_while_the_list_is_loaded_makes_it_load_again() -> None:
    notices, reading, go = Notices(), asyncio.Event(), asyncio.Event()
    loads: list[dict[UUID, float]] = [{}, {UUID(int=7): 1.0}]

    async def load(seconds: float) -> dict[UUID, float]:
        assert seconds == module.KEPT_SECONDS
        reading.set()
        await go.wait()
        return loads.pop(0)

    async def look_up(_: UUID) -> bool:
        return False

    revocations = Revocations(notices, load, look_up)  # type: ignore[arg-type]
    first = asyncio.create_task(revocations.has(UUID(int=7)))
    await reading.wait()
    notices.hear(None)  # type: ignore[operator]
    go.set()
    assert not await first
    assert await revocations.has(UUID(int=7))
    assert loads == []


async def test_without_notices_each_family_is_looked_up_and_many_come_as_one_batch(database: Database) -> None:
    notices = Notices()
    batches: list[int] = []
    notices.is_current = False

    class Counting(RevocationLoader):
        async def _read(self, db: ReadSession, keys: list[UUID]) -> Mapping[UUID, bool]:
            batches.append(len(keys))
            return await super()._read(db, keys)

    loader = Counting(database.read)
    revocations = Revocations(notices, loader.recent, loader.is_revoked)  # type: ignore[arg-type]
    assert not any(await asyncio.gather(*(revocations.has(uuid4()) for _ in range(50))))
    assert batches == [50]


async def test_what_was_revoked_long_ago_is_dropped() -> None:
    notices = Notices()

    async def load(_: float) -> dict[UUID, float]:
        return {UUID(int=1): module.KEPT_SECONDS + 1, UUID(int=2): module.KEPT_SECONDS - 100}

    async def look_up(_: UUID) -> bool:
        return False

    revocations = Revocations(notices, load, look_up)  # type: ignore[arg-type]
    assert await revocations.has(UUID(int=2))
    notices.hear(str(UUID(int=3)))  # type: ignore[operator]
    assert list(revocations._families) == [UUID(int=2), UUID(int=3)]


@pytest.mark.parametrize("user_id", [2**63, 2**64, 10**30, 0, -1])
async def test_an_id_that_no_column_takes_is_nobody_and_fails_no_other_look_up(
    database: Database, user_id: int
) -> None:
    known = await make_user(database, Role.VIEWER)
    loader = AuthorityLoader(database.read)
    nobody, somebody = await asyncio.gather(loader.load(user_id), loader.load(known))
    assert nobody is None
    assert somebody is not None
