"""Days of a time zone: each moment lies in exactly one, also where the clock skips a midnight or shows it twice."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erp_service import errors
from erp_service.timestamps import TimeParameter, day_begins, parse_time, parse_times, require_order

# in Beirut and São Paulo midnight is skipped, in Havana there are two, Apia skipped 30 December 2011
ZONES = [
    "UTC",
    "Europe/Berlin",
    "Asia/Beirut",
    "America/Sao_Paulo",
    "America/Havana",
    "Pacific/Apia",
    "America/St_Johns",
]
BERLIN = ZoneInfo("Europe/Berlin")


@given(
    st.sampled_from(ZONES).map(ZoneInfo),
    st.datetimes(datetime(2005, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 the zone is added
)
def test_a_moment_lies_in_the_day_that_the_clock_shows(zone: ZoneInfo, moment: datetime) -> None:
    day = moment.astimezone(zone).date()
    assert day_begins(day, zone) <= moment < day_begins(day + timedelta(days=1), zone)


@pytest.mark.parametrize(
    ("zone", "day", "begins"),
    [
        ("Europe/Berlin", "2026-03-29", "2026-03-28T23:00:00Z"),
        ("Europe/Berlin", "2026-03-30", "2026-03-29T22:00:00Z"),
        ("Europe/Berlin", "2026-10-26", "2026-10-25T23:00:00Z"),
        ("Asia/Beirut", "2026-03-29", "2026-03-28T22:00:00Z"),
        ("America/Havana", "2026-11-01", "2026-11-01T04:00:00Z"),
        ("Pacific/Apia", "2011-12-30", "2011-12-30T10:00:00Z"),
        ("Pacific/Apia", "2011-12-31", "2011-12-30T10:00:00Z"),
    ],
)
def test_a_day_begins_when_the_clock_first_shows_it_or_a_later_time(zone: str, day: str, begins: str) -> None:
    assert day_begins(date.fromisoformat(day), ZoneInfo(zone)) == datetime.fromisoformat(begins)


def test_a_date_is_the_beginning_of_its_day_or_as_of_it_the_end() -> None:
    assert parse_time("2026-03-29", BERLIN) == datetime(2026, 3, 28, 23, tzinfo=UTC)
    assert parse_time("2026-03-29", BERLIN, through=True) == datetime(2026, 3, 29, 22, tzinfo=UTC)
    moment = "2026-03-29T12:00:00+02:00"
    assert (
        parse_time(moment, BERLIN) == parse_time(moment, BERLIN, through=True) == datetime(2026, 3, 29, 10, tzinfo=UTC)
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-02-29",
        "2026-13-01",
        "20260101",
        "2026-1-1",
        "2026-01-01 ",
        "２０２６-01-01",
        "today",
        "1",
        "0000-01-01",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a time with its zone"):
        parse_time(text, BERLIN)


@pytest.mark.parametrize(("text", "through"), [("9999-12-31", True), ("0001-01-01", False)])
def test_a_day_beyond_the_calendar_is_refused(text: str, through: bool) -> None:
    with pytest.raises(ValueError, match="must be a time"):
        parse_time(text, ZoneInfo("Asia/Tokyo"), through=through)


def test_every_parameter_that_is_no_time_is_named() -> None:
    with pytest.raises(errors.Invalid) as refusal:
        parse_times(("from", "x"), ("to", "2026-01-01"), TimeParameter("as_of", "y", through=True), zone=None)
    assert [fault.parameter for fault in refusal.value.faults] == ["from", "to", "as_of"]


def test_a_period_may_be_empty_but_not_end_before_it_begins() -> None:
    first, later = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    for since, until in ((first, later), (first, first), (None, first), (first, None)):
        require_order(since, until)
    with pytest.raises(errors.Invalid) as refusal:
        require_order(later, first, ("recorded_from", "recorded_to"))
    assert [fault.parameter for fault in refusal.value.faults] == ["recorded_from"]
