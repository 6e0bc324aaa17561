"""How far an export is and how long it will take, from counts of rows: the arithmetic, apart from where they come from.

A total that Postgres estimated may be far too low. Up to nine tenths of it, rows count for what they say; beyond, each
further row says that the total was too low, and the percentage comes ever closer to the end without reaching it."""

import math
from typing import NamedTuple

MEMORY = 10.0
"""Seconds in which what was measured loses most of its weight: short enough to follow a change of speed, long enough
not to follow each burst of a buffer."""

_TRUSTED = 0.9  # of an estimate
_MOST = 99.9  # per cent, until the file is there


class Pace(NamedTuple):
    """Rows and seconds since the first rows came, both fading alike, so that their quotient is a rate at any age."""

    rows: float = 0.0
    seconds: float = 0.0

    def onward(self, *, rows: int, seconds: float) -> "Pace":
        """After `rows` more in `seconds`."""
        seconds = max(seconds, 0.0)
        kept = math.exp(-seconds / MEMORY)
        return Pace(self.rows * kept + rows, self.seconds * kept + seconds)


def percent(*, rows_done: int, rows_total: int, is_estimate: bool) -> float:
    """Rounded down to tenths: a hundred is said by the published file, and by nothing else."""
    share = _share(rows_done, rows_total, is_estimate=is_estimate)
    return min(_MOST, math.floor(share * 1000) / 10)


def eta_seconds(pace: Pace, *, rows_done: int, rows_total: int, is_estimate: bool) -> int | None:
    """None while no rate is known."""
    if pace.rows <= 0 or pace.seconds <= 0 or rows_done <= 0:
        return None
    expected = rows_done / _share(rows_done, rows_total, is_estimate=is_estimate)
    return math.ceil(max(expected - rows_done, 0.0) * pace.seconds / pace.rows)


def _share(rows_done: int, rows_total: int, *, is_estimate: bool) -> float:
    """Between 0 and 1, and above 0 as soon as there is a row; grows with the rows."""
    done = rows_done / max(rows_total, 1)
    if not is_estimate or done <= _TRUSTED:
        return min(done, 1.0)
    rest = 1 - _TRUSTED
    # meets the straight line with the same value and the same slope
    return 1 - rest / (1 + (done - _TRUSTED) / rest)
