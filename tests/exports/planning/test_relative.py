"""Times relative to the run: by the calendar of a time zone, whatever its clock does."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from erp_service.exports.planning.relative import Moment, resolve
from tests.exports.data import fill
from tests.exports.jobs import JOBS, done, row_of
from tests.support.clients import UserClient
from tests.support.workers import Work

BERLIN = ZoneInfo("Europe/Berlin")
# Clock changes of an hour, half an hour, at midnight, a whole day left out, and none. Not St. John's, where until 2011
# the clock went back a minute after midnight: no period holds all of a day of which a minute lies in the next one.
ZONES = [
    ZoneInfo(name)
    for name in ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Africa/Cairo",
                 "Pacific/Apia", "Asia/Kathmandu", "America/Havana")
]  # fmt: skip
UNITS = ["day", "week", "month", "quarter", "year"]
# seconds of 1980 to 2037
INSTANTS = st.integers(315_532_800, 2_114_380_800).map(lambda second: datetime.fromtimestamp(second, UTC))
moments = st.builds(Moment, INSTANTS, st.sampled_from(ZONES))


def local(text: str, at: str, zone: ZoneInfo = BERLIN) -> str:
    found = resolve(text, Moment(datetime.fromisoformat(at), zone))
    return found.astimezone(zone).isoformat()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("now", "2026-03-31T06:30:15+02:00"),
        ("today", "2026-03-31T00:00:00+02:00"),
        ("yesterday", "2026-03-30T00:00:00+02:00"),
        ("tomorrow", "2026-04-01T00:00:00+02:00"),
        ("start of hour", "2026-03-31T06:00:00+02:00"),
        ("start of week", "2026-03-30T00:00:00+02:00"),
        ("start of month", "2026-03-01T00:00:00+01:00"),
        ("start of month -1 month", "2026-02-01T00:00:00+01:00"),
        ("start of quarter", "2026-01-01T00:00:00+01:00"),
        ("start of quarter -1 quarter", "2025-10-01T00:00:00+02:00"),
        ("start of year -1 year", "2025-01-01T00:00:00+01:00"),
        ("today -7 days", "2026-03-24T00:00:00+01:00"),
        ("-1 month", "2026-02-28T06:30:15+01:00"),
        ("-1 day", "2026-03-30T06:30:15+02:00"),
        ("-24 hours", "2026-03-30T06:30:15+02:00"),
        ("-72 hours", "2026-03-28T05:30:15+01:00"),
        ("-3 days", "2026-03-28T06:30:15+01:00"),
        ("+2 weeks", "2026-04-14T06:30:15+02:00"),
        ("yesterday +1 year", "2027-03-30T00:00:00+02:00"),
    ],
)
def test_words_mean_what_people_mean(text: str, shown: str) -> None:
    assert local(text, "2026-03-31T04:30:15.999999+00:00") == shown


def test_times_that_the_clock_skips_are_right_after_the_jump() -> None:
    assert local("-1 day", "2026-03-30T02:30:00+02:00") == "2026-03-29T03:00:00+02:00"
    # midnight does not exist on the day of the change
    assert local("today", "2018-11-04T12:00:00+00:00", ZoneInfo("America/Sao_Paulo")) == "2018-11-04T01:00:00-02:00"
    # a whole day does not exist
    apia = ZoneInfo("Pacific/Apia")
    assert local("yesterday", "2011-12-31T12:00:00+14:00", apia) == "2011-12-31T00:00:00+14:00"


def test_times_that_the_clock_shows_twice_are_the_first() -> None:
    assert local("-1 day", "2026-10-26T02:30:00+01:00") == "2026-10-25T02:30:00+02:00"
    # but the present hour is the present one
    assert local("start of hour", "2026-10-25T02:30:00+01:00") == "2026-10-25T02:00:00+01:00"
    assert local("now", "2026-10-25T02:30:00+01:00") == "2026-10-25T02:30:00+01:00"


@given(moments)
@example(Moment(datetime(2026, 3, 29, 12, tzinfo=UTC), BERLIN))
@example(Moment(datetime(2018, 11, 4, 12, tzinfo=UTC), ZoneInfo("America/Sao_Paulo")))
def test_periods_hold_their_moment_and_join(moment: Moment) -> None:
    for unit in UNITS:
        this, following = f"start of {unit}", f"start of {unit} +1 {unit}"
        start, end = resolve(this, moment), resolve(following, moment)
        assert start <= moment.at < end
        # seen from the next period, this one is the last one
        later = Moment(end, moment.zone)
        assert resolve(this, later) == end
        assert resolve(f"start of {unit} -1 {unit}", later) == start
        shown = start.astimezone(moment.zone)
        if unit != "week":
            assert shown.day == 1 or unit == "day" or shown.hour, "the first, unless the clock skips it"


@given(moments)
def test_yesterday_and_today_are_days_of_the_zone(moment: Moment) -> None:
    here = moment.at.astimezone(moment.zone).date()
    start = resolve("today", moment)
    assert start.astimezone(moment.zone).date() == here
    assert (start - timedelta(seconds=1)).astimezone(moment.zone).date() <= here
    assert resolve("yesterday", moment) == resolve("today -1 day", moment) == resolve("start of day -1 day", moment)
    assert resolve("yesterday", moment) <= start
    assert resolve("-3 hours", moment) == moment.at.replace(microsecond=0) - timedelta(hours=3)


@given(moments, st.integers(1, 999), st.sampled_from([*UNITS, "hour"]), st.sampled_from(["now", "today", ""]))
def test_a_shorter_way_back_is_never_further_back(moment: Moment, count: int, unit: str, anchor: str) -> None:
    further, nearer = (resolve(f"{anchor} -{n} {unit}s".strip(), moment) for n in (count, max(count - 1, 1)))
    assert further <= nearer <= moment.at


@pytest.mark.parametrize(
    "text",
    ["", " ", "Today", "last month", "-1month", "- 1 month", "-1 fortnight", "-0 days", "-1000 days", "-01 days",
     "1 day", "today-1 day", "today  -1 day", "start of", "start of decade", "start of month -1 month -1 day",
     "-1 day today", "-١ days", "today\n", "-1.5 days", "--1 day", "start of the month"],
)  # fmt: skip
def test_what_is_not_understood_is_refused_with_the_grammar(text: str) -> None:
    with pytest.raises(ValueError, match=r"start of hour, day, week.*start of month -1 month"):
        resolve(text, Moment(datetime(2026, 1, 1, tzinfo=UTC), BERLIN))


def test_no_offset_leaves_the_calendar_unnoticed() -> None:
    early = Moment(datetime(2, 1, 1, tzinfo=UTC), BERLIN)
    with pytest.raises(ValueError, match="years 1 to 9999"):
        resolve("-999 years", early)


LAST_MONTH = {"from": "start of month -1 month", "to": "start of month"}


async def test_relative_period_is_resolved_and_written_into_the_job(
    viewer: UserClient, owner: asyncpg.Connection
) -> None:
    request: dict[str, Any] = {"dataset": "stock_movements", "filter": LAST_MONTH, "timezone": "Europe/Berlin"}
    job = (await viewer.post(JOBS, json=request)).json()
    expected = await owner.fetchrow(
        "select (date_trunc('month', now() at time zone $1) - interval '1 month') at time zone $1 as start,"
        " date_trunc('month', now() at time zone $1) at time zone $1 as stop",
        "Europe/Berlin",
    )
    times = {"from": f"{expected['start']:%Y-%m-%dT%H:%M:%SZ}", "to": f"{expected['stop']:%Y-%m-%dT%H:%M:%SZ}"}
    assert job["filter"] == times
    assert (await row_of(owner, job["id"]))["spec"].count("start of") == 0
    twin = (await viewer.post(JOBS, json=request)).json()
    assert (twin["id"], twin["deduplicated"]) == (job["id"], True), "the same period is the same request"
    written = (await viewer.post(JOBS, json={**request, "filter": times})).json()
    assert written["id"] == job["id"]


async def test_relative_period_chooses_the_rows_of_it(
    viewer: UserClient, owner: asyncpg.Connection, work: Work
) -> None:
    await fill(owner, viewer.user_id, movements=20)
    async with work():
        old = await done(viewer, "stock_movements", filter={"from": "start of year -99 years", "to": "yesterday"})
        new = await done(viewer, "stock_movements", filter={"from": "yesterday", "to": "tomorrow"})
    assert (old["result"]["rows"], new["result"]["rows"]) == (20, 0)


async def test_a_date_is_a_day_in_the_zone_of_the_job_else_of_the_company(
    viewer: UserClient, owner: asyncpg.Connection
) -> None:
    """29 March 2026 has 23 hours in Berlin."""
    await owner.execute("update company set timezone = 'Europe/Berlin'")
    request: dict[str, Any] = {"dataset": "stock_movements", "filter": {"from": "2026-03-29", "to": "2026-03-30"}}
    of_company = (await viewer.post(JOBS, json=request)).json()
    assert of_company["filter"] == {"from": "2026-03-28T23:00:00Z", "to": "2026-03-29T22:00:00Z"}
    of_job = (await viewer.post(JOBS, json={**request, "timezone": "Asia/Tokyo"})).json()
    assert of_job["filter"] == {"from": "2026-03-28T15:00:00Z", "to": "2026-03-29T15:00:00Z"}
    recorded = {"recorded_from": "2026-03-30", "recorded_to": "today"}
    estimate = await viewer.post("/api/v1/exports/estimates", json={**request, "filter": recorded})
    assert estimate.status_code == 200, estimate.text


async def test_a_period_that_ends_before_it_begins_is_refused(viewer: httpx.AsyncClient) -> None:
    for since, until in (("from", "to"), ("recorded_from", "recorded_to")):
        period = {since: "2026-03-30", until: "2026-03-29T00:00:00Z"}
        answer = await viewer.post(JOBS, json={"dataset": "stock_movements", "filter": period})
        assert answer.status_code == 422
        assert [fault["pointer"] for fault in answer.json()["errors"]] == [f"/filter/{since}"]


async def test_refused_time_answers_with_the_grammar(viewer: httpx.AsyncClient) -> None:
    for value in ("last month", "2026-01-31T12:00:00", 5, True):
        answer = await viewer.post(JOBS, json={"dataset": "stock_movements", "filter": {"from": value, "to": "today"}})
        assert answer.status_code == 422
        (fault,) = answer.json()["errors"]
        assert fault["pointer"] == "/filter/from"
        assert "start of month -1 month" in fault["detail"]
        assert "2026-01-31T12:00:00Z" in fault["detail"]
    other = await viewer.post(JOBS, json={"dataset": "items", "filter": {"q": "today"}})
    assert (other.status_code, other.json()["filter"]) == (202, {"q": "today"}), "only a time is one"
