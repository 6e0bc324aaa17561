"""Times that are relative to the run, such as `start of month -1 month`: read here and resolved in a time zone.

They follow the calendar of the zone: a day is as long as its clock makes it, weeks begin on Monday (ISO 8601), and a
month later or earlier is the same day of that month, or its last one. So periods whose ends are resolved at different
runs join without a gap and without an overlap."""

import re
from calendar import monthrange
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from erp_service.timestamps import first_moment

GRAMMAR = (
    "now, today, yesterday, tomorrow or start of hour, day, week, month, quarter or year; behind it, or alone, one"
    " offset of 1 to 999 hours, days, weeks, months, quarters or years: today, -7 days, start of month -1 month"
)

_UNITS = "hour|day|week|month|quarter|year"
_TEXT = re.compile(
    rf"(?P<anchor>now|today|yesterday|tomorrow|start of (?P<unit>{_UNITS}))?"
    rf"(?:(?(anchor) )(?P<sign>[+-])(?P<count>[1-9][0-9]{{0,2}}) (?P<step>{_UNITS})s?)?",
    re.ASCII,
)
_MONTHS = {"month": 1, "quarter": 3, "year": 12}
_DAYS = {"day": 1, "week": 7}


class Moment(NamedTuple):
    """When relative times are resolved, and by whose calendar."""

    at: datetime
    zone: ZoneInfo


def resolve(text: str, moment: Moment) -> datetime:
    """The time that `text` means at `moment`, in UTC and in whole seconds; raises ValueError that gives the grammar."""
    match = _TEXT.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"must be {GRAMMAR}")
    now = moment.at.astimezone(UTC).replace(microsecond=0)
    unit, days = _anchor(match)
    step, count = match["step"], int(match["count"] or 0) * (-1 if match["sign"] == "-" else 1)
    try:
        start = now if unit == "now" else _start(unit, now, moment.zone)
        if step == "hour":
            return start + timedelta(hours=count)
        if days == count == 0:
            return start
        local = start.astimezone(moment.zone).replace(tzinfo=None) if unit == "now" else _local_start(unit, moment)
        return first_moment(_moved(local + timedelta(days=days), step, count), moment.zone)
    except (OverflowError, ValueError):
        raise ValueError("must not lie outside of the years 1 to 9999") from None


def _anchor(match: re.Match[str]) -> tuple[str, int]:
    """The unit whose start is meant, or now; and how many days later."""
    days = {"yesterday": -1, "today": 0, "tomorrow": 1}
    if match["anchor"] in days:
        return "day", days[match["anchor"]]
    return match["unit"] or "now", 0


def _start(unit: str, now: datetime, zone: ZoneInfo) -> datetime:
    if unit == "hour":
        # the present hour, also if the clock shows it a second time
        local = now.astimezone(zone)
        return now - timedelta(minutes=local.minute, seconds=local.second)
    return first_moment(_local_start(unit, Moment(now, zone)), zone)


def _local_start(unit: str, moment: Moment) -> datetime:
    local = moment.at.astimezone(moment.zone).replace(tzinfo=None, microsecond=0)
    if unit == "hour":
        return local.replace(minute=0, second=0)
    day = local.replace(hour=0, minute=0, second=0)
    match unit:
        case "week":
            return day - timedelta(days=day.weekday())
        case "month":
            return day.replace(day=1)
        case "quarter":
            return day.replace(month=(day.month - 1) // 3 * 3 + 1, day=1)
        case "year":
            return day.replace(month=1, day=1)
    return day


def _moved(local: datetime, step: str | None, count: int) -> datetime:
    if step in _MONTHS:
        months = local.year * 12 + local.month - 1 + count * _MONTHS[step]
        year, month = months // 12, months % 12 + 1
        if not 1 <= year <= 9999:
            raise OverflowError
        return local.replace(year=year, month=month, day=min(local.day, monthrange(year, month)[1]))
    return local + timedelta(days=count * _DAYS.get(step or "", 0))
