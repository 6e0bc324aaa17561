"""Attempts at exports: snapshot, cancel, drain, loss, rights, faults; with real workers in this process."""

import contextlib
import csv
import errno
import io
from collections.abc import AsyncIterator, Awaitable
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from erp_service.db.engine import Database
from erp_service.exports.context import ExportContext
from erp_service.exports.lifecycle import Run
from erp_service.exports.problems import StoreUnavailable, StoreUnknown
from erp_service.exports.run import attempt as running
from erp_service.exports.run import store_failures
from erp_service.exports.storage.base import FileHeaders, FileKey, Sink, Store
from erp_service.exports.storage.files import FileStore
from erp_service.queue.attempts import JobAttempt
from tests.exports.attempts import published
from tests.exports.data import copies, fill, many_items
from tests.exports.jobs import JOBS, done, reaches, row_of, submitted
from tests.exports.storage.gated_store import GatedStore
from tests.support.clients import SignIn, UserClient
from tests.support.waiting import eventually
from tests.support.workers import Work


def files(store: Store) -> list[str]:
    assert isinstance(store, FileStore)
    directory = store.directory
    return sorted(p.name for p in directory.iterdir() if not p.name.startswith(".")) if directory.exists() else []


@pytest.fixture
def gated(store: Store) -> GatedStore:
    return GatedStore(store)


TRANSFER = """
insert into stock_ledger (transaction_id, line, item_id, location_id, entry_type, quantity, value, on_hand_after,
    occurred_at)
select id, 1, 1, $1, $2, $3, 0, 0, now() from stock_transactions limit 1"""


async def transfer(connection: asyncpg.Connection) -> None:
    """From one place to another: the sum over all places stays what it was."""
    async with connection.transaction():
        await connection.execute(TRANSFER, 1, "TRANSFER_OUT", Decimal(-1))
        await connection.execute(TRANSFER, 2, "TRANSFER_IN", Decimal(1))


async def test_snapshot_holds_no_half_of_what_is_traded_meanwhile(
    staff: UserClient, owner: asyncpg.Connection, work: Work, gated: GatedStore
) -> None:
    await fill(owner, staff.user_id, movements=30_000)
    before = await owner.fetchrow("select count(*), sum(quantity) from stock_ledger")
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(work(store=gated))
        # one posting is open, half written, when the snapshot is taken
        async with owner.transaction():
            await owner.execute(TRANSFER, 1, "TRANSFER_OUT", Decimal(-1))
            export_id = await submitted(staff, "stock_movements")
            await gated.reached.wait()
            await owner.execute(TRANSFER, 2, "TRANSFER_IN", Decimal(1))
        for _ in range(20):
            await transfer(owner)
        gated.gate.set()
        job = await reaches(staff, export_id, "succeeded", "failed")
    text = (await staff.get(f"{JOBS}/{export_id}/download")).text
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert (len(rows), sum(Decimal(row["quantity"]) for row in rows)) == tuple(before)
    assert job["result"]["rows"] == len(rows)
    assert job["progress"]["percent"] == 100


