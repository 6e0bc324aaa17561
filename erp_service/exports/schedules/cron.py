"""When a schedule is due: five fields of cron, checked here and run through cronsim, in a time zone with clock changes.

Checked here, since cronsim reads more than the API promises (seconds, `LW`, `5L`, `2#1`, `9-9/5` as `9-59/5`) and says
of a fault only which field it is in. What cronsim gets is made of checked numbers."""

import re
from bisect import bisect_left
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

_SECOND, _DAY = timedelta(seconds=1), timedelta(days=1)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NEVER = "names a day that never comes"
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")

# those of Vixie's cron, crontab(5)
_NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


class Field(NamedTuple):
    name: str
    least: int
    most: int
    words: tuple[str, ...] = ()

    def normalized(self, part: str) -> str:
        """A number, range or step in the form that cronsim gets; raises ValueError."""
        if part == "l" and self.name == "day of month":
            return part
        span, slash, step = part.partition("/")
        if slash and not (step.isdecimal() and len(step) <= 2 and int(step) > 0):
            raise ValueError(f"{self.name}: {step!r} is not a step")
        if span == "*":
            return part
        first, dash, last = span.partition("-")
        low = self._value(first)
        high = self._value(last) if dash else low
        if high < low:
            raise ValueError(f"{self.name}: {part!r} goes backwards")
        if slash and not dash:
            raise ValueError(f"{self.name}: {part!r} steps through no range; write {first}-{self.most}/{step}")
        return f"{low}-{high}{slash}{step}" if low < high else str(low)

    def _value(self, text: str) -> int:
        if text in self.words:
            return self.least + self.words.index(text)
        if text.isdecimal() and len(text) <= 2 and self.least <= int(text) <= self.most:
            return int(text)
        raise ValueError(f"{self.name}: {text!r} is not one of {self.least} to {self.most}")


_FIELDS = (
    Field("minute", 0, 59),
    Field("hour", 0, 23),
    Field("day of month", 1, 31),
    Field("month", 1, 12, _MONTHS),
    Field("day of week", 0, 7, _WEEKDAYS),
)


class Cron(NamedTuple):
    """A checked expression: with `*` or a step in minute or hour it means an interval, else fixed times of day.

    `shortest`: minutes between two runs that follow each other; 1440 if it runs once a day at most."""

    expression: str
    is_interval: bool
    shortest: int


class DayRule(NamedTuple):
    """Which days a schedule runs on that restricts day of month and day of week: those that match both, or either."""

    match: Literal["both", "either"]
    description: str


def expanded(text: str) -> str:
    """The five fields of a nickname such as `@daily`, and every other text as it is; raises ValueError."""
    name = text.strip().lower()
    if not name.startswith("@"):
        return text
    if name not in _NICKNAMES:
        raise ValueError(f"{text.strip()[:20]!r} is not one of {', '.join(_NICKNAMES)}; or write five fields")
    return _NICKNAMES[name]


def day_rule(text: str) -> DayRule | None:
    """None unless both fields of days are restricted. cronsim follows Debian's cron, where a star decides."""
    fields = text.split()
    if len(fields) != 5 or "*" in (fields[2], fields[4]):
        return None
    month_day, weekday = fields[2], fields[4]
    if month_day.startswith("*") or weekday.startswith("*"):
        why = f"runs on days that match both: day of month {month_day} and day of week {weekday}, as one begins with *"
        return DayRule("both", why)
    why = f"runs on days that match one of the two: day of month {month_day}, or day of week {weekday}"
    return DayRule("either", why)


def read(text: str) -> Cron:
    """Raises ValueError that says what is wrong with which field."""
    texts = text.lower().split()
    if len(texts) != 5 or not text.isascii():
        raise ValueError("must be five fields: minute, hour, day of month, month, day of week")
    fields = [",".join(map(field.normalized, parts.split(","))) for field, parts in zip(_FIELDS, texts, strict=True)]
    expression = " ".join(fields)
    try:
        simulator = CronSim(expression, datetime.min)  # noqa: DTZ901 only its fields are read
    except CronSimError:
        raise ValueError(_NEVER) from None
    times = sorted(60 * hour + minute for hour in simulator.hours for minute in simulator.minutes)
    pauses = [later - earlier for earlier, later in zip(times, [*times[1:], times[0] + 1440], strict=True)]
    return Cron(expression, re.search(r"[*/]", texts[0] + texts[1]) is not None, min(pauses))


def next_run(cron: Cron, zone: ZoneInfo, after: datetime) -> datetime:
    """The first run later than `after`, in UTC; raises ValueError if there is none in 50 years.

    A fixed time that the clock skips runs right after the jump; one that it shows twice runs the first time only. An
    interval runs whenever the clock shows one of its times, so that it does not pause for an hour that is repeated.
    These are the rules of Debian's cron, but that it takes only a field that begins with `*` for an interval."""
    if cron.is_interval:
        run = _next_of_interval(cron.expression, zone, after)
    else:
        # cronsim starts at the local time, and in an hour that is repeated takes it for that of the first time
        runs = (local.astimezone(UTC) for local in CronSim(cron.expression, after.astimezone(zone)))
        run = next((run for run in runs if run > after), None)
    if run is None:
        raise ValueError(_NEVER)
    return run


def latest_run(cron: Cron, zone: ZoneInfo, first: datetime, now: datetime) -> datetime:
    """The latest run from `first`, which is one, to `now`: the one that makes good the others in between."""
    latest = first
    # from short to long, so that few runs are gone through, whether they are minutes or months apart
    for days in (0.04, 1, 32, 400, 4000):
        start = max(now - timedelta(days=days), first)
        if start == first or next_run(cron, zone, start) <= now:
            while (run := next_run(cron, zone, start)) <= now:
                latest = start = run
            return latest
    return latest


def _next_of_interval(expression: str, zone: ZoneInfo, after: datetime) -> datetime | None:
    """cronsim is not given the zone: its steps of an hour miss runs where a clock is changed by half an hour."""
    start = after.astimezone(UTC).replace(microsecond=0) + _SECOND
    while True:
        local = start.astimezone(zone).replace(tzinfo=None)
        local_run = next(CronSim(expression, local - _SECOND), None)
        if local_run is None:
            return None
        run = start + (local_run - local)
        end = min(run, start + _DAY)
        if (change := _clock_change(zone, start, end)) is not None:
            start = change
        elif end == run:
            return run
        else:
            # no clock is changed by more than a day (Pacific/Apia, 2011), so nothing is due until two days before
            start = max(end, run - 2 * _DAY)


def _clock_change(zone: ZoneInfo, start: datetime, end: datetime) -> datetime | None:
    """The second of the clock change between two times that are a day apart at most."""
    offset = start.astimezone(zone).utcoffset()
    if end.astimezone(zone).utcoffset() == offset:
        return None
    seconds = range(int(start.timestamp()), int(end.timestamp()) + 1)
    first = bisect_left(seconds, True, key=lambda second: datetime.fromtimestamp(second, zone).utcoffset() != offset)
    return datetime.fromtimestamp(seconds[first], UTC)
