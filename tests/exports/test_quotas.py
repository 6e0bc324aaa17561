"""What one user may keep and request, on all instances together; who is refused is told when and what to do."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest

from erp_service.access.roles import Role
from erp_service.db.engine import Database
from erp_service.exports import admission
from erp_service.exports.maintenance import expire
from erp_service.exports.problems import ExportQuota
from erp_service.exports.schedules import due
from erp_service.exports.storage.base import Store
from erp_service.observability.telemetry import failed_open
from erp_service.settings import Settings
from erp_service.worker_services import WorkerServices
from tests.exports.attempts import advanced, begun, published
from tests.exports.data import many_items
from tests.exports.jobs import JOBS, done, submitted
from tests.exports.schedules.examples import DAILY, SCHEDULES, made
from tests.support.apps import two_instances
from tests.support.clients import UserClient
from tests.support.company import set_company
from tests.support.users import make_user, token_of
from tests.support.workers import Work

ESTIMATES = "/api/v1/exports/estimates"
MOST = 4


@contextlib.asynccontextmanager
async def of_two_instances(
    settings: Settings, database: Database, **more: Any
) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Clients of one user, one for each of two instances with these settings."""
    user_id = await make_user(database, Role.VIEWER)
    headers = {"Authorization": f"Bearer {token_of(settings, user_id)}"}
    async with two_instances(msgspec.structs.replace(settings, **more)) as instances:
        for client in instances.clients:
            client.headers.update(headers)
        yield instances.clients


@pytest.fixture
async def both(settings: Settings, database: Database) -> AsyncIterator[list[httpx.AsyncClient]]:
    names = ("export_submissions_per_hour", "export_estimates_per_minute", "export_downloads_per_minute")
    quotas = dict.fromkeys((*names, "signed_addresses_per_minute"), MOST)
    await set_company(database, **quotas)
    async with of_two_instances(settings, database) as clients:
        yield clients


async def statuses(both: list[httpx.AsyncClient], method: str, path: str, **request: Any) -> list[int]:
    """Of one request more than is allowed, to the instances in turn; the last answer says what to do."""
    answers = [await both[n % 2].request(method, path, **request) for n in range(MOST + 1)]
    last = answers[-1]
    assert last.json()["type"] == "/problems/too-many-requests", last.text
    wait = int(last.headers["Retry-After"])
    assert 0 < wait <= 3600
    assert last.json()["detail"].startswith(f"You may make {MOST} ")
    assert f"Wait {wait} seconds." in last.json()["detail"]
    assert f";q={MOST};w=" in last.headers["RateLimit-Policy"]
    assert last.headers["RateLimit"].endswith(f";r=0;t={wait}")
    return [answer.status_code for answer in answers]


async def test_estimates_of_one_user_are_counted_over_all_instances(both: list[httpx.AsyncClient]) -> None:
    found = await statuses(both, "POST", ESTIMATES, json={"dataset": "items"})
    assert found == [200] * MOST + [429]


async def test_one_byte_ranges_and_signed_addresses_are_counted_and_signatures_are_no_way_round(
    both: list[httpx.AsyncClient], client: httpx.AsyncClient, work: Work
) -> None:
    async with work():
        job = f"{JOBS}/{(await done(both[0]))['id']}"
    address = (await both[0].post(f"{job}/download-url")).json()["url"]
    found = await statuses(both, "GET", f"{job}/download", headers={"Range": "bytes=0-0"})
    assert found == [206] * MOST + [429]
    assert (await both[1].get(address, headers={"Authorization": ""})).status_code == 429
    assert (await both[1].head(f"{job}/download")).status_code == 429
    addresses = [(await both[n % 2].post(f"{job}/download-url")).status_code for n in range(MOST)]
    assert addresses == [200] * (MOST - 1) + [429]


async def test_loops_of_submitting_canceling_retrying_and_rewriting_come_to_an_end(
    both: list[httpx.AsyncClient], viewer: UserClient
) -> None:
    one, other = both
    job = f"{JOBS}/{await submitted(one)}"
    schedule = f"{SCHEDULES}/{(await made(other))['id']}"
    assert (await one.put(schedule, json={**DAILY, "is_active": False})).status_code == 200
    assert (await other.post(f"{schedule}/run")).status_code == 202
    for client, method, path, body in (
        (one, "POST", JOBS, {"dataset": "items", "force_new": True}),
        (other, "POST", f"{job}/retry", None),
        (one, "POST", SCHEDULES, DAILY),
        (other, "PUT", schedule, DAILY),
        (one, "POST", f"{schedule}/run", None),
    ):
        assert (await client.request(method, path, json=body)).status_code == 429, path
    # who may start nothing more can still stop and delete, and nobody else is refused
    keys = [{"Idempotency-Key": f"key {n}".replace(" ", "-")} for n in range(MOST + 1)]
    answers = [await both[n % 2].post(f"{job}/cancel", headers=keys[n]) for n in range(MOST + 1)]
    assert [answer.status_code for answer in answers] == [200] * MOST + [429]
    assert (await one.delete(job)).status_code == 204
    assert (await one.delete(schedule)).status_code == 204
    await submitted(viewer)


