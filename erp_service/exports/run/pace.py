"""How large exports give way to other work: while the database serves others and this host has no core to spare, they
copy for a part of the time only.

A COPY keeps a core of the server busy, and no setting of Postgres gives it a lower priority. But it waits for whoever
reads it: a worker that pauses between two pieces makes the server pause with it. An export that has the machine to
itself is as fast as without this. Where Postgres runs on another host than the worker, that host's cores are not known
here, and nothing gives way."""

import asyncio
from pathlib import Path
from time import monotonic
from typing import NamedTuple

from sqlalchemy import text

from erp_service.db.engine import Database

SHARE = 0.25
"""Of the time, for all connections of one export together. The figures are in ops/exports.md."""

BUSY, CALM = 120.0, 60.0
"""Transactions a second of the whole database, from which on others are at work, and under which no more. A worker that
has nothing to do makes about ten, and a client that polls the status of its export up to fifty."""

LOOKS = 2
"""So many looks in a row must find others at work: a worker that starts, or a few small exports, are a burst of one."""

LEAST_IDLE = 0.1
"""The part of the host's processor time that is left over while there is a core to spare."""

_LONGEST_REST = 0.1  # seconds: a piece that took long has waited for the disk, or for its turn, more than it has worked
_CPU_TIMES = Path("/proc/stat")

# the counters of a backend arrive here within a second
_TRANSACTIONS = text("select xact_commit + xact_rollback from pg_stat_database where datname = current_database()")


class Counters(NamedTuple):
    """Counted from any beginning: `at` in seconds, `idle` and `cpu` in the same unit of processor time."""

    at: float
    transactions: int
    idle: int
    cpu: int


class Pace:
    """One for all exports of a worker."""

    def __init__(self, *, share: float = SHARE) -> None:
        self.gives_way = False
        self._busy_looks = 0
        self._share = share
        self._last: Counters | None = None

    def observe(self, now: Counters) -> None:
        """Decide anew, by what has changed since the last call.

        Idle time counts only at the beginning: an export that gives way leaves some."""
        last, self._last = self._last, now
        if last is None or now.at <= last.at or now.cpu <= last.cpu:
            return
        transactions = (now.transactions - last.transactions) / (now.at - last.at)
        if self.gives_way:
            self.gives_way, self._busy_looks = transactions >= CALM, 0
            return
        is_busy = transactions >= BUSY and (now.idle - last.idle) / (now.cpu - last.cpu) < LEAST_IDLE
        self._busy_looks = self._busy_looks + 1 if is_busy else 0
        self.gives_way = self._busy_looks >= LOOKS

    async def rest(self, worked: float, *, connections: int) -> None:
        """Call it after a piece that took so many seconds, on one of the export's connections."""
        if self.gives_way:
            await asyncio.sleep(min(worked * (connections / self._share - 1), _LONGEST_REST))


async def look(pace: Pace, database: Database) -> None:
    """Does nothing where the system does not tell how busy its processors are."""
    times = await asyncio.to_thread(_cpu_times)
    if times is None:
        return
    async with database.read() as db:
        transactions = await db.scalar(_TRANSACTIONS)
    pace.observe(Counters(monotonic(), transactions, *times))


def _cpu_times() -> tuple[int, int] | None:
    """The idle and the whole processor time since the start of the host (proc_stat(5)), in one unit."""
    try:
        first = _CPU_TIMES.read_text().partition("\n")[0]
    except OSError:
        return None
    # user, nice, system, idle, iowait, irq, softirq, steal; the guests' times behind them are part of the first two
    times = [int(value) for value in first.split()[1:9]]
    return times[3] + times[4], sum(times)
