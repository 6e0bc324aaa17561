"""What must hold after each failover: what the clients were told is there exactly once, and nothing else is."""

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic
from typing import Any

from msgspec import Struct

from tests.containers.archive import wal_archived
from tests.containers.stack import CommandFailed
from tests.failover.cluster import Cluster
from tests.failover.ground import PLACE, SCHEDULES
from tests.failover.journal import Journal

TICK = timedelta(minutes=5)
ARCHIVED_SECONDS = 180.0
"""A deadline; the receiver of the log looks for another leader by itself."""
LATE_SECONDS = 60.0
"""A deadline for a run of a schedule that is due, with the cluster whole."""

_ENTRIES = (
    "select json_agg(json_build_array(e.notes, e.transaction_id)) from stock_ledger e"
    f" join locations l on l.id = e.location_id where l.code = '{PLACE}'"
)
_EXPORTS = (
    "select json_agg(json_build_array(j.id, j.status, j.attempt, (select count(*) from audit_log a"
    " where a.action = 'export.succeeded' and a.entity_id = j.id::text))) from export_jobs j"
)
_TICKS = (
    "select json_agg(json_build_array(s.id, s.cron, extract(epoch from s.created_at),"
    " (select json_agg(a.after ->> 'due_at') from audit_log a"
    " where a.action = 'schedule.run' and a.entity_id = s.id::text))),"
    " extract(epoch from now()) from export_schedules s"
)


class Books(Struct, frozen=True):
    """How many postings were acknowledged, are not there, are there more than once, and are there though nobody was
    told or could expect it."""

    acknowledged: int
    lost: int
    doubled: int
    unexpected: int


async def books(cluster: Cluster, journal: Journal) -> Books:
    """While the clients go on: what was acknowledged before the ledger is read must be in it, and what is in it, must
    have been sent before."""
    before = dict(journal.postings)
    there = await _rows(cluster, _ENTRIES)
    count = Counter(key for key, _ in there)
    ids = dict(there)
    lost = sum(1 for key, transaction in before.items() if ids.get(key) != transaction)
    doubled = sum(1 for many in count.values() if many > 1)
    unexpected = sum(1 for key in count if key not in journal.postings and key not in journal.unknown)
    return Books(len(before), lost, doubled, unexpected)


class Exports(Struct, frozen=True):
    """`again` is how many more than one start all of them had together; `faults` names those that did not succeed
    exactly once."""

    total: int
    again: int
    faults: list[str]


async def exports(cluster: Cluster, journal: Journal) -> Exports:
    """Once those that were submitted before have ended, of clients and of schedules."""
    acknowledged = list(journal.exports)

    async def ended() -> list[Any] | None:
        rows = {row[0]: row for row in await _rows(cluster, _EXPORTS)}
        missing = [id_ for id_ in acknowledged if id_ not in rows]
        if missing:
            return [[id_, "not there", 0, 0] for id_ in missing]
        return None if any(rows[id_][1] in ("queued", "running") for id_ in acknowledged) else list(rows.values())

    rows = await cluster.until(ended, seconds=90) or []
    done = [row for row in rows if row[1] not in ("queued", "running")]
    faults = [str(row) for row in done if row[1] not in ("succeeded", "expired") or row[3] != 1]
    return Exports(len(done), sum(row[2] - 1 for row in done if row[2] > 1), faults)


async def ticks(cluster: Cluster) -> list[str]:
    """Faults: times of a schedule at which it did not run exactly once."""

    async def look() -> list[str] | None:
        faults = await _faults_of_ticks(cluster)
        return None if any("no run" in fault for fault in faults) else [*faults, ""]

    try:
        faults = await cluster.until(look, seconds=LATE_SECONDS) or []
    except AssertionError:
        faults = await _faults_of_ticks(cluster)
    return [fault for fault in faults if fault]


async def _faults_of_ticks(cluster: Cluster) -> list[str]:
    told, _, now = (await cluster.sql(_TICKS)).rpartition("|")
    schedules = json.loads(told)
    assert len(schedules) == SCHEDULES
    faults = []
    for id_, cron, created, runs in schedules:
        ran = Counter(datetime.fromisoformat(run) for run in runs or [])
        due = _due(int(cron.partition("-")[0]), float(created), float(now))
        faults += [f"schedule {id_}: no run at {time:%H:%M}" for time in due if not ran[time]]
        faults += [f"schedule {id_}: {many} runs at {time:%H:%M}" for time, many in ran.items() if many > 1]
        faults += [f"schedule {id_}: a run at {time:%H:%M:%S}" for time in ran if time not in due]
    return faults


def _due(phase: int, created: float, now: float) -> list[datetime]:
    """The times since it was made at which a schedule of every five minutes is due."""
    first = datetime.fromtimestamp(created, UTC).replace(minute=0, second=0, microsecond=0) + timedelta(minutes=phase)
    every = (first + n * TICK for n in range(int((now - first.timestamp()) // TICK.total_seconds()) + 1))
    return [time for time in every if time.timestamp() > created]


async def verified(cluster: Cluster) -> str:
    """`holds`, or what `erp verify` found."""
    (api, *_) = await cluster.containers("api")
    try:
        await cluster.inside(api, "erp", "verify")
    except CommandFailed as failed:
        return str(failed)
    return "holds"


async def archived(cluster: Cluster) -> float:
    """Seconds until the database can be restored to the time at which this was called."""
    began = monotonic()
    now = float(await cluster.sql("select extract(epoch from clock_timestamp())"))
    await cluster.until(partial(wal_archived, cluster, now), seconds=ARCHIVED_SECONDS)
    return monotonic() - began


async def _rows(cluster: Cluster, statement: str) -> list[Any]:
    """In a thread: there may be a hundred thousand, and clients are being measured."""
    told = await cluster.sql(statement)
    rows: list[Any] = await asyncio.to_thread(json.loads, told or "[]")
    return rows
