"""When an event is sent again that an endpoint did not take."""

import random
from collections.abc import Callable
from datetime import datetime, timedelta

from msgspec import Struct

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86_400.0


class Retries(Struct, frozen=True):
    """Pauses in seconds after the first failure, the second and so on; the last one again and again. Each is lengthened
    by a random part, up to the share `jitter`, so that endpoints of one host that failed together do not return
    together. After `give_up_after` seconds of failures the endpoint is switched off.

    The server's own wish, `Retry-After`, counts instead, up to `longest_wish` seconds."""

    pauses: tuple[float, ...] = (5, 30, 2 * _MINUTE, 15 * _MINUTE, _HOUR, 6 * _HOUR, 12 * _HOUR)
    jitter: float = 0.2
    give_up_after: float = 3 * _DAY
    longest_wish: float = 12 * _HOUR

    def next_attempt(
        self,
        failures: int,
        since: datetime,
        now: datetime,
        wish: float | None = None,
        *,
        draw: Callable[[], float] = random.random,
    ) -> datetime | None:
        """When to try again after so many failures in a row, the first of them at `since`. None: no more.

        There is always an attempt at the end of the time, so an endpoint that came back late is not switched off."""
        end = since + timedelta(seconds=self.give_up_after)
        if now >= end:
            return None
        if wish is None:
            pause = self.pauses[min(failures, len(self.pauses)) - 1] * (1 + self.jitter * draw())
        else:
            pause = min(max(wish, 1.0), self.longest_wish)
        return min(now + timedelta(seconds=pause), end)
