"""The shared counts in memory, with a clock that the test moves: what counts.py's statement does, in Python."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from erp_service.web.request_limits.leases import Demand, Grant

START = datetime(2026, 1, 1, tzinfo=UTC)


class Count(NamedTuple):
    taken: int
    resets_at: float


class SharedCounts:
    """`now` is the database's clock, in seconds."""

    def __init__(self, seconds: float) -> None:
        self.now = 0.0
        self.seconds = seconds
        self.counts: dict[str, Count] = {}

    def settle(self, demands: Sequence[Demand]) -> list[Grant]:
        return [self._grant(demand) for demand in demands]

    def _grant(self, demand: Demand) -> Grant:
        taken, resets_at = self.counts.get(demand.key, Count(0, float("-inf")))
        if resets_at <= self.now:
            taken, resets_at = 0, self.now + self.seconds
        elif demand.window == timestamp(resets_at):
            taken = max(0, taken - demand.unused)
        free = max(0, demand.most - taken)
        share = int((free - demand.waiting) / 8)
        granted = min(free, demand.waiting + min(demand.ahead, share))
        self.counts[demand.key] = Count(taken + granted, resets_at)
        return Grant(demand.key, granted, taken + granted, timestamp(resets_at), resets_at - self.now)


def timestamp(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)
