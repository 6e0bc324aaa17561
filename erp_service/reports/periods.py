"""The span of time that a report covers."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from erp_service import errors
from erp_service.company.queries import company_zone
from erp_service.db.sessions import Session
from erp_service.errors import Fault
from erp_service.inventory.posting.schemas import EARLIEST
from erp_service.timestamps import UTC_ZONE, day_begins, parse_times, parse_zone

MOST_DAYS = 3660


class Span(NamedTuple):
    """`since` <= occurred_at < `until`, divided into periods that begin in the time zone `timezone`."""

    since: datetime
    until: datetime | None
    timezone: str


async def span(db: Session, since: str | None, until: str | None, timezone: str | None) -> Span:
    """The span of query parameters. Without `since`, it begins with the month one year before `until`, or before now.
    Without a zone, its days are the company's.

    Raises errors.Invalid, which names every bad parameter."""
    faults = []
    zone = UTC_ZONE
    try:
        zone = await company_zone(db) if timezone is None else parse_zone(timezone)
    except ValueError as exc:
        faults.append(Fault(str(exc), parameter="timezone"))
    first = end = None
    try:
        first, end = parse_times(("from", since), ("to", until), zone=zone)
    except errors.Invalid as exc:
        raise errors.Invalid(None, *faults, *exc.faults) from None
    now = datetime.now(UTC)
    # no entry lies in the future; and the last hours of the year 9999 have no local time in some zones
    latest = min(end or now, now)
    if first is None and latest.year > EARLIEST.year + 1:
        # the first of a month, so that it is the same for every page that is read today
        day = latest.astimezone(zone).date()
        first = day_begins(day.replace(year=day.year - 1, day=1), zone)
    if first is None or first.year < EARLIEST.year:
        faults.append(Fault(f"must not be before the year {EARLIEST.year}", parameter="from" if first else "to"))
    elif first >= latest:
        faults.append(Fault("must be before `to`, and not in the future", parameter="from"))
    elif latest - first > timedelta(days=MOST_DAYS):
        faults.append(Fault(f"must not be more than {MOST_DAYS} days before `to`", parameter="from"))
    if first is None or faults:
        raise errors.Invalid(None, *faults)
    return Span(first, end, zone.key)
