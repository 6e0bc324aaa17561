"""What happens to the service while the shop is open."""

import asyncio
from random import Random
from time import monotonic

from tests.soak import fleet as fleets
from tests.soak.fleet import Fault, Fleet

WEIGHTS: dict[Fault, int] = {
    fleets.kill_instance: 30,
    fleets.kill: 30,
    fleets.pause: 10,
    fleets.pause_instance: 3,
    fleets.drain: 8,
    fleets.drain_instance: 8,
    fleets.cut: 5,
    fleets.restart_fast: 3,
    fleets.restart_immediate: 3,
}


async def trouble(fleet: Fleet, random: Random, until: float) -> None:
    """One fault after the other, with a pause in which the shop gets on."""
    while (left := until - monotonic()) > 0:
        await asyncio.sleep(min(random.uniform(2, 10), left))
        (fault,) = random.choices(list(WEIGHTS), list(WEIGHTS.values()))
        await fault(fleet, Random(random.random()))
