"""Server-sent events of an export: from any instance, to the end, for a thousand listeners at the price of one."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from time import monotonic
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import msgspec
import pytest
from litestar import Litestar

from erp_service.access.roles import Role
from erp_service.app import create_app
from erp_service.auth.tokens import Claims, Tokens
from erp_service.db.engine import Database
from erp_service.exports import lifecycle
from erp_service.exports.delivery.live_status import KEEP_ALIVE, LiveStatus
from erp_service.exports.delivery.signed_urls import Signed
from erp_service.exports.lifecycle import Run
from erp_service.queue.attempts import JobAttempt
from erp_service.services import FOLLOWED, build_services
from erp_service.settings import Settings
from tests.exports.attempts import MOST, advanced, again, begun, published
from tests.exports.delivery.listening import SOON, Listener, bearer, followed, listening, without_notices
from tests.exports.jobs import JOBS, submitted
from tests.support.apps import running, services_of
from tests.support.clients import SignIn, UserClient, client_of
from tests.support.statements import sent_statements
from tests.support.users import make_user, token_of
from tests.support.waiting import eventually
from tests.support.workers import Work


def events_of(export_id: object) -> str:
    return f"{JOBS}/{export_id}/events"


@pytest.fixture
async def deaf(settings: Settings) -> AsyncIterator[Litestar]:
    async with without_notices(settings) as app:
        yield app


@pytest.fixture
async def run(viewer: httpx.AsyncClient, database: Database, owner: asyncpg.Connection) -> Run:
    return await begun(viewer, database, owner)


@pytest.fixture
async def listener(app: Litestar, viewer: httpx.AsyncClient, run: Run) -> AsyncIterator[Listener]:
    """A listener that has received the first state and waits for the next."""
    async with listening(app, events_of(run.id), bearer(viewer)) as listener:
        await listener.event(0)
        yield listener


async def test_present_state_comes_first_then_each_change_then_the_end(
    listener: Listener, viewer: httpx.AsyncClient, database: Database, run: Run
) -> None:
    assert listener.status == 200
    assert listener.headers["content-type"].startswith("text/event-stream")
    assert listener.headers["cache-control"] == "no-store"
    assert listener.headers["x-accel-buffering"] == "no"
    assert "content-length" not in listener.headers
    assert listener.retry is not None
    first = listener.events[0]
    assert (first.name, first.job["status"]) == ("progress", "running")
    await advanced(database, run, 10)
    second = await listener.event(1, seconds=SOON)
    assert (second.name, second.job["progress"]["rows_done"]) == ("progress", 10)
    await published(database, run)
    last = await listener.event(2, seconds=SOON)
    await listener.end(seconds=SOON)
    now = await viewer.get(f"{JOBS}/{run.id}")
    assert (last.name, last.job) == ("done", now.json())
    assert now.headers["ETag"] == f'"{last.id}"'
    ids = [int(e.id) for e in listener.events]
    assert ids == sorted(set(ids))


async def test_events_of_a_real_export_never_go_back_and_end_with_the_file(
    app: Litestar, viewer: httpx.AsyncClient, work: Work, owner: asyncpg.Connection
) -> None:
    export_id = await submitted(viewer)
    async with listening(app, events_of(export_id), bearer(viewer)) as listener:
        assert (await listener.event(0)).job["status"] == "queued"
        async with work():
            await listener.end()
    percents = [e.job["progress"]["percent"] or 0 for e in listener.events]
    assert percents == sorted(percents)
    assert listener.events[-1].job["result"]["rows"] == 0
    assert [e.name for e in listener.events][-1] == "done"


async def test_listener_that_comes_back_misses_nothing_and_gets_nothing_twice(
    app: Litestar, viewer: httpx.AsyncClient, database: Database, run: Run
) -> None:
    path, token = events_of(run.id), bearer(viewer)
    async with listening(app, path, token) as first:
        known = (await first.event(0)).id
    async with listening(app, path, token, last=known) as second:
        await second.until(lambda seen: seen.retry is not None)
        await advanced(database, run, 10)
        changed = await second.event(0, seconds=SOON)
        assert changed.job["progress"]["rows_done"] == 10
    await advanced(database, run, 20)
    async with listening(app, path, token, last=changed.id) as third:
        assert (await third.event(0, seconds=SOON)).job["progress"]["rows_done"] == 20


async def test_listener_that_was_away_at_the_end_gets_it_and_is_then_told_not_to_come_again(
    app: Litestar, viewer: httpx.AsyncClient, database: Database, run: Run
) -> None:
    """A listener that misses the end waits for ever; without the 204, an EventSource reconnects for ever."""
    path, token = events_of(run.id), bearer(viewer)
    async with listening(app, path, token) as listener:
        known = (await listener.event(0)).id
    await published(database, run)
    final = ""
    for last in (known, None, "nonsense", ""):
        async with listening(app, path, token, last=last) as again:
            await again.end(seconds=SOON)
            assert [e.name for e in again.events] == ["done"]
            final = again.events[0].id
    async with listening(app, path, token, last=final) as finished:
        await finished.end(seconds=SOON)
        assert (finished.status, finished.body) == (204, b"")


async def test_stream_ends_when_the_worker_died_for_good(listener: Listener, database: Database, run: Run) -> None:
    """After the worker died nobody writes progress; only the rescue ends the export, and the stream must send that."""
    async with database.write() as db:
        assert await lifecycle.abandon(db, run.queue_job_id, most_running=MOST)
    end = await listener.event(1, seconds=SOON)
    await listener.end(seconds=SOON)
    assert (end.name, end.job["error"]["type"]) == ("done", "/problems/export-abandoned")


async def test_new_attempt_of_a_rescuer_is_seen_though_its_status_is_the_old_one(
    listener: Listener, database: Database, run: Run
) -> None:
    """It does not change the status, so there is no notification."""
    async with database.write() as db:
        assert await lifecycle.claim(db, again(run), most_running=MOST)
    assert (await listener.event(1, seconds=SOON)).job["attempt"] == 2


async def test_instance_that_hears_no_notices_tells_of_each_change(
    deaf: Litestar, viewer: httpx.AsyncClient, database: Database, run: Run
) -> None:
    async with listening(deaf, events_of(run.id), bearer(viewer)) as listener:
        await listener.event(0)
        await advanced(database, run, 10)
        await listener.event(1, seconds=SOON)
        await published(database, run)
        await listener.end(seconds=SOON)
    assert listener.events[-1].name == "done"


async def test_listener_cut_off_from_notices_in_the_middle_misses_nothing(
    listener: Listener, database: Database, run: Run, owner: asyncpg.Connection
) -> None:
    for rows in (10, 20, 30):
        await owner.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name = 'erp notices' and datname = current_database()"
        )
        await advanced(database, run, rows)
        await listener.until(lambda seen, n=rows: seen.events[-1].job["progress"]["rows_done"] == n, seconds=SOON)
    await published(database, run)
    await listener.end(seconds=SOON)


async def test_database_that_is_away_ends_no_stream(
    listener: Listener, database: Database, run: Run, owner: asyncpg.Connection
) -> None:
    await owner.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where application_name like 'erp%' and application_name <> 'erp test' and datname = current_database()"
    )
    await published(database, run)
    await listener.end(seconds=SOON)
    assert listener.events[-1].name == "done"


async def test_export_of_somebody_else_is_404_unless_for_an_admin(
    app: Litestar, run: Run, staff: httpx.AsyncClient, admin: httpx.AsyncClient, client: httpx.AsyncClient
) -> None:
    path = events_of(run.id)
    assert (await staff.get(path)).status_code == 404
    assert (await client.get(path)).status_code == 401
    assert (await staff.get(f"{JOBS}/{run.id}", headers={"Prefer": "wait=5"})).status_code == 404
    async with listening(app, path, bearer(admin)) as listener:
        assert (await listener.event(0)).job["id"] == str(run.id)


async def test_stream_of_a_dataset_ends_with_the_role_for_it(
    app: Litestar, sign_in: SignIn, owner: asyncpg.Connection, database: Database
) -> None:
    admin = await sign_in(Role.ADMIN)
    run = Run(UUID(await submitted(admin, "users")), JobAttempt(0, 1))
    user_id = admin.user_id
    async with listening(app, events_of(run.id), bearer(admin)) as listener:
        await listener.event(0)
        await owner.execute("update users set role = 'STAFF' where id = $1", user_id)
        await listener.end(seconds=SOON)
        assert "rights" in listener.comments[-1]
        assert len(listener.events) == 1
    assert (await admin.get(events_of(run.id))).status_code == 403


@pytest.mark.parametrize(
    "change", ["is_active = false", "authority_version = authority_version + 1"], ids=["deactivated", "signed out"]
)
async def test_stream_ends_with_the_readers_rights_and_says_nothing_more(
    change: str, listener: Listener, viewer: UserClient, owner: asyncpg.Connection, database: Database, run: Run
) -> None:
    async with owner.transaction():
        await owner.execute(f"update users set {change} where id = $1", viewer.user_id)
        # in one transaction, so that the new state arrives together with the loss of the right to read it
        await owner.execute("update export_jobs set status = 'canceling' where id = $1", run.id)
    await listener.end(seconds=SOON)
    assert len(listener.events) == 1
    assert "rights" in listener.comments[-1]


async def test_stream_ends_when_its_reader_must_have_a_second_factor_from_now_on(
    listener: Listener, owner: asyncpg.Connection, run: Run
) -> None:
    async with owner.transaction():
        await owner.execute("""update company set settings = '{"second_factor_from": "VIEWER"}'""")
        await owner.execute("update export_jobs set status = 'canceling' where id = $1", run.id)
    await listener.end(seconds=SOON)
    assert len(listener.events) == 1


async def test_stream_on_an_instance_without_notices_ends_with_the_rights_too(
    deaf: Litestar, viewer: UserClient, owner: asyncpg.Connection, run: Run
) -> None:
    async with listening(deaf, events_of(run.id), bearer(viewer)) as listener:
        await listener.event(0)
        await owner.execute("update users set is_active = false where id = $1", viewer.user_id)
        await owner.execute("update export_jobs set status = 'canceling' where id = $1", run.id)
        await listener.end(seconds=SOON)
        assert len(listener.events) == 1


async def test_stream_ends_when_the_token_expires(
    app: Litestar, viewer: UserClient, settings: Settings, run: Run
) -> None:
    claims = Claims(viewer.user_id, 1, UUID(int=0))
    token = Tokens(settings).issue(claims, now=time.time() - settings.access_token_seconds + 2)
    async with listening(app, events_of(run.id), token) as listener:
        await listener.event(0)
        await listener.end(seconds=SOON)
        assert "expired" in listener.comments[-1]
        assert (listener.events[-1].name, listener.events[-1].job["expired"]) == ("expired", "token")


async def test_stream_of_a_signed_address_says_that_it_expires_and_goes_on_at_another(
    app: Litestar, viewer: UserClient, database: Database, run: Run
) -> None:
    """An EventSource whose address is refused when it connects again ends for good, though the job still runs."""
    signed = Signed(viewer.user_id, 1, int(time.time()) + 2, UUID(int=0))
    async with listening(app, services_of(app).signed_urls.sign(events_of(run.id), signed)) as first:
        known = await first.event(0)
        await first.end(seconds=SOON)
    assert [(event.name, event.id) for event in first.events] == [("progress", known.id), ("expired", known.id)]
    assert first.events[-1].job["expired"] == "address"
    assert "download-url" in first.events[-1].job["detail"]

    address = (await viewer.post(f"{JOBS}/{run.id}/download-url")).json()["events_url"]
    async with listening(app, f"{address}&last_event_id={known.id}") as second:
        await second.until(lambda seen: seen.retry is not None)
        await published(database, run)
        await second.end(seconds=SOON)
    assert [event.name for event in second.events] == ["done"]


async def test_header_of_a_reconnecting_event_source_counts_more_than_its_old_address(
    app: Litestar, viewer: UserClient, database: Database, run: Run
) -> None:
    address = (await viewer.post(f"{JOBS}/{run.id}/download-url")).json()["events_url"]
    async with listening(app, address) as first:
        old = (await first.event(0)).id
        await published(database, run)
        newest = (await first.event(1, seconds=SOON)).id
    async with listening(app, f"{address}&last_event_id={old}", last=newest) as second:
        await second.end(seconds=SOON)
    assert (second.status, second.events) == (204, [])
    async with listening(app, f"{address}&last_event_id={old}") as third:
        await third.end(seconds=SOON)
    assert [event.name for event in third.events] == ["done"]


async def test_stream_and_long_poll_end_when_the_instance_stops(
    app: Litestar, listener: Listener, viewer: httpx.AsyncClient, run: Run
) -> None:
    """Open streams must not delay its exit; clients know when to reconnect, to another instance."""
    waiting = asyncio.create_task(viewer.get(f"{JOBS}/{run.id}", headers={"Prefer": "wait=60"}))
    await eventually(lambda: followed(app, 2))
    services_of(app).readiness.stopping.set()
    await listener.end(seconds=SOON)
    assert listener.retry is not None
    assert 0 < listener.retry <= 2000
    assert "connect again" in listener.comments[-1]
    # it asked to wait for 60 s
    async with asyncio.timeout(SOON):
        assert (await waiting).status_code == 200


@contextlib.asynccontextmanager
async def hurried(settings: Settings, **seconds: float) -> AsyncIterator[Litestar]:
    """An instance whose streams have other timings than production's."""
    services = build_services(settings)
    live_status = LiveStatus(
        services.database,
        services.notifications,
        services.readiness.stopping,
        FOLLOWED,
        most=settings.event_streams,
        most_per_user=settings.event_streams_per_user,
        **seconds,
    )
    app = create_app(msgspec.structs.replace(services, live_status=live_status))
    async with running(app):
        yield app


