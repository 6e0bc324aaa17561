"""Times in query parameters: RFC 3339 with a zone, or a date where a day is meant; and time zones by name.

Periods are half open, everywhere: `from` includes its instant, `to` and `as_of` do not. A date stands for the moment at
which its day begins, in the company's zone; as `as_of` it includes the day, so it stands for the end of it."""

import contextlib
import re
from bisect import bisect_left
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from erp_service import errors
from erp_service.errors import Fault

_ZONED = Annotated[datetime, Meta(tz=True)]
_LOST_PLUS = re.compile(r"T.* [0-9]{2}:?[0-9]{2}$", re.ASCII)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_SECOND = timedelta(seconds=1)
UTC_ZONE = ZoneInfo("UTC")


class TimeParameter(NamedTuple):
    """A query parameter as it came. `through`: a date includes its day, as with `as_of`."""

    name: str
    text: str | None
    through: bool = False


def parse_times(
    *parameters: TimeParameter | tuple[str, str | None], zone: ZoneInfo | None = None
) -> list[datetime | None]:
    """The moments in UTC. Dates are days in `zone`; without one they are refused.

    Raises errors.Invalid that names every parameter that is no time."""
    times: list[datetime | None] = []
    faults = []
    for name, text, through in (TimeParameter(*parameter) for parameter in parameters):
        try:
            times.append(None if text is None else parse_time(text, zone, through=through))
        except ValueError as exc:
            faults.append(Fault(str(exc), parameter=name))
    if faults:
        raise errors.Invalid(None, *faults)
    return times


def parse_time(text: str, zone: ZoneInfo | None, *, through: bool = False) -> datetime:
    """In UTC; raises ValueError that says what is wrong."""
    try:
        if zone is not None and is_date(text):
            return day_begins(date.fromisoformat(text) + timedelta(days=through), zone)
        # some times of the years 1 and 9999 lie outside of them in UTC
        return msgspec.convert(text, _ZONED).astimezone(UTC)
    except (ValueError, OverflowError):  # msgspec's own error is a ValueError
        detail = "must be a time with its zone, such as 2026-01-31T12:00:00Z"
        if _LOST_PLUS.search(text):
            detail = "has lost its plus sign: in an address write + as %2B, as in 2026-01-31T12:00:00%2B01:00"
        elif zone is not None:
            detail += ", or a date"
        raise ValueError(detail) from None


def is_date(text: str | None) -> bool:
    """Whether it looks like a date, which has its moment in a zone."""
    return text is not None and _DATE.fullmatch(text) is not None


def require_order(since: datetime | None, until: datetime | None, names: tuple[str, str] = ("from", "to")) -> None:
    """Raises errors.Invalid for a period that ends before it begins."""
    if since is not None and until is not None and since > until:
        raise errors.Invalid(None, Fault(f"must not be after `{names[1]}`", parameter=names[0]))


def day_begins(day: date, zone: ZoneInfo) -> datetime:
    """In UTC. Raises OverflowError for what lies outside of the years 1 to 9999."""
    return first_moment(datetime.combine(day, time.min), zone)


def first_moment(local: datetime, zone: ZoneInfo) -> datetime:
    """The first moment, in UTC, at which the clock of the zone shows `local`, or a later time if it skips `local`.

    Raises OverflowError for what lies outside of the years 1 to 9999."""
    first = local.replace(tzinfo=zone).astimezone(UTC)
    if first.astimezone(zone).replace(tzinfo=None) == local:
        return first
    # with the offset after the jump, `local` is a moment before it; between the two lies the jump
    before = local.replace(tzinfo=zone, fold=1).astimezone(UTC)
    seconds = range(int((first - before) / _SECOND) + 1)
    jump = bisect_left(
        seconds, True, key=lambda second: (before + second * _SECOND).astimezone(zone).replace(tzinfo=None) >= local
    )
    return before + jump * _SECOND


def text_of(moment: datetime) -> str:
    """RFC 3339, in UTC with `Z`, as in every answer."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


# `zoneinfo` reads every file of the system's database, and these are no zones: the host's own setting, a placeholder, a
# default for rules, and copies of all zones with and without leap seconds
_NO_ZONES = frozenset({"localtime", "Factory", "posixrules"})
_COPIES = re.compile(r"(posix|right)/")

# Postgres takes these for abbreviations, which have the offset of winter all year. They are links to these zones.
_IN_POSTGRES = {"CET": "Europe/Brussels", "EET": "Europe/Athens", "MET": "Europe/Brussels", "WET": "Europe/Lisbon"}


def parse_zone(name: str) -> ZoneInfo:
    """An IANA time zone, one of `zoneinfo.available_timezones()`; raises ValueError."""
    if name not in _NO_ZONES and not _COPIES.match(name):
        # a text that names no zone can be a directory, or a path that leads out of the time zone database
        with contextlib.suppress(OSError, ValueError, LookupError):
            return ZoneInfo(name)
    raise ValueError("is not the name of an IANA time zone, such as Europe/Berlin")


def stored_zone(name: str) -> ZoneInfo:
    """A zone of an earlier version of this service, which took more names; raises ValueError."""
    if name in _NO_ZONES:
        return ZoneInfo(name)
    return parse_zone(_COPIES.sub("", name))


def postgres_zone(name: str) -> str:
    """The name by which Postgres finds the zone that `parse_zone` has read."""
    return _IN_POSTGRES.get(name, name)
