"""Timestamps in query parameters: RFC 3339 with a zone, or a fault that says what is wrong; and time zones by name."""

import contextlib
import re
from datetime import UTC, datetime
from typing import Annotated
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from erp_service import errors
from erp_service.errors import Fault

_ZONED = Annotated[datetime, Meta(tz=True)]
_LOST_PLUS = re.compile(r"T.* [0-9]{2}:?[0-9]{2}$", re.ASCII)


def parse_timestamps(*parameters: tuple[str, str | None]) -> list[datetime | None]:
    """Named query parameters in UTC; raises errors.Invalid that names every one that is not a timestamp."""
    timestamps: list[datetime | None] = []
    faults = []
    for name, text in parameters:
        try:
            # some times of the years 1 and 9999 lie outside of them in UTC
            timestamps.append(None if text is None else msgspec.convert(text, _ZONED).astimezone(UTC))
        except (msgspec.ValidationError, OverflowError):
            detail = "must be a time with its zone, such as 2026-01-31T12:00:00Z"
            if text is not None and _LOST_PLUS.search(text):
                detail = "has lost its plus sign: in an address write + as %2B, as in 2026-01-31T12:00:00%2B01:00"
            faults.append(Fault(detail, parameter=name))
    if faults:
        raise errors.Invalid(None, *faults)
    return timestamps


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