async def test_silence_is_broken_by_comments(settings: Settings, viewer: httpx.AsyncClient, run: Run) -> None:
    assert KEEP_ALIVE <= 20
    async with (
        hurried(settings, keep_alive=0.05) as app,
        listening(app, events_of(run.id), bearer(viewer)) as listener,
    ):
        await listener.until(lambda seen: len(seen.comments) >= 3)
        assert len(listener.events) == 1


async def test_slow_listener_delays_nobody_and_gets_the_newest_state_at_last(
    app: Litestar, viewer: httpx.AsyncClient, listener: Listener, database: Database, run: Run
) -> None:
    async with listening(app, events_of(run.id), bearer(viewer)) as slow:
        await slow.event(0)
        slow.taking.clear()
        for n in range(1, 6):
            await advanced(database, run, n)
            await listener.event(n, seconds=SOON)
        slow.taking.set()
        await slow.until(lambda seen: seen.events[-1].job["progress"]["rows_done"] == 5, seconds=SOON)
        # the event that it was reading, and the last one
        assert len(slow.events) <= 3


async def test_listener_that_takes_nothing_at_all_is_let_go(
    settings: Settings, viewer: httpx.AsyncClient, run: Run
) -> None:
    async with (
        hurried(settings, send_seconds=0.1) as app,
        listening(app, events_of(run.id), bearer(viewer)) as listener,
    ):
        listener.taking.clear()
        await eventually(lambda: followed(app, 1))
        await eventually(lambda: followed(app, 0))


