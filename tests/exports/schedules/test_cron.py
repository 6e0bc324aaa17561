"""When a schedule is due, compared with a clock that is watched minute by minute, and with a calendar day by day."""

import contextlib
import sys
import zoneinfo
from datetime import UTC, date, datetime, timedelta
from types import FrameType
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erp_service import timestamps
from erp_service.exports.schedules import cron

BERLIN = ZoneInfo("Europe/Berlin")

# clock changes of both hemispheres: one hour, two, half an hour, at midnight, a whole day left out, and none at all
CHANGES = {
    "Europe/Berlin": ["2026-03-29T01:00", "2026-10-25T01:00"],
    "America/New_York": ["2026-03-08T07:00", "2026-11-01T06:00"],
    "Australia/Sydney": ["2026-04-04T16:00", "2026-10-03T16:00"],
    "Australia/Lord_Howe": ["2026-04-04T15:00", "2026-10-03T15:30"],
    "America/Sao_Paulo": ["2018-11-04T03:00", "2018-02-18T02:00"],
    "America/Havana": ["2026-03-08T05:00", "2026-11-01T05:00"],
    "Atlantic/Azores": ["2026-03-29T01:00", "2026-10-25T01:00"],
    "Antarctica/Troll": ["2026-03-29T01:00", "2026-10-25T01:00"],
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
        Part(f"{high}-{high}/{step}", frozenset({high})),
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

    @property
    def is_interval(self) -> bool:
        return any(sign in self.minute.text + self.hour.text for sign in "*/")

    def matches_day(self, day: date) -> bool:
        of_month = day.day in self.day.values
        weekday = (day.weekday() + 1) % 7 in {value % 7 for value in self.weekday.values}
        # Debian's rule
        both = self.day.text.startswith("*") or self.weekday.text.startswith("*")
        return day.month in self.month.values and ((of_month and weekday) if both else (of_month or weekday))

    def matches(self, wall: datetime) -> bool:
        return wall.minute in self.minute.values and wall.hour in self.hour.values and self.matches_day(wall.date())


expressions = st.builds(Expression, fields(0, 59), fields(0, 23), fields(1, 31), fields(1, 12), fields(0, 7))
_MINUTE = timedelta(minutes=1)


def watched(expression: Expression, zone: ZoneInfo, after: datetime, until: datetime) -> list[datetime]:
    """Look at the clock each minute. An interval is due when the clock shows it, each time; a fixed time when the clock
    shows it for the first time, or jumps over it."""
    now = after.replace(second=0, microsecond=0) - timedelta(hours=3)
    found: list[datetime] = []
    highest = now.astimezone(zone).replace(tzinfo=None)
    while now < until:
        now += _MINUTE
        wall = now.astimezone(zone).replace(tzinfo=None)
        due = expression.is_interval and expression.matches(wall)
        while highest < wall:
            highest += _MINUTE
            due = due or (not expression.is_interval and expression.matches(highest))
        if due and after < now <= until:
            found.append(now)
    return found


def calculated(expression: Expression, zone: ZoneInfo, after: datetime, until: datetime) -> list[datetime]:
    found: list[datetime] = []
    with contextlib.suppress(ValueError):  # a day that never comes
        read, now = cron.read(expression.text), after
        while (now := cron.next_run(read, zone, now)) <= until:
            found.append(now)
    return found


@st.composite
def moments(draw: st.DrawFn) -> tuple[ZoneInfo, datetime]:
    name = draw(st.sampled_from(sorted(CHANGES)))
    change = datetime.fromisoformat(draw(st.sampled_from(CHANGES[name]))).replace(tzinfo=UTC)
    within_a_minute = draw(st.sampled_from([timedelta(0), timedelta(microseconds=1), timedelta(seconds=59.5)]))
    return ZoneInfo(name), change + timedelta(minutes=draw(st.integers(-240, 60))) + within_a_minute


@settings(max_examples=300, deadline=None)
@given(expressions, moments(), st.sampled_from([8, 30]))
def test_runs_are_what_somebody_who_watches_the_clock_would_say(
    expression: Expression, moment: tuple[ZoneInfo, datetime], hours: int
) -> None:
    zone, after = moment
    # who runs often is watched for hours, and who does not for more than a day
    until = after + timedelta(hours=min(hours, 8) if len(expression.minute.values) > 12 else hours)
    assert calculated(expression, zone, after, until) == watched(expression, zone, after, until)


def in_the_calendar(expression: Expression, after: datetime) -> datetime | None:
    """The next run in a zone without clock changes: the first day that matches, and its first time."""
    times = sorted((hour, minute) for hour in expression.hour.values for minute in expression.minute.values)
    for ahead in range(50 * 366):
        day = after.date() + timedelta(days=ahead)
        if expression.matches_day(day):
            for hour, minute in times:
                if (found := datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC)) > after:
                    return found
    return None