async def test_quota_needs_no_connection_beside_that_of_its_request(settings: Settings, database: Database) -> None:
    """Else requests that hold one each would wait for another, and be let through uncounted in the end."""
    before = failed_open.labels("exports")._value.get()
    async with of_two_instances(settings, database, pool_size=1) as clients:
        answers = await asyncio.gather(
            *(clients[n % 2].post(JOBS, json={"dataset": "items", "force_new": True}) for n in range(16))
        )
        assert {answer.status_code for answer in answers} == {202}
    assert failed_open.labels("exports")._value.get() == before


async def test_user_who_keeps_the_bytes_of_the_quota_submits_nothing_until_they_delete(
    settings: Settings, database: Database, owner: asyncpg.Connection, work: Work
) -> None:
    await many_items(owner, 500)
    async with of_two_instances(settings, database) as (one, _):
        async with work():
            job = await done(one)
        old = one.headers["Authorization"]
    size = job["result"]["bytes"]
    await set_company(database, export_bytes_per_user=size)
    async with of_two_instances(settings, database) as clients:
        for client in clients:
            client.headers["Authorization"] = old
            for path in (JOBS, f"{SCHEDULES}/{(await made(client))['id']}/run"):
                answer = await client.post(path, json={"dataset": "locations"} if path == JOBS else None)
                problem = answer.json()
                assert (answer.status_code, problem["type"]) == (429, "/problems/export-quota")
                assert (problem["bytes_kept"], problem["bytes_allowed"]) == (size, size)
                assert 71 * 3600 < int(answer.headers["Retry-After"]) <= 72 * 3600 + 60
                assert "Delete some, or wait until the first expires in" in problem["detail"]
        # an estimate costs no room, and deleting makes some at once
        assert (await clients[0].post(ESTIMATES, json={"dataset": "items"})).status_code == 200
        assert (await clients[0].delete(f"{JOBS}/{job['id']}")).status_code == 204
        assert (await clients[1].post(JOBS, json={"dataset": "locations"})).status_code == 202


async def test_export_that_outgrows_the_quota_fails_and_leaves_no_file(
    work: Work, database: Database, viewer: UserClient, owner: asyncpg.Connection, store: Store
) -> None:
    await many_items(owner, 500)
    await set_company(database, export_bytes_per_user=150_000)
    async with work():
        first = await done(viewer)
        assert (first["status"], 75_000 < first["result"]["bytes"] < 150_000) == ("succeeded", True)
        second = await done(viewer)
        assert (second["status"], second["error"]["type"]) == ("failed", "/problems/export-quota")
        assert "Delete some, or narrow the export, and retry." in second["error"]["detail"]
        assert [file.key.export_id.hex async for file in store.list_files()] == [first["id"].replace("-", "")]
        assert (await viewer.delete(f"{JOBS}/{first['id']}")).status_code == 204
        assert (await done(viewer))["status"] == "succeeded"


async def test_of_two_exports_that_grow_at_once_the_later_one_makes_way(
    viewer: UserClient, owner: asyncpg.Connection, database: Database
) -> None:
    earlier, later = await begun(viewer, database, owner), await begun(viewer, database, owner)
    await advanced(database, earlier, 600)
    await advanced(database, later, 600)
    async with database.write() as db:
        await admission.require_room_to_grow(db, earlier.id, 6_000, 10_000)
        with pytest.raises(ExportQuota):
            await admission.require_room_to_grow(db, later.id, 6_000, 10_000)
        with pytest.raises(ExportQuota) as full:
            await admission.require_room_for_files(db, viewer.user_id, 12_000)
    assert full.value.headers["Retry-After"] == "60"
    # a file that is finished counts for both
    await published(database, later, 600)
    async with database.write() as db:
        with pytest.raises(ExportQuota):
            await admission.require_room_to_grow(db, earlier.id, 6_000, 10_000)


async def test_bytes_that_are_kept_are_those_of_the_files_whoever_changes_them(
    viewer: UserClient, staff: UserClient, owner: asyncpg.Connection, database: Database
) -> None:
    runs = [await begun(client, database, owner) for client in (viewer, staff, viewer, staff)]
    for run in runs:
        await published(database, run, 600)
    usage = "select user_id, bytes from export_usage order by user_id"
    assert [tuple(row) for row in await owner.fetch(usage)] == [(viewer.user_id, 12_000), (staff.user_id, 12_000)]
    assert (await viewer.delete(f"{JOBS}/{runs[0].id}")).status_code == 204
    await owner.execute("update export_jobs set expires_at = now() where user_id = $1", staff.user_id)
    await expire(database)
    await expire(database)
    assert [tuple(row) for row in await owner.fetch(usage)] == [(viewer.user_id, 6_000), (staff.user_id, 0)]


async def test_schedule_of_a_user_without_room_says_so_and_stays(
    worker_services: WorkerServices, viewer: UserClient, owner: asyncpg.Connection, database: Database
) -> None:
    schedule = await made(viewer)
    await published(database, await begun(viewer, database, owner), 600)
    await owner.execute("update export_schedules set next_run_at = now()")
    await set_company(database, export_bytes_per_user=6_000)
    assert await due.run_next(worker_services.exports)
    found = (await viewer.get(f"{SCHEDULES}/{schedule['id']}")).json()
    assert found["last_error"]["type"] == "/problems/export-quota"
    assert found["is_active"]
