"""What must hold after the faults, whatever happened before."""

import asyncio
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

import asyncpg
from msgspec import Struct

from erp_service.audit.sealing.background import sealed_tables
from erp_service.db import locks
from erp_service.db.engine import Database
from erp_service.db.outages import DATABASE_ERRORS
from erp_service.exports import maintenance
from erp_service.exports.context import ExportContext
from erp_service.exports.storage.registry import open_store
from erp_service.settings import Settings
from tests.acceptance.instances import environment
from tests.soak.clients import Ledger
from tests.soak.fleet import Fleet

FINAL_SECONDS = 120.0
"""Seconds after the last fault within which every acknowledged export must have ended."""

SEALED_SECONDS = 20.0
"""Seconds after the last effect within which it must have its position in the trail."""

_OPEN = "select id, status, attempt, queue_job_id from export_jobs where status in ('queued', 'running', 'canceling')"
_HELD = (
    "select objid::bigint from pg_locks where locktype = 'advisory' and objsubid = 2 and classid = $1::bigint::oid"
    " and database = (select oid from pg_database where datname = current_database())"
)


class Figures(Struct):
    """Seconds from a submission to its final state, and how often exports were begun."""

    final_after_quiet: float = 0.0
    median: float = 0.0
    slowest: list[asyncpg.Record] = []
    attempts: Counter[int] = {}  # type: ignore[assignment]
    states: Counter[str] = {}  # type: ignore[assignment]
    swept: int = 0


async def settle(fleet: Fleet, figures: Figures) -> list[str]:
    """Waits until every acknowledged export has ended."""
    if not await fleet.all_up(seconds=60):
        return ["not every process came up again"]
    began = monotonic()
    while rows := await fleet.look(_OPEN):
        if monotonic() - began > FINAL_SECONDS:
            queue = await fleet.look("select id, status, attempts, worker_id from procrastinate_jobs")
            return [f"{len(rows)} exports have not ended: {rows[:5]}; the queue: {queue[:20]}"]
        await asyncio.sleep(0.2)
    figures.final_after_quiet = monotonic() - began
    return []


async def judge(fleet: Fleet, ledger: Ledger, figures: Figures) -> list[str]:
    """All faults of the database, of the store, and of the files as clients download them."""
    faults = await _jobs(fleet, ledger, figures)
    faults += await _queue(fleet)
    faults += await _stock(fleet, ledger)
    await _downloads(ledger)
    faults += await _files(fleet, figures)
    faults += await sealed(fleet)
    faults += await verified(fleet.settings)
    return faults


