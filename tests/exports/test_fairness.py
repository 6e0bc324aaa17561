"""Small exports pass large ones that occupy the workers."""

import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import asyncpg
import httpx
import msgspec
import pytest
from sqlalchemy import text

from erp_service.access.roles import Role
from erp_service.db.engine import Database
from erp_service.exports import admission
from erp_service.exports.catalogue import DATASETS
from erp_service.exports.planning import planner, selection
from erp_service.exports.planning.selection import Spec
from erp_service.settings import Settings
from erp_service.worker_services import WorkerServices
from tests.exports.data import many_items
from tests.exports.jobs import reaches, submitted
from tests.exports.schedules.examples import SCHEDULES, made
from tests.support.clients import SignIn
from tests.support.company import COMPANY
from tests.support.waiting import eventually
from tests.support.workers import working

NO_POLL = 600.0
"""Seconds between two polls of a worker, longer than any test waits: what starts was started by a notification."""


@pytest.fixture
async def large_items(owner: asyncpg.Connection) -> None:
    await many_items(owner, planner.SMALL_ROWS + 2_000)
    await owner.execute("analyze items")


def worker(settings: Settings, concurrency: int) -> AbstractAsyncContextManager[WorkerServices]:
    """A worker on all queues, as `erp worker` runs it, but without polls."""
    several = msgspec.structs.replace(settings, worker_concurrency=concurrency)
    return working(several, grace_seconds=0, queues=None, poll_seconds=NO_POLL)


@contextlib.asynccontextmanager
async def held(settings: Settings, table: str) -> AsyncIterator[None]:
    """Locks the table, so that an export of it takes as long as the test wants."""
    connection = await asyncpg.connect(settings.migration_database_url or "")
    try:
        await connection.execute("begin")
        await connection.execute(f"lock table {table} in access exclusive mode")
        yield
    finally:
        await connection.close()


async def running(client: httpx.AsyncClient) -> int:
    page = (await client.get("/api/v1/exports/jobs", params={"mine": False, "status": "running"})).json()
    return len(page["items"])


@pytest.mark.usefixtures("large_items")
@pytest.mark.parametrize("concurrency", [1, 4])
async def test_small_export_and_a_tick_pass_large_ones_that_hold_every_slot_they_can(
    concurrency: int, settings: Settings, sign_in: SignIn, admin: httpx.AsyncClient, owner: asyncpg.Connection
) -> None:
    users = [await sign_in(Role.VIEWER) for _ in range(4)]
    other = await sign_in(Role.VIEWER)
    scheduled = (await made(other, spec={"dataset": "locations", "force_new": True}))["id"]
    large = [await submitted(client) for client in users for _ in range(5)]
    most = max(1, concurrency - 1)

    async def as_many() -> bool:
        return await running(admin) == most

    async def ticked() -> bool:
        return (await other.get(f"{SCHEDULES}/{scheduled}")).json()["last_job"] is not None

    async with held(settings, "items"), worker(settings, concurrency):
        await eventually(as_many)
        # the large exports hang until the end of this block, so nothing that waits for them would ever end
        for _ in range(7):
            small = await submitted(other, "locations")
            await reaches(other, small, "succeeded")
        await owner.execute("update export_schedules set next_run_at = now()")
        await eventually(ticked)
        assert not {job["id"] for job in await succeeded(admin)} & set(large)


async def succeeded(client: httpx.AsyncClient) -> list[dict[str, object]]:
    page = await client.get("/api/v1/exports/jobs", params={"mine": False, "status": "succeeded", "limit": 500})
    return list(page.json()["items"])


@pytest.mark.usefixtures("large_items")
async def test_large_export_begins_as_soon_as_its_place_is_free(settings: Settings, sign_in: SignIn) -> None:
    users = [await sign_in(Role.VIEWER) for _ in range(4)]
    large = [await submitted(client) for client in users]
    async with worker(settings, concurrency=1):
        # only the end of one export wakes the worker for the next
        for client, export_id in zip(users, large, strict=True):
            await reaches(client, export_id, "succeeded")


async def test_twenty_large_exports_of_one_user_take_two_places(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, settings: Settings
) -> None:
    for _ in range(20):
        await submitted(viewer)
    queued = await owner.fetchval("select count(*) from procrastinate_jobs where queue_name like 'exports%'")
    assert queued == COMPANY.exports_running_per_user


@pytest.mark.usefixtures("large_items")
@pytest.mark.parametrize(
    ("dataset", "spec", "small"),
    [
        ("items", Spec(), False),
        ("items", Spec(sort="name", columns=["sku"]), False),
        ("items", Spec(filter={"sku": "SKU-7"}), True),
        ("locations", Spec(), True),
        ("stock_movements", Spec(), True),
    ],
)
async def test_size_is_what_the_planner_thinks(dataset: str, spec: Spec, small: bool, database: Database) -> None:
    query = selection.query(DATASETS[dataset], spec)
    async with database.write() as db:
        before = await db.scalar(text("show lock_timeout"))
        assert planner.is_small(await planner.plans(db, [query])) is small
        assert await db.scalar(text("show lock_timeout")) == before


async def test_export_of_a_table_that_is_being_altered_is_submitted_at_once_as_a_large_one(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, settings: Settings
) -> None:
    # the lock is held until the submission is answered: one that waits for it would end with a lock timeout
    async with held(settings, "locations"):
        await submitted(viewer, "locations")
    assert not await owner.fetchval("select is_small from export_jobs")


@pytest.mark.usefixtures("large_items")
async def test_queue_follows_the_size_also_for_a_retry(viewer: httpx.AsyncClient, owner: asyncpg.Connection) -> None:
    async def queue_of(export_id: str) -> object:
        found = "select queue_name from procrastinate_jobs where args->>'export_id' = $1"
        return await owner.fetchval(found, export_id)

    small, large = await submitted(viewer, filter={"sku": "SKU-7"}), await submitted(viewer)
    assert await queue_of(small) == admission.SMALL_QUEUE
    assert await queue_of(large) == admission.QUEUE
    await viewer.post(f"/api/v1/exports/jobs/{large}/cancel")
    again = (await viewer.post(f"/api/v1/exports/jobs/{large}/retry")).json()["id"]
    assert await queue_of(again) == admission.QUEUE
