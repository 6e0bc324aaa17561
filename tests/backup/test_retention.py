"""Which backups stay, for any set of backups."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from ops.backups.retention import Retention, retained
from ops.backups.timelines import number_of, segment_name

_FIRST, _LAST = datetime(2024, 1, 1), datetime(2027, 1, 1)  # noqa: DTZ001 as Hypothesis wants its bounds
TIMES = st.sets(st.datetimes(_FIRST, _LAST, timezones=st.just(UTC)), max_size=60)
RETENTIONS = st.builds(Retention, *(st.integers(0, 15) for _ in range(3)))


@given(TIMES, RETENTIONS)
def test_newest_stays_and_nothing_is_invented(times: set[datetime], retention: Retention) -> None:
    stay = retained(times, retention)
    assert stay <= times
    assert not times or max(times) in stay
    assert len(stay) <= sum(retention) + 1


@given(TIMES, RETENTIONS)
def test_newest_of_each_of_the_last_days_weeks_and_months_stays(times: set[datetime], retention: Retention) -> None:
    stay = retained(times, retention)
    for most, period in ((retention.daily, "%Y-%j"), (retention.weekly, "%G-%V"), (retention.monthly, "%Y-%m")):
        newest = {at.strftime(period): at for at in sorted(times)}
        assert set(sorted(newest.values(), reverse=True)[:most]) <= stay


@given(TIMES, RETENTIONS)
def test_a_second_pass_removes_nothing_more(times: set[datetime], retention: Retention) -> None:
    once = retained(times, retention)
    assert retained(once, retention) == once


@given(st.integers(1, 400), st.integers(0, 23))
def test_night_after_night_there_is_a_week_of_days_and_a_year_of_months(nights: int, hour: int) -> None:
    there: set[datetime] = set()
    for night in range(nights):
        there.add(datetime(2025, 1, 1, hour, tzinfo=UTC) + timedelta(days=night))
        there = retained(there, Retention(7, 5, 12))
    last = max(there)
    assert {last - timedelta(days=back) for back in range(min(7, nights))} <= there
    assert len({at.strftime("%Y-%m") for at in there}) >= min(12, (last.year - 2025) * 12 + last.month)


def test_segments_follow_each_other_as_the_server_counts_them() -> None:
    megabytes = 1024 * 1024

    def following(name: str, segment_bytes: int) -> str:
        return segment_name(int(name[:8], 16), number_of(name, segment_bytes) + 1, segment_bytes)

    assert following("0000000100000000000000FE", 16 * megabytes) == "0000000100000000000000FF"
    assert following("0000000100000000000000FF", 16 * megabytes) == "000000010000000100000000"
    assert following("00000003000000020000003F", 64 * megabytes) == "000000030000000300000000"