@settings(max_examples=200, deadline=None)
@given(
    expressions,
    st.datetimes(datetime.fromisoformat("2020-01-01"), datetime.fromisoformat("2105-01-01"), timezones=st.just(UTC)),
    st.sampled_from([0, 14]),
)
def test_far_runs_are_what_the_calendar_says(expression: Expression, after: datetime, offset: int) -> None:
    zone = ZoneInfo(f"Etc/GMT-{offset}")
    expected = in_the_calendar(expression, after + timedelta(hours=offset))
    try:
        found = cron.next_run(cron.read(expression.text), zone, after)
    except ValueError:
        assert expected is None
    else:
        assert found + timedelta(hours=offset) == expected


def runs(text: str, zone: ZoneInfo, after: str, count: int) -> list[str]:
    now, found = datetime.fromisoformat(after), []
    for _ in range(count):
        now = cron.next_run(cron.read(text), zone, now)
        found.append(now.strftime("%d %H:%M"))
    return found


def test_a_time_that_does_not_exist_runs_once_when_the_clock_was_set_forward() -> None:
    assert runs("30 2 * * *", BERLIN, "2026-03-28T00:00Z", 3) == ["28 01:30", "29 01:00", "30 00:30"]
    assert runs("0,30 2,3 * * *", BERLIN, "2026-03-28T12:00Z", 3) == ["29 01:00", "29 01:30", "30 00:00"]


def test_a_time_that_exists_twice_runs_once() -> None:
    assert runs("30 2 * * *", BERLIN, "2026-10-24T12:00Z", 2) == ["25 00:30", "26 01:30"]
    assert runs("30 2 * * *", BERLIN, "2026-10-25T01:10Z", 1) == ["26 01:30"], "seen from the hour that is repeated"


def test_intervals_do_not_pause_while_the_clock_shows_an_hour_again() -> None:
    assert runs("0 * * * *", BERLIN, "2026-10-24T23:30Z", 3) == ["25 00:00", "25 01:00", "25 02:00"]
    assert runs("0 */2 * * *", BERLIN, "2026-10-24T21:30Z", 4) == ["24 22:00", "25 00:00", "25 01:00", "25 03:00"]
    assert runs("0 0-22/2 * * *", BERLIN, "2026-10-24T21:30Z", 3) == ["24 22:00", "25 00:00", "25 01:00"]
    assert len(runs("*/5 * * * *", BERLIN, "2026-10-24T23:00Z", 36)) == 36
    assert runs("*/5 * * * *", BERLIN, "2026-10-24T23:00Z", 36)[-1] == "25 02:00"


def test_intervals_leave_out_what_the_clock_skips() -> None:
    assert runs("0 */2 * * *", BERLIN, "2026-03-28T22:30Z", 3) == ["28 23:00", "29 02:00", "29 04:00"]
    assert runs("*/30 2 * * *", BERLIN, "2026-03-28T02:00Z", 2) == ["30 00:00", "30 00:30"]


def test_a_clock_change_of_half_an_hour() -> None:
    """Lord Howe, 5 April 2026: 2:00 at UTC+11 becomes 1:30 at UTC+10:30. cronsim by itself runs at 0:00 and 4:00."""
    lord_howe = ZoneInfo("Australia/Lord_Howe")
    assert runs("0 */2 * * *", lord_howe, "2026-04-04T12:30Z", 3) == ["04 13:00", "04 15:30", "04 17:30"]
    assert runs("45 * * * *", lord_howe, "2026-04-04T14:00Z", 3) == ["04 14:45", "04 15:15", "04 16:15"]
    assert runs("45 1 * * *", lord_howe, "2026-04-04T14:00Z", 2) == ["04 14:45", "05 15:15"]
    assert runs("15 2 * * *", lord_howe, "2026-10-03T12:00Z", 2) == ["03 15:30", "04 15:15"]


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
        ("* * LW * *", "day of month: 'lw'"),
        ("* * * * 5L", "day of week: '5l'"),
        ("* * * * 2#1", "day of week: '2#1'"),
        ("*/100 * * * *", "not a step"),
        ("9-9/0 * * * *", "not a step"),
        (f"{'1' * 5000} * * * *", "minute: '1"),
    ],
)
def test_what_is_no_cron_is_told_with_the_field(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("*", r"\*")):
        cron.read(text)


@pytest.mark.parametrize("text", ["0 9-9 * * *", "0 9-9/5 * * *", "0 09 * * *"])
def test_a_range_of_one_is_that_one(text: str) -> None:
    assert runs(text, ZoneInfo("UTC"), "2026-01-01T00:00Z", 2) == ["01 09:00", "02 09:00"]