async def _jobs(fleet: Fleet, ledger: Ledger, figures: Figures) -> list[str]:
    rows = await fleet.look(
        "select id::text, status, attempt, error ->> 'type' as error, deleted_at is not null as deleted,"
        " extract(epoch from finished_at - created_at)::float8 as seconds from export_jobs"
    )
    faults = []
    stored = {row["id"]: row for row in rows}
    if lost := ledger.jobs.keys() - stored.keys():
        faults.append(f"{len(lost)} acknowledged exports are not there: {list(lost)[:5]}")
    if more := stored.keys() - ledger.jobs.keys():
        faults.append(f"{len(more)} exports are there that nobody was told of: {list(more)[:5]}")
    for id_, job in ledger.jobs.items():
        row = stored.get(id_)
        if row is not None and job.canceled and row["status"] != "canceled":
            faults.append(f"export {id_} was canceled, and is {row['status']}")
        if row is not None and job.deleted and not row["deleted"]:
            faults.append(f"export {id_} was deleted, and is there")
    faults += [
        f"export {row['id']} failed: {row['error']}"
        for row in rows
        if row["status"] == "failed" and not row["error"].endswith("export-abandoned")
    ]
    published = Counter(
        row["entity_id"]
        for row in await fleet.look("select entity_id from audit_log where action = 'export.succeeded'")
    )
    ended_well = {row["id"] for row in rows if row["status"] in ("succeeded", "expired")}
    if wrong := {id_ for id_ in published.keys() | ended_well if published[id_] != (id_ in ended_well)}:
        faults.append(f"published not exactly once: {[(id_, published[id_]) for id_ in list(wrong)[:5]]}")
    times = sorted(row["seconds"] for row in rows if row["seconds"] is not None)
    figures.median = times[len(times) // 2] if times else 0.0
    figures.slowest = sorted(rows, key=lambda row: row["seconds"] or 0.0)[:-6:-1]
    figures.attempts = Counter(row["attempt"] for row in rows)
    figures.states = Counter(row["status"] for row in rows)
    return faults


async def _queue(fleet: Fleet) -> list[str]:
    """The only locks are those of the live workers, and the queue is empty."""
    faults = []
    deadline = monotonic() + 20
    while rows := await fleet.look(
        "select id, status, task_name from procrastinate_jobs where status = 'doing'"
        " or (status = 'todo' and task_name = 'exports:run')"
    ):
        if monotonic() > deadline:
            faults.append(f"left in the queue: {rows[:10]}")
            break
        await asyncio.sleep(0.5)
    pids = [seat.process.pid for seat in fleet.of("worker") if seat.process is not None]
    alive = {row[0] for row in await fleet.look("select worker_id from queue_workers where pid = any($1)", pids)}
    held = {row[0] for row in await fleet.look(_HELD, locks.WORKER_CLASS)}
    if held != alive or len(held) != len(pids):
        workers = await fleet.look("select * from queue_workers")
        faults.append(f"workers {sorted(held)} hold locks; alive are {sorted(alive)} of {pids}: {workers}")
    return faults


async def _stock(fleet: Fleet, ledger: Ledger) -> list[str]:
    rows = await fleet.look(
        "select sku, sum(on_hand)::bigint as on_hand from items join stock_balances on item_id = id"
        " where sku like 'SOAK-%' group by sku"
    )
    stored = {row["sku"]: row["on_hand"] for row in rows}
    return [
        f"{sku}: {stored.get(sku, 0)} on hand, {ledger.on_hand[sku]} were acknowledged"
        for sku in stored.keys() | ledger.on_hand.keys()
        if stored.get(sku, 0) != ledger.on_hand[sku]
    ]


async def _downloads(ledger: Ledger) -> None:
    """Downloads every available file through the API; faults are added to those of the ledger."""
    at_once = asyncio.Semaphore(3)
    async with asyncio.TaskGroup() as group:
        for job in ledger.jobs.values():
            await at_once.acquire()
            task = group.create_task(job.client.check(job))
            task.add_done_callback(lambda _: at_once.release())


async def _files(fleet: Fleet, figures: Figures) -> list[str]:
    """After maintenance without its grace period, the store holds exactly the files that rows name."""
    database = Database(fleet.settings, name="erp soak")
    store = open_store(fleet.settings)
    try:
        await maintenance.run(ExportContext(fleet.settings, database, store))
        figures.swept = await maintenance.remove_orphans(database, store, older_than=datetime.now(UTC))
    finally:
        await database.close()
    named = {
        row[0]: row[1]
        for row in await fleet.look("select file_key, result_bytes from export_jobs where status = 'succeeded'")
    }
    there = {path.name: path.stat().st_size for path in _directory(fleet.settings).iterdir() if path.name[0] != "."}
    faults = []
    if missing := named.keys() - there.keys():
        faults.append(f"{len(missing)} published files are not there: {list(missing)[:5]}")
    if strange := there.keys() - named.keys():
        faults.append(f"{len(strange)} files are there that no export names: {list(strange)[:5]}")
    if short := [name for name in named.keys() & there.keys() if named[name] != there[name]]:
        faults.append(f"files of another size than their export says: {short[:5]}")
    return faults


def _directory(settings: Settings) -> Path:
    return Path(settings.export_store.removeprefix("file://"))


async def sealed(fleet: Fleet) -> list[str]:
    """One worker seals, whichever was killed, and nothing is without a position: `erp verify` judges only what is older
    than what was sealed last."""
    deadline = monotonic() + SEALED_SECONDS
    while rows := [row for row in await fleet.look(_unsealed()) if row["count"]]:
        if monotonic() > deadline:
            return [f"not sealed {SEALED_SECONDS} s after the last fault: {rows}"]
        await asyncio.sleep(0.2)
    return []


def _unsealed() -> str:
    tables = [
        f"""
        select '{table.table}' as source, count(*) as count from {table.table} where not coalesce(
          (select range_agg(row_ids) from trail where source = '{table.table}' and audit_id is null) @> id, false)
        """
        for table in sealed_tables()
    ]
    entries = (
        "select 'audit_log' as source, count(*) as count from audit_log"
        " where not exists (select from trail where audit_id = audit_log.id)"
    )
    return " union all ".join([entries, *tables])


async def verified(settings: Settings) -> list[str]:
    """What `erp verify` has found."""
    verify = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "erp_service",
        "verify",
        env=environment(settings),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await verify.communicate()
    return [] if verify.returncode == 0 else [f"erp verify: {said.decode()[:2000]}"]


async def stopped_in_order(fleet: Fleet) -> list[str]:
    """After the last drain no lock is held and no job is running."""
    await fleet.stop_all()
    try:
        held: list[asyncpg.Record] = await fleet.look(_HELD, locks.WORKER_CLASS)
    except DATABASE_ERRORS as exc:
        return [f"the server is gone: {exc!r}"]
    return [f"locks held by nobody that lives: {held}"] if held else []
