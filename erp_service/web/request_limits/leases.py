"""What one instance has leased of the counts that all instances share: the rules, without a clock and a database.

A window of a caller is counted once, in the database (counts.py). An instance leases several uses of it at once, and
lets requests through as long as it has one left: that is the whole cost of most requests. It asks for more before they
are used up, for as many as the caller uses in `ahead_seconds`; the database grants less and less of them as fewer
remain, so that in the end each use is asked for by itself. What a caller leaves unused goes back after `idle_seconds`.

So never more than the limit pass in a window, whatever the instances do: a use is leased once, and a lease ends no
later than its window. If an instance crashes, what it had leased is lost until the window ends: then fewer pass. A
caller is refused only when all uses that are left are leased to other instances."""

from collections.abc import Container, Iterable, Mapping
from datetime import datetime
from math import ceil
from typing import NamedTuple

NEVER = float("-inf")


class Tuning(NamedTuple):
    """Leases are for the uses of `ahead_seconds` at the present rate, and for `least_ahead` uses at least.

    A caller who was refused is refused again for `refused_seconds` without asking: a flood costs ten statements a
    second and not one for each request."""

    ahead_seconds: float = 1.0
    least_ahead: int = 16
    idle_seconds: float = 5.0
    refused_seconds: float = 0.1


class Demand(NamedTuple):
    """What an instance asks of the count of one caller, who may have `most` uses: one for each of the requests that are
    `waiting`, and some `ahead`. It gives back those uses of `window` that it has `unused`."""

    key: str
    most: int
    waiting: int
    ahead: int
    unused: int
    window: datetime | None


class Grant(NamedTuple):
    """The answer: how many uses it gets, and how many are `taken` then, used or leased by any instance. `window` is the
    timestamp at which the window ends, `seconds` the time until then."""

    key: str
    granted: int
    taken: int
    window: datetime
    seconds: float


class Lease:
    """The uses of one caller that this instance has `left`. Times are of its own monotonic clock, in seconds."""

    __slots__ = ("ends_at", "filled", "filled_at", "key", "left", "most", "refused_until", "taken", "used_at", "window")

    def __init__(self, key: str, most: int) -> None:
        self.key, self.most = key, most
        self.left = self.filled = self.taken = 0
        self.window: datetime | None = None
        self.ends_at = self.filled_at = self.used_at = self.refused_until = NEVER

    def remaining(self) -> int:
        """Of all uses in the window, as far as this instance knows: what others have used since is not in it."""
        return self.left + max(0, self.most - self.taken)

    def is_exhausted(self, now: float) -> bool:
        """None is left here, and when this instance last asked, none was left to lease."""
        return not self.left and self.taken >= self.most and now < self.ends_at

    def is_refused(self, now: float) -> bool:
        """That was a moment ago."""
        return now < self.refused_until and self.is_exhausted(now)


class Leases:
    """Those of one instance."""

    def __init__(self, tuning: Tuning = Tuning()) -> None:  # noqa: B008 it is immutable
        self._tuning = tuning
        self._leases: dict[str, Lease] = {}
        self._low: set[str] = set()

    def __len__(self) -> int:
        return len(self._leases)

    def of(self, key: str, most: int) -> Lease:
        if (lease := self._leases.get(key)) is None:
            lease = self._leases[key] = Lease(key, most)
        lease.most = most
        return lease

    def use(self, lease: Lease, now: float) -> bool:
        """Use one if the lease has one left. This is on the path of every request."""
        lease.used_at = now
        if lease.left <= 0 or now >= lease.ends_at:
            return False
        lease.left -= 1
        if lease.left * 2 < lease.filled:
            self._low.add(lease.key)
        return True

    def demands(self, waiting: Mapping[str, int], now: float) -> list[Demand]:
        """What to ask for at this moment: for those who wait, and for leases of which less than half is left."""
        keys = [*waiting, *(key for key in self._low if key not in waiting)]
        self._low.clear()
        made = (self._demand(lease, waiting.get(key, 0), now) for key in keys if (lease := self._leases.get(key)))
        return [demand for demand in made if demand.waiting or demand.ahead]

    def _demand(self, lease: Lease, waiting: int, now: float) -> Demand:
        left = lease.left if now < lease.ends_at else 0
        rate = (lease.filled - left + waiting) / max(now - lease.filled_at, 0.001)
        wanted = max(self._tuning.least_ahead, ceil(rate * self._tuning.ahead_seconds))
        return Demand(lease.key, lease.most, waiting, min(max(0, wanted - left), lease.most), 0, None)

    def unused(self, now: float, *, besides: Container[str] = (), idle_seconds: float | None = None) -> list[Demand]:
        """What callers have left who used none for `idle_seconds`, `besides` those who wait: it is given back with
        these demands, and no longer leased."""
        idle_seconds = self._tuning.idle_seconds if idle_seconds is None else idle_seconds
        idle = [
            lease for key, lease in self._leases.items() if now - lease.used_at >= idle_seconds and key not in besides
        ]
        for lease in idle:
            del self._leases[lease.key]
        return [
            Demand(lease.key, lease.most, 0, 0, lease.left, lease.window)
            for lease in idle
            if lease.left and now < lease.ends_at
        ]

    def apply(self, grants: Iterable[Grant], *, sent_at: float, now: float) -> None:
        """The answers to demands that were sent at `sent_at`, a time before the database looked at its clock: so a
        lease ends before its window, and no use of one window is let through in the next."""
        for grant in grants:
            if (lease := self._leases.get(grant.key)) is None:
                # it was idle, and this answers what it gave back
                continue
            if grant.window != lease.window:
                lease.window, lease.left = grant.window, 0
            lease.left += grant.granted
            lease.taken, lease.ends_at = grant.taken, sent_at + grant.seconds
            lease.filled, lease.filled_at = lease.left, now
            lease.refused_until = now + self._tuning.refused_seconds