@pytest.mark.parametrize(
    ("days", "found"),
    [
        ("13 * fri", ["02", "09", "13"]),
        ("13 * *", ["13", "13", "13"]),
        ("* * fri", ["02", "09", "16"]),
        ("*/2 * fri", ["09", "23", "13"]),
        ("13 * */5", ["13", "13", "13"]),
        ("1-31/2 * fri", ["01", "02", "03"]),
        ("L * fri", ["02", "09", "16"]),
    ],
)
def test_of_day_of_month_and_day_of_week_one_is_enough_unless_either_begins_with_a_star(
    days: str, found: list[str]
) -> None:
    assert [day[:2] for day in runs(f"0 9 {days}", ZoneInfo("UTC"), "2026-01-01T00:00Z", 3)] == found


def test_a_day_that_never_comes_is_told() -> None:
    with pytest.raises(ValueError, match="never comes"):
        cron.next_run(cron.read("0 0 31 feb,apr *"), BERLIN, datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    "text",
    ["* * * * *", "*/5 2 29 2 */7", "0 0 29 2 */7", "*/5 1 L 2 *", "0-59/1 0-23/1 1-31/1 1-12/1 0-7/1", "0 0 30 2 1"],
)
def test_no_expression_holds_up_the_event_loop(text: str) -> None:
    """Counted in calls, since seconds depend on the machine: ten thousand are a few milliseconds."""
    calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        cron.next_run(cron.read(text), BERLIN, datetime(2026, 3, 1, tzinfo=UTC))
    finally:
        sys.setprofile(None)
    assert calls < 10_000


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


ZONES = sorted(zoneinfo.available_timezones() - {"localtime", "Factory", "posixrules"})


def test_every_iana_zone_is_one() -> None:
    assert len(ZONES) > 400
    assert [timestamps.parse_zone(name).key for name in ZONES] == ZONES


@pytest.mark.parametrize(
    "name", ["right/Europe/Berlin", "posix/Europe/Berlin", "right/UTC", "localtime", "Factory", "posixrules"]
)
def test_what_the_system_has_beside_the_zones_is_none(name: str) -> None:
    """With leap seconds a clock is 27 s behind everybody else's, and localtime is another zone on each host."""
    with pytest.raises(ValueError, match="such as Europe/Berlin"):
        timestamps.parse_zone(name)


def test_zone_that_an_earlier_version_took_is_still_read() -> None:
    assert timestamps.stored_zone("right/Europe/Berlin").key == "Europe/Berlin"
    assert timestamps.stored_zone("Europe/Berlin").key == "Europe/Berlin"
    with pytest.raises(ValueError, match="IANA"):
        timestamps.stored_zone("right/../passwd")


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("@daily", "02 00:00", "03 00:00"),
        (" @Midnight ", "02 00:00", "03 00:00"),
        ("@hourly", "01 01:00", "01 02:00"),
        ("@weekly", "04 00:00", "11 00:00"),
        ("@monthly", "01 00:00", "01 00:00"),
        ("@yearly", "01 00:00", "01 00:00"),
        ("@annually", "01 00:00", "01 00:00"),
    ],
)
def test_nicknames_are_those_of_vixie(name: str, first: str, second: str) -> None:
    assert runs(cron.expanded(name), ZoneInfo("UTC"), "2026-01-01T00:00Z", 2) == [first, second]


@pytest.mark.parametrize("name", ["@reboot", "@every 5m", "@", "@dayly"])
def test_nickname_without_times_is_refused_with_those_that_there_are(name: str) -> None:
    with pytest.raises(ValueError, match=r"@daily.*five fields"):
        cron.expanded(name)


@pytest.mark.parametrize(
    ("text", "match", "days"),
    [
        ("0 0 */2 * 1", "both", ["05", "19", "09"]),
        ("0 0 13 * fri", "either", ["02", "09", "13"]),
        ("0 0 1-31/2 * mon", "either", ["03", "05", "07"]),
        ("0 0 13 * */5", "both", ["13", "13", "13"]),
        ("0 0 * * 1", None, ["05", "12", "19"]),
        ("0 0 13 * *", None, ["13", "13", "13"]),
    ],
)
def test_rule_for_the_two_fields_of_days_is_the_one_that_is_run(text: str, match: str | None, days: list[str]) -> None:
    rule = cron.day_rule(text)
    assert (rule and rule.match) == match
    assert [run[:2] for run in runs(text, ZoneInfo("UTC"), "2026-01-01T00:00Z", 3)] == days


@pytest.mark.parametrize("text", ["*/5 * * * *", "0 * * * *", "0 6 * * *", "0 6 * * mon", "0 6 1 * *", "0 0 29 2 *"])
@given(late=st.integers(0, 4 * 366 * 24 * 60), second=st.integers(0, 4 * 10**8))
@settings(max_examples=15)
def test_latest_of_many_missed_runs_is_the_last_before_now(text: str, late: int, second: int) -> None:
    read, now = cron.read(text), datetime.fromtimestamp(1_500_000_000 + second, UTC)
    first = cron.next_run(read, BERLIN, now - timedelta(minutes=late))
    found = cron.latest_run(read, BERLIN, first, now)
    assert first <= found
    if first <= now:
        assert found <= now < cron.next_run(read, BERLIN, found)