async def test_places_are_limited_for_each_user_and_each_instance_and_given_back(
    settings: Settings, viewer: httpx.AsyncClient, admin: httpx.AsyncClient, run: Run
) -> None:
    app = create_app(build_services(msgspec.structs.replace(settings, event_streams=3, event_streams_per_user=2)))
    path = events_of(run.id)
    async with running(app), client_of(app, bearer(viewer)) as mine, client_of(app, bearer(admin)) as other:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(2):
                await (await stack.enter_async_context(listening(app, path, bearer(viewer)))).event(0)
            refused = await mine.get(path)
            assert (refused.status_code, refused.json()["type"]) == (429, "/problems/too-many-streams")
            assert "Retry-After" in refused.headers
            # a request without a stream is answered nevertheless, at once
            at_once = await mine.get(f"{JOBS}/{run.id}", headers={"Prefer": "wait=60"})
            assert (at_once.status_code, at_once.headers.get("Preference-Applied")) == (200, None)
            await (await stack.enter_async_context(listening(app, path, bearer(admin)))).event(0)
            full = await other.get(path)
            assert (full.status_code, full.json()["type"]) == (503, "/problems/streams-full")
            assert "Retry-After" in full.headers
        await eventually(lambda: followed(app, 0))
        # and a refused stream has taken no slot
        assert (await mine.get(events_of(UUID(int=0)))).status_code == 404
        assert services_of(app).live_status.listeners == 0
        async with listening(app, path, bearer(viewer)) as again:
            await again.event(0)


