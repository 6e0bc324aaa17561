"""When a schedule is due: five fields of cron, read strictly, in a time zone with its clock changes.

Our own reading, for croniter 7 takes `9-9` for every hour, and takes words (`R`, `H`) that mean something else each
time. As ever in cron, where day of month and day of week are both something else than `*`, one of them is enough."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LAST = -1
# 29 February stays away for eight years around 2100
_FAR = 9 * 366


class Field(NamedTuple):
    name: str
    least: int
    most: int
    words: tuple[str, ...] = ()


_FIELDS = (
    Field("minute", 0, 59),
    Field("hour", 0, 23),
    Field("day of month", 1, 31),
    Field("month", 1, 12, _MONTHS),
    Field("day of week", 0, 7, _WEEKDAYS),
)


class Cron(NamedTuple):
    """The values that each field allows; weekdays from 0 for Sunday to 6; in `days`, -1 is the last of the month."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    every_day: bool
    every_weekday: bool

    def allows(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        weekday = day.isoweekday() % 7 in self.weekdays
        of_month = day.day in self.days or (_LAST in self.days and (day + timedelta(days=1)).day == 1)
        return (weekday and of_month) if self.every_day or self.every_weekday else (weekday or of_month)

    @property
    def shortest(self) -> int:
        """Minutes between two runs that follow each other; 1440 if it runs once a day at most."""
        times = [60 * hour + minute for hour in self.hours for minute in self.minutes]
        return min(later - earlier for earlier, later in zip(times, [*times[1:], times[0] + 1440], strict=True))

    def walls(self, after: datetime) -> Iterator[datetime]:
        """What a clock on the wall shows at each run later than `after`, as if no clock was ever changed."""
        for ahead in range(_FAR):
            day = after.date() + timedelta(days=ahead)
            if self.allows(day):
                for hour in self.hours:
                    for minute in self.minutes:
                        wall = datetime(day.year, day.month, day.day, hour, minute)  # noqa: DTZ001 the wall knows none
                        if wall > after:
                            yield wall


def read(text: str) -> Cron:
    """Raises ValueError that says what is wrong with which field."""
    parts = text.lower().split()
    if len(parts) != 5 or not text.isascii():
        raise ValueError("must be five fields: minute, hour, day of month, month, day of week")
    minutes, hours, days, months, weekdays = (_field(*both) for both in zip(_FIELDS, parts, strict=True))
    return Cron(
        minutes=tuple(sorted(minutes)),
        hours=tuple(sorted(hours)),
        days=frozenset(days),
        months=frozenset(months),
        weekdays=frozenset(day % 7 for day in weekdays),
        every_day=parts[2] == "*",
        every_weekday=parts[4] == "*",
    )


def _field(field: Field, text: str) -> set[int]:
    values: set[int] = set()
    for part in text.split(","):
        if part == "l" and field.name == "day of month":
            values.add(_LAST)
        else:
            values.update(_part(field, part))
    return values


def _part(field: Field, part: str) -> range:
    span, slash, step = part.partition("/")
    first, dash, last = span.partition("-")
    if span == "*":
        low, high = field.least, field.most
    else:
        low = _value(field, first)
        high = _value(field, last) if dash else low
    if slash and not dash and span != "*":
        raise ValueError(f"{field.name}: {part!r} steps through no range; write {first}-{field.most}/{step}")
    if high < low:
        raise ValueError(f"{field.name}: {part!r} goes backwards")
    if slash and not (step.isdecimal() and len(step) <= 2 and int(step) > 0):
        raise ValueError(f"{field.name}: {step!r} is not a step")
    return range(low, high + 1, int(step) if slash else 1)


def _value(field: Field, text: str) -> int:
    if text in field.words:
        return field.least + field.words.index(text)
    if text.isdecimal() and len(text) <= 2 and field.least <= int(text) <= field.most:
        return int(text)
    raise ValueError(f"{field.name}: {text!r} is not one of {field.least} to {field.most}")


def next_run(cron: Cron, where: ZoneInfo, after: datetime) -> datetime:
    """The first instant later than `after`, in UTC. Raises ValueError if there is none.

    What the clock skips runs once, when it has been set forward; what it shows twice runs the first time only."""
    # instants never go back where walls go forward, so no wall up to this one can be later than `after`
    for wall in cron.walls(after.astimezone(where).replace(tzinfo=None)):
        if (found := instant(wall, where)) > after:
            return found
    raise ValueError("names a day that never comes")


def instant(wall: datetime, where: ZoneInfo) -> datetime:
    """When the clock first shows `wall`, or jumps over it (PEP 495)."""
    found = wall.replace(tzinfo=where, fold=0).astimezone(UTC)
    if found.astimezone(where).replace(tzinfo=None) == wall:
        return found
    before = int(wall.replace(tzinfo=where, fold=1).timestamp())
    after = int(found.timestamp())
    offset = datetime.fromtimestamp(before, where).utcoffset()
    while after - before > 1:
        middle = (before + after) // 2
        if datetime.fromtimestamp(middle, where).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return datetime.fromtimestamp(after, UTC)
