"""What happens to the shop: instances are killed, together too, Postgres restarts, periods are closed."""

import asyncio
import contextlib
import signal
from collections import Counter
from datetime import UTC, datetime, timedelta
from random import Random
from time import monotonic

from erp_service.access.principals import system
from erp_service.db.engine import Database
from erp_service.db.outages import DATABASE_ERRORS, is_unavailable
from tests.soak import fleet as fleets
from tests.soak.fleet import Fault, Fleet
from tests.support.company import close_through


class BankFleet(Fleet):
    async def busy(self) -> None:
        """Clients post all the time, so every moment is one to disturb."""


async def kill_both(fleet: Fleet, _random: Random) -> None:
    """At the same moment, so that nobody answers until one of them is back."""
    async with contextlib.AsyncExitStack() as stack:
        seats = fleet.of("serve")
        for seat in seats:
            await stack.enter_async_context(seat.taken)
        for seat in seats:
            await fleet.ready(seat)
        for seat in seats:
            seat.expected = "killed"
            seat.send(signal.SIGKILL)
        for seat in seats:
            if seat.process is not None:
                await seat.process.wait()
        fleet.done["kill -9 of both instances"] += 1


WEIGHTS: dict[Fault, int] = {
    fleets.kill_instance: 50,
    kill_both: 25,
    fleets.kill: 5,
    fleets.cut: 8,
    fleets.restart_fast: 5,
    fleets.restart_immediate: 5,
    fleets.pause_instance: 2,
}


async def trouble(fleet: Fleet, random: Random, until: float) -> None:
    """One fault after the other. A kill is over when the process has ended, so the next fault often comes while it
    starts again."""
    while (left := until - monotonic()) > 0:
        await asyncio.sleep(min(random.uniform(1, 6), left))
        (fault,) = random.choices(list(WEIGHTS), list(WEIGHTS.values()))
        await fault(fleet, Random(random.random()))


async def close_periods(fleet: Fleet, random: Random, until: float, done: Counter[str]) -> None:
    """Closes days of the last weeks, and opens them again, as long as the clients post."""
    database = Database(fleet.settings, name="erp bank")
    try:
        while (left := until - monotonic()) > 0:
            await asyncio.sleep(min(random.uniform(2, 8), left))
            day = datetime.now(UTC).date() - timedelta(days=random.randrange(2, 40))
            try:
                async with database.write() as db:
                    await close_through(db, system("bank"), day, reason="the books of that month are corrected")
                done["periods closed or opened"] += 1
            except DATABASE_ERRORS as exc:
                if not is_unavailable(exc):
                    raise
                done["closings cut off"] += 1
    finally:
        await database.close()