def crowded(settings: Settings, **more: Any) -> Litestar:
    """An instance with room for a thousand listeners of one user, and with one connection in its pool."""
    room = {"event_streams": 1000, "event_streams_per_user": 1000, "pool_size": 1, "pool_timeout_seconds": 60}
    return create_app(build_services(msgspec.structs.replace(settings, **room, **more)))


async def test_thousand_listeners_cost_one_connection_and_one_query_for_each_change(
    settings: Settings, viewer: httpx.AsyncClient, database: Database, owner: asyncpg.Connection, run: Run
) -> None:
    other = await begun(viewer, database, owner)
    app = crowded(settings)
    async with running(app), contextlib.AsyncExitStack() as stack:
        paths = [events_of(one.id) for one in (run, other)]
        listeners = [await stack.enter_async_context(listening(app, paths[n % 2], bearer(viewer))) for n in range(1000)]
        for listener in listeners:
            await listener.event(0, seconds=60)
        with sent_statements() as statements:
            began = monotonic()
            for change in (1, 2):
                await advanced(database, run, change)
                await advanced(database, other, change)
                for listener in listeners:
                    await listener.until(lambda seen, n=change: len(seen.events) > n, seconds=30)
            took = monotonic() - began
        # one for each of the four changes, and one per second for changes without a notification
        assert len([one for one in statements if "export_jobs" in one]) <= 4 + took
        # an event loop that is blocked for half a second does not trust its notifications, and looks up all rights
        assert len(statements) <= 50
        connections = await owner.fetch(
            "select application_name as name, count(*) from pg_stat_activity where datname = current_database()"
            " and application_name in ('erp', 'erp notices') group by 1 order by 1"
        )
        # one of them is the fixture's app
        assert [row["count"] for row in connections if row["name"] == "erp notices"] == [2]
        assert services_of(app).database.pool() == {"size": 1, "in_use": 0}
        for one in (run, other):
            await published(database, one)
        for listener in listeners:
            await listener.end(seconds=30)
            assert listener.events[-1].name == "done"


