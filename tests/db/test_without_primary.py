"""No server leads for a while: reports are answered from a standby, and everything else is refused at once.

Three real servers: the primary dies, or is silent; a standby is promoted; the old primary comes back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from time import monotonic
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest
from litestar import Litestar
from sqlalchemy import text

from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.auth.tokens import Claims, Tokens
from erp_service.db.engine import Database
from erp_service.db.pool import Pool
from erp_service.db.replicas.hosts import Standby, Standbys
from erp_service.db.replicas.state import BEHIND
from erp_service.db.servers.addresses import Host
from erp_service.db.sessions import ReadSession
from erp_service.settings import Settings
from erp_service.standalone.postgres import Cluster
from tests.auth.keys import client_from, make_key
from tests.support.apps import SharedApp, services_of
from tests.support.clients import UserClient
from tests.support.clusters import frozen
from tests.support.databases import value_of
from tests.support.trio import Trio, kill, trio_from
from tests.support.users import make_user, token_of
from tests.support.waiting import eventually

SNAPSHOT = "/api/v1/inventory/reports/snapshot"
SUMMARY = "/api/v1/inventory/reports/summary"
ITEMS = "/api/v1/inventory/items"
AS_OF = "Erp-Data-As-Of"


pytestmark = pytest.mark.usefixtures("own_leaders")


@pytest.fixture
async def trio(cluster: Cluster, database_name: str) -> AsyncIterator[Trio]:
    async with trio_from(cluster, database_name) as trio:
        yield trio


@pytest.fixture
def settings(settings: Settings, trio: Trio) -> Settings:
    return trio.settings(settings)


@pytest.fixture
async def app(assembled: SharedApp, settings: Settings) -> AsyncIterator[Litestar]:
    async with assembled.running(settings) as app:
        database: Database = services_of(app).database
        database.replica()
        yield app


@pytest.fixture
async def database(app: Litestar) -> Database:
    database: Database = services_of(app).database
    await in_use(database)
    return database


async def in_use(database: Database) -> None:
    async def used() -> bool:
        replica = database.replica()
        return replica is not None and replica.in_use

    await eventually(used)


def read_by(database: Database, trio: Trio) -> Cluster:
    """The server that the instance reads."""
    assert database._replica is not None
    name = database._replica._standbys.current.host.name
    return next(server for server in (trio.primary, *trio.standbys) if str(server.socket_dir) == name)


class Readers:
    """Read reports all the time. An answer that is not 200 is a failure."""

    def __init__(self, *clients: httpx.AsyncClient) -> None:
        self._clients = clients
        self._stopped = False
        self.answers: list[tuple[float, float, httpx.Response]] = []

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            for client in self._clients:
                for path in (SNAPSHOT, SUMMARY):
                    group.create_task(self._read(client, path))
            try:
                yield
            finally:
                self._stopped = True

    async def _read(self, client: httpx.AsyncClient, path: str) -> None:
        while not self._stopped:
            began = monotonic()
            answer = await client.get(path)
            self.answers.append((began, monotonic() - began, answer))
            await asyncio.sleep(0.005)

    async def alone(self, number: int) -> bool:
        """Whether so many were answered without a primary."""
        return sum(AS_OF in answer.headers for _, _, answer in self.answers) >= number

    async def after(self, since: float, number: int) -> bool:
        """Whether so many that began since then were answered by a primary or with it."""
        return sum(began >= since and AS_OF not in answer.headers for began, _, answer in self.answers) >= number

    def failures(self) -> list[str]:
        return [answer.text for _, _, answer in self.answers if answer.status_code != 200]

    def as_of(self) -> list[datetime]:
        told = (answer.headers.get(AS_OF) for _, _, answer in self.answers)
        return [datetime.fromisoformat(at) for at in told if at is not None]

    def told(self) -> str:
        slowest = max(span for _, span, _ in self.answers)
        alone = sum(AS_OF in answer.headers for _, _, answer in self.answers)
        return f"{len(self.answers)} reports, {alone} of them without a primary, the slowest {slowest:.2f} s"


async def refused(call: Callable[[], Any]) -> float:
    """The seconds until it was refused as it must be without a primary."""
    began = monotonic()
    answer: httpx.Response = await call()
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.json()["type"] == "/problems/unavailable"
    return monotonic() - began


async def test_the_primary_dies_and_no_report_fails_while_a_standby_takes_over(
    app: Litestar, database: Database, trio: Trio, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    people = {role: await make_user(database, role) for role in Role}
    admin, viewer, staff = (
        UserClient(app, people[role], token_of(settings, people[role]))
        for role in (Role.ADMIN, Role.VIEWER, Role.STAFF)
    )
    boss = UserClient(app, people[Role.SUPER_ADMIN], token_of(settings, people[Role.SUPER_ADMIN]))
    key, lost_key = [await make_key(admin, Scope.REPORTS_READ) for _ in range(2)]
    readers = Readers(viewer, client_from(app, "192.0.2.1", key.key))
    async with readers.reading():
        await eventually(lambda: readers.after(0, 8))
        # acknowledged just before the primary dies, so a standby has them
        gone = await boss.patch(f"/api/v1/users/{staff.user_id}", json={"is_active": False})
        revoked = await admin.delete(f"/api/v1/api-keys/{lost_key.id}")
        assert (gone.status_code, revoked.status_code) == (200, 204)
        kill(trio.primary)
        died, died_at = monotonic(), datetime.now(UTC)
        await eventually(lambda: readers.alone(20))

        expired = Tokens(msgspec.structs.replace(settings, access_token_seconds=-600)).issue(
            Claims(viewer.user_id, 1, uuid4())
        )
        for who in (
            staff,
            client_from(app, "192.0.2.1", lost_key.key),
            UserClient(app, viewer.user_id, expired),
            UserClient(app, 2_000_000_000, token_of(settings, 2_000_000_000)),
        ):
            assert (await who.get(SNAPSHOT)).status_code == 401
        spans = [
            await refused(lambda: viewer.get(ITEMS)),
            await refused(lambda: admin.get("/health/scaling")),
            await refused(lambda: admin.post(ITEMS, json={"sku": "S", "name": "N", "unit": "pcs"})),
            await refused(lambda: admin.post("/api/v1/exports/jobs", json={"dataset": "items", "format": "csv"})),
            await refused(
                lambda: viewer.post("/api/v1/auth/login", data={"username": "a@example.com", "password": "p" * 12})
            ),
        ]
        assert (await viewer.get("/health/ready")).status_code == 503
        assert (await viewer.get("/health/reading")).json() == {"status": "reading only"}

        assert max(readers.as_of()) <= died_at

        await trio.promote(trio.standbys[0])

        async def written() -> bool:
            answer = await admin.post(ITEMS, json={"sku": f"S{uuid4()}", "name": "N", "unit": "pcs"})
            assert answer.status_code in (201, 503), answer.text
            return answer.status_code == 201

        await eventually(written)
        led_after = monotonic() - died
        await eventually(lambda: readers.after(monotonic() - 0.1, 5))
        assert (await eventually(lambda: ready(viewer))) == {"status": "ok"}
    assert readers.failures() == []
    with capsys.disabled():
        told = f"what was refused took {max(spans):.2f} s at most; a write went through after {led_after:.1f} s"
        print(f"\nkilled: {readers.told()}; {told}")  # noqa: T201 spans are shown, and not asserted


async def ready(client: httpx.AsyncClient) -> Any:
    answer = await client.get("/health/reading")
    return answer.json() if answer.json().get("status") == "ok" else None


async def begun_on_primary(database: Database, runs: list[str]) -> "asyncio.Task[str]":
    """A read that would take ten minutes on the primary, and is in the middle of that; `runs` gets where it ran."""

    async def read(db: ReadSession) -> str:
        runs.append("a standby" if await db.scalar(text("select pg_is_in_recovery()")) else "the primary")
        if runs[-1] == "the primary":
            await db.scalar(text("select pg_sleep(600)"))
        return runs[-1]

    async def runs_there() -> bool:
        return runs == ["the primary"]

    assert database._replica is not None
    database._replica._stop_using(database._replica._standbys.current, BEHIND)
    told: list[datetime] = []
    task = asyncio.create_task(database.reading(read, as_of=told.append))
    await eventually(runs_there)
    return task


async def test_a_silent_primary_holds_up_no_report_nor_does_a_standby_that_dies(
    app: Litestar, database: Database, trio: Trio, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = [await make_user(database, Role.VIEWER) for _ in range(2)]
    one, other = (UserClient(app, user_id, token_of(settings, user_id)) for user_id in ids)
    readers = Readers(one, other)
    async with readers.reading():
        await eventually(lambda: readers.after(0, 8))
        dead = read_by(database, trio)
        kill(dead)

        async def another() -> bool:
            return read_by(database, trio) not in (dead, trio.primary)

        await eventually(another)
        await in_use(database)
        runs: list[str] = []
        slow = await begun_on_primary(database, runs)
        with frozen(trio.primary):
            await eventually(lambda: readers.alone(8))
            span = await refused(lambda: one.get(ITEMS))
            assert await asyncio.wait_for(slow, 20) == "a standby"
        assert runs == ["the primary", "a standby"]
        back = monotonic()
        await eventually(lambda: readers.after(back, 8))
    assert readers.failures() == []
    with capsys.disabled():
        print(f"\nsilent: {readers.told()}; a list was refused in {span:.2f} s")  # noqa: T201


async def test_the_standby_that_has_most_says_who_may_read_also_once_it_is_promoted(
    assembled: SharedApp, trio: Trio, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The instance knows the address of the primary alone, as behind an address that moves late."""
    async with assembled.running(trio.settings(settings, knows_all=False)) as app:
        database: Database = services_of(app).database
        people = {role: await make_user(database, role) for role in (Role.VIEWER, Role.STAFF, Role.SUPER_ADMIN)}
        viewer, staff, boss = (UserClient(app, user_id, token_of(settings, user_id)) for user_id in people.values())
        await in_use(database)
        # the standby that is read gets nothing more, and the other one confirms what is committed
        stale = read_by(database, trio)
        await value_of(stale, "alter system set primary_conninfo = ''")
        await value_of(stale, "select pg_reload_conf()")

        async def cut_off() -> bool:
            return bool(await value_of(trio.primary, "select count(*) from pg_stat_replication") == 1)

        await eventually(cut_off)
        gone = await boss.patch(f"/api/v1/users/{staff.user_id}", json={"is_active": False})
        assert gone.status_code == 200, gone.text
        kill(trio.primary)
        assert (await staff.get(SNAPSHOT)).status_code == 401
        assert (await viewer.get(SNAPSHOT)).status_code == 200
        promoted = read_by(database, trio)
        assert promoted is not stale
        await value_of(promoted, "select pg_promote()")
        answer = await viewer.get(SNAPSHOT)
        assert (answer.status_code, AS_OF in answer.headers) == (200, True)
        assert read_by(database, trio) is promoted
        assert (await staff.get(SNAPSHOT)).status_code == 401

        # the time is over
        monkeypatch.setattr(database._replica, "_alone_seconds", 0.0)
        await refused(lambda: viewer.get(SNAPSHOT))
        assert (await viewer.get("/health/reading")).status_code == 503


def test_instances_are_spread_over_the_standbys() -> None:
    hosts = [Host(name, 5432) for name in "abc"]
    firsts = {Standbys(hosts, lambda host: Standby(host, POOL, POOL)).current.host for _ in range(200)}
    assert firsts == set(hosts)


async def nowhere() -> Any:
    raise ConnectionError


POOL = Pool(nowhere, size=1, wait_seconds=1)
