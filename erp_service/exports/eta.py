"""How far an export is and how long it will take: arithmetic on counts of rows, whatever their source.

A total that Postgres estimated may be far too low. While the rows done are at most nine tenths of it, the total is
trusted. Every further row shows that the total was too low: the percentage then approaches 100 and never reaches it."""

import math
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

MEMORY = 10.0
"""Seconds after which a measurement has lost most of its weight: short enough to follow a change of speed, long enough
to smooth the bursts of a buffer."""

_TRUSTED = 0.9  # share of an estimate
_MOST = 99.9  # per cent, until the file is published


class Progress(msgspec.Struct):
    """`percent` never goes back within an attempt, and is 100 only at the end; null while it is not known."""

    rows_done: Annotated[int, Meta(description="rows that are written")]
    rows_total: Annotated[int | None, Meta(description="rows of the whole export; null while it is not known")]
    rows_total_is_estimate: Annotated[bool, Meta(description="whether that is an estimate of Postgres")]
    bytes: Annotated[int, Meta(description="the size of what is written")]
    percent: Annotated[
        float | None,
        Meta(description="never goes back within an attempt, and is 100 only at the end; null while it is not known"),
    ]
    eta_seconds: Annotated[int | None, Meta(description="how long it still takes; null while it is not known")]


class Pace(NamedTuple):
    """Rows and seconds since the first rows arrived. Both decay alike, so their quotient is a rate at any time."""

    rows: float = 0.0
    seconds: float = 0.0

    def onward(self, *, rows: int, seconds: float) -> "Pace":
        """The pace after `rows` more rows in `seconds`."""
        seconds = max(seconds, 0.0)
        weight = math.exp(-seconds / MEMORY)
        return Pace(self.rows * weight + rows, self.seconds * weight + seconds)


def progress(
    *,
    rows_done: int,
    rows_total: int | None,
    is_estimate: bool,
    bytes_done: int,
    percent: float,
    pace: Pace,
    is_running: bool,
    is_published: bool,
) -> Progress:
    """Computed from the row alone and not from the clock, so the same row always gives the same progress."""
    if is_published:
        return Progress(rows_done, rows_total, is_estimate, bytes_done, 100.0, 0)
    if rows_total is None:
        return Progress(rows_done, None, is_estimate, bytes_done, None, None)
    eta = eta_seconds(pace, rows_done=rows_done, rows_total=rows_total, is_estimate=is_estimate) if is_running else None
    # with more rows done than were estimated, the total is at least that many
    total = max(rows_total, rows_done) if is_estimate else rows_total
    return Progress(rows_done, total, is_estimate, bytes_done, percent, eta)


def percent(*, rows_done: int, rows_total: int, is_estimate: bool) -> float:
    """Rounded down to tenths, and below 100: only the published file is 100 per cent."""
    share = _share(rows_done, rows_total, is_estimate=is_estimate)
    return min(_MOST, math.floor(share * 1000) / 10)


def eta_seconds(pace: Pace, *, rows_done: int, rows_total: int, is_estimate: bool) -> int | None:
    """None while no rate is known."""
    if pace.rows <= 0 or pace.seconds <= 0 or rows_done <= 0:
        return None
    expected = rows_done / _share(rows_done, rows_total, is_estimate=is_estimate)
    return math.ceil(max(expected - rows_done, 0.0) * pace.seconds / pace.rows)


def _share(rows_done: int, rows_total: int, *, is_estimate: bool) -> float:
    """From 0 to 1; above 0 once there is a row, and growing with the rows."""
    done = rows_done / max(rows_total, 1)
    if not is_estimate or done <= _TRUSTED:
        return min(done, 1.0)
    rest = 1 - _TRUSTED
    # joins the straight line with the same value and the same slope
    return 1 - rest / (1 + (done - _TRUSTED) / rest)