async def test_many_listeners_on_an_instance_without_notices_look_up_their_rights_together(
    settings: Settings, viewer: httpx.AsyncClient, admin: httpx.AsyncClient, database: Database, run: Run
) -> None:
    app = crowded(settings, queue_database_url="postgresql://u@/db?host=/nonexistent")
    async with running(app), contextlib.AsyncExitStack() as stack:
        path = events_of(run.id)
        listeners = [
            await stack.enter_async_context(listening(app, path, bearer((viewer, admin)[n % 2]))) for n in range(200)
        ]
        for listener in listeners:
            await listener.event(0, seconds=60)
        with sent_statements() as statements:
            await advanced(database, run, 1)
            for listener in listeners:
                await listener.event(1, seconds=30)
        assert len([one for one in statements if "users" in one]) <= 20


async def test_listener_of_another_instance_hears_of_what_is_done_here(
    settings: Settings, app: Litestar, viewer: httpx.AsyncClient, database: Database
) -> None:
    export_id = await submitted(viewer)
    there = create_app(build_services(settings))
    async with running(there), listening(there, events_of(export_id), bearer(viewer)) as listener:
        await listener.event(0)
        assert (await viewer.post(f"{JOBS}/{export_id}/cancel")).json()["status"] == "canceled"
        await listener.end(seconds=SOON)
    assert [e.job["status"] for e in listener.events] == ["queued", "canceled"]


async def test_user_who_follows_needs_an_account(app: Litestar, database: Database, settings: Settings) -> None:
    """A token of a user that does not exist."""
    user_id = await make_user(database, Role.VIEWER)
    async with client_of(app, token_of(settings, user_id + 1)) as client:
        assert (await client.get(events_of(UUID(int=0)))).status_code == 401
