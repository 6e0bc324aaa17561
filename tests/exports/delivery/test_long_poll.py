"""Requests for an export that wait for its next state: `Prefer: wait` (RFC 7240)."""

import asyncio
from time import monotonic

import asyncpg
import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from litestar import Litestar

from erp_service.db.engine import Database
from erp_service.exports.delivery.live_status import WAIT_MOST, preferred_wait
from erp_service.exports.lifecycle import Run
from erp_service.settings import Settings
from tests.exports.attempts import advanced, begun, published
from tests.exports.delivery.listening import SOON, all_wait, bearer, without_notices
from tests.exports.jobs import JOBS
from tests.support.apps import services_of
from tests.support.clients import UserClient, client_of
from tests.support.waiting import eventually


@pytest.fixture
async def run(viewer: httpx.AsyncClient, database: Database, owner: asyncpg.Connection) -> Run:
    return await begun(viewer, database, owner)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("wait=20", 20),
        ("respond-async, wait=10", 10),
        ('Wait = "7"; strict', 7),
        ("wait=0", 0),
        ("wait=61", WAIT_MOST),
        ("wait=" + "9" * 100, WAIT_MOST),
        ("wait", None),
        ("wait=-1", None),
        ("wait=1.5", None),
        ("wait=٣", None),
        ("wait=5, wait=9", 5),
        ("await=5", None),
    ],
)
def test_preference_to_wait_is_read_as_rfc_7240_writes_it(header: str | None, seconds: int | None) -> None:
    assert preferred_wait(header) == seconds


@given(st.text())
@example("wait=²")
def test_whatever_is_preferred_breaks_nothing(header: str) -> None:
    found = preferred_wait(header)
    assert found is None or 0 <= found <= WAIT_MOST


def waiting(
    client: httpx.AsyncClient, run: Run, seconds: int = 60, known: str | None = None
) -> asyncio.Task[httpx.Response]:
    """Answered after `seconds` at the latest. The default is longer than SOON: what is answered sooner was woken."""
    headers = {"Prefer": f"wait={seconds}"} | ({} if known is None else {"If-None-Match": known})
    return asyncio.create_task(client.get(f"{JOBS}/{run.id}", headers=headers))


async def test_long_poll_answers_as_soon_as_the_job_changes_and_holds_no_connection(
    app: Litestar, viewer: httpx.AsyncClient, database: Database, run: Run
) -> None:
    polls = [waiting(viewer, run) for _ in range(30)]
    await eventually(lambda: all_wait(app, 30))

    async def idle() -> bool:
        return bool(services_of(app).database.pool()["in_use"] == 0)

    await eventually(idle)
    await advanced(database, run, 10)
    async with asyncio.timeout(SOON):
        answers = await asyncio.gather(*polls)
    for answer in answers:
        assert answer.status_code == 200
        assert answer.json()["progress"]["rows_done"] == 10
        assert answer.headers["Preference-Applied"] == "wait=60"
    assert services_of(app).live_status.listeners == 0


async def test_long_poll_with_the_version_that_is_known_waits_and_with_another_does_not(
    viewer: httpx.AsyncClient, database: Database, run: Run, app: Litestar
) -> None:
    etag = (await viewer.get(f"{JOBS}/{run.id}")).headers["ETag"]
    poll = waiting(viewer, run, known=etag)
    await eventually(lambda: all_wait(app, 1))
    await advanced(database, run, 10)
    async with asyncio.timeout(SOON):
        changed = await poll
        assert (changed.status_code, changed.json()["progress"]["rows_done"]) == (200, 10)
        at_once = await waiting(viewer, run, known=etag)
    assert (at_once.status_code, at_once.headers["ETag"]) == (200, changed.headers["ETag"])


async def test_long_poll_of_a_job_that_does_not_change_ends_with_its_time(viewer: httpx.AsyncClient, run: Run) -> None:
    etag = (await viewer.get(f"{JOBS}/{run.id}")).headers["ETag"]
    began = monotonic()
    async with asyncio.timeout(SOON):
        same, known = await asyncio.gather(waiting(viewer, run, 1), waiting(viewer, run, 1, etag))
    assert monotonic() - began >= 1, "it was answered before its time"
    assert (same.status_code, same.headers["ETag"], same.headers["Preference-Applied"]) == (200, etag, "wait=1")
    assert (known.status_code, known.content, known.headers["ETag"]) == (304, b"", etag)
    assert known.headers["Preference-Applied"] == "wait=1"


async def test_long_poll_of_a_job_that_has_ended_does_not_wait(
    viewer: httpx.AsyncClient, database: Database, run: Run
) -> None:
    await published(database, run)
    async with asyncio.timeout(SOON):
        answer = await waiting(viewer, run)
        assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")
        assert (await waiting(viewer, run, known=answer.headers["ETag"])).status_code == 304


async def test_long_poll_on_an_instance_without_notices_hears_of_the_change(
    settings: Settings, viewer: httpx.AsyncClient, database: Database, run: Run
) -> None:
    async with without_notices(settings) as deaf, client_of(deaf, bearer(viewer)) as client:
        poll = waiting(client, run)
        await eventually(lambda: all_wait(deaf, 1))
        await advanced(database, run, 10)
        async with asyncio.timeout(SOON):
            assert (await poll).json()["progress"]["rows_done"] == 10


async def test_long_poll_tells_nothing_to_who_lost_their_rights_meanwhile(
    app: Litestar, viewer: UserClient, owner: asyncpg.Connection, run: Run
) -> None:
    poll = waiting(viewer, run)
    await eventually(lambda: all_wait(app, 1))
    await owner.execute("update users set is_active = false where id = $1", viewer.user_id)
    await owner.execute("update export_jobs set status = 'canceling' where id = $1", run.id)
    async with asyncio.timeout(SOON):
        assert (await poll).status_code == 401


async def test_long_poll_of_anothers_job_ends_with_the_role_of_an_admin(
    app: Litestar, admin: UserClient, owner: asyncpg.Connection, run: Run
) -> None:
    poll = waiting(admin, run)
    await eventually(lambda: all_wait(app, 1))
    await owner.execute("update users set role = 'STAFF' where id = $1", admin.user_id)
    await owner.execute("update export_jobs set status = 'canceling' where id = $1", run.id)
    async with asyncio.timeout(SOON):
        assert (await poll).status_code == 404
