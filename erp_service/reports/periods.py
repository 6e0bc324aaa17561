"""The span of time that a report covers."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from erp_service import errors
from erp_service.errors import Fault
from erp_service.inventory.posting.schemas import EARLIEST
from erp_service.timestamps import parse_timestamps, parse_zone

MOST_DAYS = 3660


class Span(NamedTuple):
    """`since` <= occurred_at < `until`, divided into periods that begin in the time zone `timezone`."""

    since: datetime
    until: datetime | None
    timezone: str


def span(since: str | None, until: str | None, timezone: str) -> Span:
    """The span of query parameters. Without `since`, it begins with the month one year before `until`, or before now.

    Raises errors.Invalid, which names every bad parameter."""
    faults = []
    try:
        zone = parse_zone(timezone)
    except ValueError as exc:
        faults.append(Fault(str(exc), parameter="timezone"))
        zone = parse_zone("UTC")
    first, end = parse_timestamps(("from", since), ("to", until))
    now = datetime.now(UTC)
    # no entry lies in the future; and the last hours of the year 9999 have no local time in some zones
    latest = min(end or now, now)
    if first is None and latest.year > EARLIEST.year + 1:
        # the first of a month, so that it is the same for every page that is read today
        local = latest.astimezone(zone)
        first = datetime(local.year - 1, local.month, 1, tzinfo=zone).astimezone(UTC)
    if first is None or first.year < EARLIEST.year:
        faults.append(Fault(f"must not be before the year {EARLIEST.year}", parameter="from" if first else "to"))
    elif first >= latest:
        faults.append(Fault("must be before `to`, and not in the future", parameter="from"))
    elif latest - first > timedelta(days=MOST_DAYS):
        faults.append(Fault(f"must not be more than {MOST_DAYS} days before `to`", parameter="from"))
    if first is None or faults:
        raise errors.Invalid(None, *faults)
    return Span(first, end, timezone)
