"""When an event is sent again."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from erp_service.events.webhooks.sending.retries import Retries

SINCE = datetime(2026, 1, 1, tzinfo=UTC)


def test_pauses_grow_and_the_last_attempt_is_at_the_end_of_three_days() -> None:
    retries, now = Retries(), SINCE
    pauses: list[float] = []
    while (following := retries.next_attempt(len(pauses) + 1, SINCE, now, draw=lambda: 0.0)) is not None:
        pauses.append((following - now).total_seconds())
        now = following
    assert pauses[:7] == [5, 30, 120, 900, 3600, 21_600, 43_200]
    assert now == SINCE + timedelta(days=3)
    assert len(pauses) == 12


@given(st.integers(1, 30), st.floats(0, 3 * 86_400 - 1), st.floats(0, 1), st.none() | st.floats(0, 1e9))
def test_next_attempt_is_later_and_never_after_the_end(
    failures: int, passed: float, drawn: float, wish: float | None
) -> None:
    now = SINCE + timedelta(seconds=passed)
    following = Retries().next_attempt(failures, SINCE, now, wish, draw=lambda: drawn)
    assert following is not None
    assert now < following <= SINCE + timedelta(days=3)
    assert following - now <= timedelta(hours=12 * 1.2)


def test_endpoints_that_failed_together_do_not_return_together() -> None:
    retries = Retries()
    first, second = (retries.next_attempt(3, SINCE, SINCE, draw=lambda d=d: d) for d in (0.1, 0.9))  # type: ignore[misc]
    assert first is not None
    assert second is not None
    assert second - first > timedelta(seconds=10)


def test_wish_of_the_endpoint_counts_within_bounds() -> None:
    retries = Retries()
    for wish, seconds in ((0.0, 1), (7.0, 7), (1e9, 12 * 3600)):
        assert retries.next_attempt(1, SINCE, SINCE, wish) == SINCE + timedelta(seconds=seconds)
