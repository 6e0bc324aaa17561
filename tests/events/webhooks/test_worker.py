"""Webhooks with real workers: killed in the middle, and with exports and slow endpoints beside them."""

import asyncio
import signal
from pathlib import Path

import asyncpg
import msgspec

from erp_service.access.roles import Role
from erp_service.audit.record import record
from erp_service.db.engine import Database
from erp_service.events.webhooks.tasks import SLOTS
from erp_service.settings import Settings
from tests.acceptance.instances import worker
from tests.events.webhooks.endpoints import WHO, make, seen
from tests.events.webhooks.receiving import Received, Receiver, Reply, receiving
from tests.support.clients import SignIn, UserClient
from tests.support.databases import connected
from tests.support.waiting import eventually
from tests.support.workers import Work, working


async def happen(database: Database, count: int, action: str = "item.updated") -> None:
    """Events that a worker has to seal."""
    for number in range(count):
        async with database.write() as db:
            await record(db, WHO, action, number)


async def test_killed_worker_loses_nothing_and_no_order(
    admin: UserClient, receiver: Receiver, settings: Settings, database: Database, owner: asyncpg.Connection,
    tmp_path: Path,
) -> None:  # fmt: skip
    """It is killed after the endpoint has taken an event, and before that is recorded: its successor, which rescues the
    job, sends that event again, under the same id, and then those after it."""
    made = await make(admin, receiver.url(), types=["item.updated"])
    await happen(database, 12)
    async with worker(settings, tmp_path / "a.log") as first, worker(settings, tmp_path / "b.log") as second:

        async def answer(request: Received) -> Reply:
            if len(receiver.requests) == 5:
                pid = await owner.fetchval(
                    "select pid from queue_workers w join procrastinate_jobs j on j.worker_id = w.worker_id"
                    " where j.task_name = 'webhooks:deliver' and j.status = 'doing'"
                )
                next(each for each in (first, second) if each.pid == pid).signal(signal.SIGKILL)
            return Reply()

        receiver.answer = answer

        async def all_delivered() -> bool:
            return bool((await seen(admin, made))["lag"] == 0 and receiver.requests)

        await eventually(all_delivered, seconds=60)
    positions = receiver.positions
    assert sorted(set(positions)) == list(range(positions[0], positions[0] + 12)), "each came"
    assert positions == sorted(positions), "none came before one with a smaller position"
    assert [positions.count(position) for position in sorted(set(positions))] == [1, 1, 1, 1, 2, *[1] * 7]
    assert len({request.id for request in receiver.requests}) == 12


async def test_slow_endpoints_and_exports_leave_each_other_their_slots(
    admin: UserClient, receiver: Receiver, settings: Settings, database: Database, work: Work
) -> None:
    release = asyncio.Event()

    async def hang(_request: Received) -> Reply:
        await release.wait()
        return Reply()

    async with receiving() as slow:
        slow.answer = hang
        for number in range(SLOTS):
            await make(admin, slow.url(path=f"/{number}"), types=["item.updated"])
        await happen(database, 1)
        async with work(queues=None):

            async def all_hang() -> bool:
                return len(slow.requests) == SLOTS

            await eventually(all_hang)
            job = (await admin.post("/api/v1/exports/jobs", json={"dataset": "items"})).json()["id"]

            async def exported() -> bool:
                return bool((await admin.get(f"/api/v1/exports/jobs/{job}")).json()["status"] == "succeeded")

            await eventually(exported)
            assert not release.is_set()
            release.set()


async def test_exports_that_take_every_shared_slot_leave_webhooks_theirs(
    sign_in: SignIn, receiver: Receiver, settings: Settings, database: Database, owner: asyncpg.Connection
) -> None:
    first, second = await sign_in(Role.ADMIN), await sign_in(Role.ADMIN)
    made = await make(first, receiver.url(), types=["item.updated"])
    for client in (first, second) * 2:
        body = {"dataset": "items", "force_new": True}
        assert (await client.post("/api/v1/exports/jobs", json=body)).status_code == 202
    settings = msgspec.structs.replace(settings, worker_concurrency=2)
    async with connected(settings.migration_database_url or "") as blocker, blocker.transaction():
        # an export of a locked table takes as long as the test wants
        await blocker.execute("lock table items in access exclusive mode")
        async with working(settings, queues=None, grace_seconds=0):

            async def all_taken() -> bool:
                doing = "select count(*) from procrastinate_jobs where status = 'doing' and queue_name like 'exports%'"
                return bool(await owner.fetchval(doing) == 3)

            await eventually(all_taken)
            await happen(database, 3)

            async def delivered() -> bool:
                return len(receiver.requests) == 3

            await eventually(delivered)
            assert await all_taken()
            waiting = "select count(*) from procrastinate_jobs where status = 'todo' and queue_name like 'exports%'"
            assert await owner.fetchval(waiting) == 1, "and exports take none of theirs"
            await blocker.execute("rollback; begin")
    assert (await seen(first, made))["failures"] == 0
