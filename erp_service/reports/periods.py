"""The time that a report is about."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from erp_service import errors
from erp_service.errors import Fault
from erp_service.timestamps import parse_timestamps, parse_zone

MOST_DAYS = 3660
_EARLIEST = 1900


class Span(NamedTuple):
    """`since` <= occurred_at < `until`, in periods of the time zone `timezone`."""

    since: datetime
    until: datetime | None
    timezone: str


def span(since: str | None, until: str | None, timezone: str) -> Span:
    """From query parameters. Without `since`: from the first of the month a year before `until`, or before now.

    Raises errors.Invalid that names every parameter at fault."""
    faults = []
    try:
        where = parse_zone(timezone)
    except ValueError as exc:
        faults.append(Fault(str(exc), parameter="timezone"))
        where = parse_zone("UTC")
    first, end = parse_timestamps(("from", since), ("to", until))
    now = datetime.now(UTC)
    # nothing lies in the future, and the last hours of the year 9999 have no local time everywhere
    latest = min(end or now, now)
    if first is None and latest.year > _EARLIEST + 1:
        # of whole months, so that it is the same for every page that is read today
        local = latest.astimezone(where)
        first = datetime(local.year - 1, local.month, 1, tzinfo=where).astimezone(UTC)
    if first is None or first.year < _EARLIEST:
        faults.append(Fault(f"must not be before the year {_EARLIEST}", parameter="from" if first else "to"))
    elif first >= latest:
        faults.append(Fault("must be before `to`, and not in the future", parameter="from"))
    elif latest - first > timedelta(days=MOST_DAYS):
        faults.append(Fault(f"must not be more than {MOST_DAYS} days before `to`", parameter="from"))
    if first is None or faults:
        raise errors.Invalid(None, *faults)
    return Span(first, end, timezone)
