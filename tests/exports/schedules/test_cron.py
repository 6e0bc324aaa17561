"""When a schedule is due, held against a clock that is watched minute by minute, and against another reader of cron."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from hypothesis import given, settings
from hypothesis import strategies as st

from erp_service import timestamps
from erp_service.exports.schedules import cron

BERLIN = ZoneInfo("Europe/Berlin")

# hours on both sides of clock changes: one hour, half an hour, at midnight, a whole day left out, and none at all
CHANGES = {
    "Europe/Berlin": ["2026-03-29T01:00", "2026-10-25T01:00"],
    "America/New_York": ["2026-03-08T07:00", "2026-11-01T06:00"],
    "Australia/Lord_Howe": ["2026-04-04T15:00", "2026-10-03T15:30"],
    "America/Sao_Paulo": ["2018-11-04T03:00", "2018-02-18T02:00"],
    "Pacific/Apia": ["2011-12-30T10:00"],
    "Africa/Casablanca": ["2026-02-15T02:00", "2026-03-22T02:00"],
    "Asia/Kolkata": ["2026-03-29T01:00"],
}


class Part(NamedTuple):
    """One part of a field as it is written, and the values that it means."""

    text: str
    values: frozenset[int]


@st.composite
def parts(draw: st.DrawFn, least: int, most: int) -> Part:
    step = draw(st.integers(1, most))
    low = draw(st.integers(least, most - 1))
    high = draw(st.integers(low + 1, most))
    some: list[Part] = [
        Part(str(low), frozenset({low})),
        Part(f"{low}-{high}", frozenset(range(low, high + 1))),
        Part(f"{low}-{high}/{step}", frozenset(range(low, high + 1, step))),
        Part(f"*/{step}", frozenset(range(least, most + 1, step))),
    ]
    return draw(st.sampled_from(some))


@st.composite
def fields(draw: st.DrawFn, least: int, most: int) -> Part:
    if draw(st.booleans()):
        return Part("*", frozenset(range(least, most + 1)))
    several = draw(st.lists(parts(least, most), min_size=1, max_size=3))
    return Part(",".join(part.text for part in several), frozenset().union(*(part.values for part in several)))


class Expression(NamedTuple):
    minute: Part
    hour: Part
    day: Part
    month: Part
    weekday: Part

    @property
    def text(self) -> str:
        return " ".join(part.text for part in self)

    def matches(self, wall: datetime) -> bool:
        day = wall.day in self.day.values
        weekday = (wall.weekday() + 1) % 7 in {value % 7 for value in self.weekday.values}
        either = self.day.text != "*" and self.weekday.text != "*"
        return (
            wall.minute in self.minute.values
            and wall.hour in self.hour.values
            and wall.month in self.month.values
            and ((day or weekday) if either else (day and weekday))
        )


expressions = st.builds(Expression, fields(0, 59), fields(0, 23), fields(1, 31), fields(1, 12), fields(0, 7))
_MINUTE = timedelta(minutes=1)


def watched(expression: Expression, where: ZoneInfo, after: datetime, until: datetime) -> list[datetime]:
    """Look at the clock each minute: what it shows for the first time, or jumps over, is what can be due."""
    now = after - timedelta(hours=3)
    found: list[datetime] = []
    highest = now.astimezone(where).replace(tzinfo=None)
    while now < until:
        now += _MINUTE
        wall = now.astimezone(where).replace(tzinfo=None)
        due = False
        while highest < wall:
            highest += _MINUTE
            due = due or expression.matches(highest)
        if due and now > after:
            found.append(now)
    return found


def reckoned(expression: Expression, where: ZoneInfo, after: datetime, until: datetime) -> list[datetime]:
    read, now = cron.read(expression.text), after
    found: list[datetime] = []
    while now <= until:
        try:
            now = cron.next_run(read, where, now)
        except ValueError:
            return found
        found.append(now)
    return found[:-1]


@st.composite
def moments(draw: st.DrawFn) -> tuple[ZoneInfo, datetime]:
    name = draw(st.sampled_from(sorted(CHANGES)))
    change = datetime.fromisoformat(draw(st.sampled_from(CHANGES[name]))).replace(tzinfo=UTC)
    return ZoneInfo(name), change + timedelta(minutes=draw(st.integers(-240, 60)))


@settings(max_examples=150, deadline=None)
@given(expressions, moments(), st.sampled_from([8, 30]))
def test_runs_are_what_somebody_who_watches_the_clock_would_say(
    expression: Expression, moment: tuple[ZoneInfo, datetime], hours: int
) -> None:
    where, after = moment
    # who runs often is watched for hours, and who does not for more than a day
    until = after + timedelta(hours=min(hours, 8) if len(expression.minute.values) > 12 else hours)
    assert reckoned(expression, where, after, until) == watched(expression, where, after, until)


def full(part: Part, size: int) -> bool:
    return part.text != "*" and len(part.values) >= size


@settings(max_examples=200, deadline=None)
@given(expressions, st.datetimes(datetime.fromisoformat("2020-01-01"), datetime.fromisoformat("2030-01-01")))
def test_far_runs_are_what_croniter_says(expression: Expression, after: datetime) -> None:
    after = after.replace(second=0, microsecond=0)
    try:
        found = cron.next_run(cron.read(expression.text), ZoneInfo("UTC"), after.replace(tzinfo=UTC))
    except ValueError:
        return
    # it takes a list of all days for `*`, sometimes
    if full(expression.day, 31) or full(expression.weekday, 7):
        return
    assert found.replace(tzinfo=None) == croniter(expression.text, after).get_next(datetime)


def runs(text: str, where: ZoneInfo, after: str, count: int) -> list[str]:
    now, found = datetime.fromisoformat(after), []
    for _ in range(count):
        now = cron.next_run(cron.read(text), where, now)
        found.append(now.strftime("%d %H:%M"))
    return found


def test_a_time_that_does_not_exist_runs_once_when_the_clock_was_set_forward() -> None:
    assert runs("30 2 * * *", BERLIN, "2026-03-28T00:00Z", 3) == ["28 01:30", "29 01:00", "30 00:30"]
    assert runs("0,30 2,3 * * *", BERLIN, "2026-03-28T12:00Z", 3) == ["29 01:00", "29 01:30", "30 00:00"]


def test_a_time_that_exists_twice_runs_once() -> None:
    assert runs("30 2 * * *", BERLIN, "2026-10-24T12:00Z", 2) == ["25 00:30", "26 01:30"]
    assert runs("0 * * * *", BERLIN, "2026-10-24T23:30Z", 3) == ["25 00:00", "25 02:00", "25 03:00"]


def test_words_last_days_and_leap_days() -> None:
    utc = ZoneInfo("UTC")
    assert runs("0 6 * * MON-Fri", utc, "2026-01-02T06:00Z", 2) == ["05 06:00", "06 06:00"]
    assert runs("30 23 L jan-MAR *", utc, "2028-01-01T00:00Z", 4) == ["31 23:30", "29 23:30", "31 23:30", "31 23:30"]
    found = cron.next_run(cron.read("0 0 29 2 *"), utc, datetime(2096, 3, 1, tzinfo=UTC))
    assert found == datetime(2104, 2, 29, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("* * * *", "five fields"),
        ("* * * * * *", "five fields"),
        ("@daily", "five fields"),
        ("60 * * * *", "minute: '60'"),
        ("* 24 * * *", "hour: '24'"),
        ("* * 0 * *", "day of month: '0'"),
        ("* * * 13 *", "month: '13'"),
        ("* * * * 8", "day of week: '8'"),
        ("* * * * fri-sun", "goes backwards"),
        ("9-8 * * * *", "goes backwards"),
        ("5/15 * * * *", "write 5-59/15"),
        ("*/0 * * * *", "not a step"),
        ("*/ * * * *", "not a step"),
        ("1,,2 * * * *", "minute: ''"),
        ("- * * * *", "minute: ''"),
        ("R * * * *", "minute: 'r'"),
        ("٣ * * * *", "five fields"),
        ("² * * * *", "five fields"),
        ("* * * jan *x", "day of week: '*x'"),
        ("* * L-2 * *", "day of month: 'l'"),
    ],
)
def test_what_is_no_cron_is_told_with_the_field(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("*", r"\*")):
        cron.read(text)


def test_a_range_of_one_is_that_one() -> None:
    assert cron.read("0 9-9 * * *").hours == (9,)


def test_a_day_that_never_comes_is_told() -> None:
    with pytest.raises(ValueError, match="never comes"):
        cron.next_run(cron.read("0 0 31 feb,apr *"), BERLIN, datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("* * * * *", 1),
        ("*/5 * * * *", 5),
        ("2,58 * * * *", 4),
        ("2,58 9 * * *", 56),
        ("58 9 * * *", 1440),
        ("0-56/4 * * * *", 4),
        ("59 23 * * *", 1440),
        ("0,59 0,23 * * *", 1),
        ("0 */2 * * *", 120),
    ],
)
def test_shortest_pause_between_runs(text: str, minutes: int) -> None:
    assert cron.read(text).shortest == minutes


@pytest.mark.parametrize("name", ["Europe", "Europe/Atlantis", "../etc/passwd", "/etc/localtime", "a\0b", "", "é", "."])
def test_what_is_no_time_zone_is_told(name: str) -> None:
    with pytest.raises(ValueError, match="IANA"):
        timestamps.parse_zone(name)