async def test_cancel_in_the_middle_of_the_copy_stops_it(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, work: Work, gated: GatedStore, store: Store
) -> None:
    await many_items(owner)
    async with work(store=gated):
        export_id = await submitted(viewer)
        await gated.reached.wait()
        assert await copies(owner) == 1
        answer = await viewer.post(f"{JOBS}/{export_id}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (200, "canceling")
        # the gate stays closed: a COPY that is not stopped waits for ever
        await reaches(viewer, export_id, "canceled")
        await eventually(lambda: is_zero(copies(owner)))
        assert files(store) == []
        # the worker still works
        gated.gate.set()
        assert (await done(viewer))["status"] == "succeeded"


async def is_zero(count: Awaitable[int]) -> bool:
    return await count == 0


async def test_cancel_is_heard_through_the_row_when_the_queue_says_nothing(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, work: Work, gated: GatedStore, store: Store
) -> None:
    await many_items(owner)
    async with work(store=gated):
        export_id = await submitted(viewer)
        await gated.reached.wait()
        await owner.execute("update export_jobs set status = 'canceling'")
        await reaches(viewer, export_id, "canceled")
        await eventually(lambda: is_zero(copies(owner)))
        assert files(store) == []


async def test_run_that_lost_its_export_stops_and_removes_only_its_own_file(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, work: Work, gated: GatedStore, store: Store
) -> None:
    await many_items(owner)
    async with work(store=gated):
        export_id = await submitted(viewer)
        await gated.reached.wait()
        rescuers = FileKey.read(f"{export_id}.2.csv")
        assert rescuers is not None
        async with store.writing(rescuers) as sink:
            await sink(b"the rescuer's")
        await owner.execute("update export_jobs set attempt = 2")
        await eventually(lambda: is_zero(copies(owner)))
        await eventually(lambda: is_alone(store, str(rescuers)))
        assert (await row_of(owner, export_id))["status"] == "running"


async def test_run_whose_number_was_given_out_again_leaves_the_file_of_the_run_that_published(
    viewer: httpx.AsyncClient, database: Database, owner: asyncpg.Connection, work: Work, gated: GatedStore,
    store: FileStore,
) -> None:  # fmt: skip
    """A failover has lost its claim, so another run has got the same number, and with it the same key."""
    await many_items(owner)
    async with work(store=gated):
        export_id = await submitted(viewer)
        await gated.reached.wait()
        job_id = (await row_of(owner, export_id))["queue_job_id"]
        run = Run(UUID(export_id), JobAttempt(job_id, 1))
        (store.directory / str(FileKey(run.id, 1, "csv"))).write_bytes(b"the other run's")
        await published(database, run)
        ended = "select not exists (select from procrastinate_jobs where id = $1)"
        await eventually(lambda: owner.fetchval(ended, job_id))
        assert files(store) == [f"{export_id}.1.csv"]


async def is_alone(store: Store, name: str) -> bool:
    return files(store) == [name]


async def test_drain_puts_the_export_back_and_another_worker_finishes_it(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, work: Work, gated: GatedStore, store: Store
) -> None:
    await many_items(owner)
    async with work(store=gated, grace_seconds=0.1):
        export_id = await submitted(viewer)
        await gated.reached.wait()
    row = await row_of(owner, export_id)
    assert (row["status"], row["attempt"]) == ("queued", 1)
    assert files(store) == []
    async with work():
        job = await reaches(viewer, export_id, "succeeded", "failed")
    assert (job["status"], job["attempt"], job["result"]["rows"]) == ("succeeded", 2, 60_000)


async def test_twenty_jobs_each_run_once_by_two_workers(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, work: Work, store: Store
) -> None:
    async with work(), work():
        ids = [await submitted(viewer) for _ in range(20)]
        jobs = [await reaches(viewer, export_id, "succeeded", "failed") for export_id in ids]
    assert [(job["status"], job["attempt"]) for job in jobs] == [("succeeded", 1)] * 20
    assert files(store) == sorted(f"{export_id}.1.csv" for export_id in ids)
    assert await owner.fetchval("select count(*) from audit_log where action = 'export.succeeded'") == 20


async def test_publication_that_the_database_refuses_leaves_no_file(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, work: Work, store: Store
) -> None:
    await owner.execute("alter table export_jobs add constraint never check (status <> 'succeeded')")
    async with work():
        job = await done(viewer)
    assert (job["status"], job["error"]["type"]) == ("failed", "/problems/export-failed")
    assert files(store) == []


class Stopped(BaseException):
    """Ends the code as a kill does: no handler catches it."""


async def test_crash_between_rename_and_publish_never_looks_whole_and_the_next_attempt_writes_its_own_file(
    viewer: httpx.AsyncClient,
    owner: asyncpg.Connection,
    resources: ExportContext,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    export_id = await submitted(viewer)
    row = await row_of(owner, export_id)

    async def killed(*_: object, **__: object) -> None:
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr("erp_service.exports.lifecycle.publish", killed)
        with pytest.raises(Stopped):
            await running.perform(resources, Run(row["id"], JobAttempt(row["queue_job_id"], 1)))
    assert files(store) == [f"{export_id}.1.csv"]
    assert (await viewer.get(f"{JOBS}/{export_id}/download")).status_code == 409
    await running.perform(resources, Run(row["id"], JobAttempt(row["queue_job_id"], 2)))
    assert (await row_of(owner, export_id))["file_key"] == f"{export_id}.2.csv"
    assert (await viewer.get(f"{JOBS}/{export_id}/download")).status_code == 200


@pytest.mark.parametrize("change", ["role = 'STAFF'", "is_active = false"])
async def test_owner_who_lost_the_right_while_waiting_gets_no_file(
    change: str, admin: httpx.AsyncClient, sign_in: SignIn, owner: asyncpg.Connection, work: Work, store: Store
) -> None:
    export_id = await submitted(admin, "users")
    await owner.execute(f"update users set {change}")
    async with work():
        await eventually(lambda: ended(owner, export_id))
    row = await row_of(owner, export_id)
    assert row["status"] == "failed"
    assert "/problems/export-forbidden" in row["error"]
    assert files(store) == []


async def ended(owner: asyncpg.Connection, export_id: str) -> bool:
    return (await row_of(owner, export_id))["finished_at"] is not None


async def test_full_disk_fails_the_export_with_a_problem_that_says_so(
    viewer: httpx.AsyncClient, work: Work, store: Store
) -> None:
    class Full(GatedStore):
        @contextlib.asynccontextmanager
        async def writing(self, key: FileKey, headers: FileHeaders | None = None) -> AsyncIterator[Sink]:
            async with store.writing(key, headers):

                async def write(_: bytes) -> None:
                    raise OSError(errno.ENOSPC, "No space left on device")

                yield write

    async with work(store=Full(store)):
        job = await done(viewer)
    assert (job["status"], job["error"]["type"]) == ("failed", "/problems/export-store-full")
    assert files(store) == []


async def test_fault_of_the_service_fails_the_export_and_shows_nothing_of_it(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, work: Work
) -> None:
    await owner.execute("revoke select on items from erp_worker")
    async with work():
        job = await done(viewer)
    assert (job["status"], job["error"]["type"]) == ("failed", "/problems/export-failed")
    assert "items" not in str(job["error"])


async def test_outage_of_the_database_is_no_failure_of_the_export(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, work: Work, gated: GatedStore
) -> None:
    await many_items(owner)
    async with work(store=gated):
        export_id = await submitted(viewer)
        await gated.reached.wait()
        await owner.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'erp export'"
            " and datname = current_database()"
        )
        gated.gate.set()
        job = await reaches(viewer, export_id, "succeeded", "failed")
    assert (job["status"], job["attempt"]) == ("succeeded", 2)


async def test_worker_with_another_directory_leaves_the_export_to_one_with_the_right_one(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, work: Work, tmp_path: Path
) -> None:
    async with work():
        assert (await done(viewer))["status"] == "succeeded"
    async with work(store=FileStore(tmp_path / "elsewhere")):
        export_id = await submitted(viewer)

        async def tried() -> bool:
            row = await row_of(owner, export_id)
            return bool(row["attempt"] == 1 and row["status"] == "queued")

        await eventually(tried)
    async with work():
        job = await reaches(viewer, export_id, "succeeded", "failed")
    assert (job["status"], job["attempt"]) == ("succeeded", 2)


class AwayStore:
    """The real store, which is unavailable for so many attempts to write to it."""

    def __init__(self, store: Store, times: int) -> None:
        self._store, self.times = store, times

    @contextlib.asynccontextmanager
    async def writing(self, key: FileKey, headers: FileHeaders | None = None) -> AsyncIterator[Sink]:
        async with self._store.writing(key, headers) as sink:
            self.times -= 1
            if self.times >= 0:
                raise OSError(errno.EIO, "it cannot be reached")
            yield sink

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


async def test_store_that_does_not_answer_for_a_while_is_tried_again(
    viewer: httpx.AsyncClient, store: Store, work: Work
) -> None:
    async with work(store=AwayStore(store, 1)):
        job = await done(viewer)
    assert (job["status"], job["attempt"]) == ("succeeded", 2)
    assert [kept.key.attempt async for kept in store.list_files()] == [2]


async def test_store_that_never_answers_fails_the_export_in_the_end_and_says_so(
    viewer: httpx.AsyncClient, store: Store, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(store_failures.MOST_ATTEMPTS, StoreUnavailable, 2)
    async with work(store=AwayStore(store, 100)):
        job = await done(viewer)
    assert (job["status"], job["attempt"]) == ("failed", 2)
    assert job["error"]["type"] == "/problems/export-store-unavailable"
    assert "it cannot be reached" in job["error"]["detail"]


def test_pauses_grow_and_the_export_waits_for_minutes_and_not_for_ever() -> None:
    pauses = {
        kind: sum(map(store_failures.pause, range(1, most))) for kind, most in store_failures.MOST_ATTEMPTS.items()
    }
    assert store_failures.pause(1) == 1
    assert 300 < pauses[StoreUnavailable] < 600
    assert 3000 < pauses[StoreUnknown] < 4500


async def test_progress_is_told_while_the_copy_runs(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, work: Work, gated: GatedStore, database: Database
) -> None:
    await many_items(owner)
    heard: list[str] = []
    await owner.add_listener("erp_exports", lambda *said: heard.append(said[3]))
    async with work(store=gated):
        export_id = await submitted(viewer)

        async def rows_seen() -> int:
            return int((await viewer.get(f"{JOBS}/{export_id}")).json()["progress"]["rows_done"])

        assert await eventually(rows_seen) < 60_000
        job = (await viewer.get(f"{JOBS}/{export_id}")).json()
        assert job["progress"]["rows_total"] == 60_000
        assert 0 < job["progress"]["percent"] < 100
        assert export_id in heard
        gated.gate.set()
        assert (await reaches(viewer, export_id, "succeeded"))["progress"]["percent"] == 100
