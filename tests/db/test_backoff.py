"""The pauses between attempts, as whoever waits for a server sees them."""

import pytest

from erp_service.db.backoff import Backoff
from erp_service.exports.run import store_failures


def test_each_pause_is_twice_the_one_before_up_to_the_longest() -> None:
    pauses = Backoff(0.05, 0.5)
    assert [pauses.next() for _ in range(6)] == [0.05, 0.1, 0.2, 0.4, 0.5, 0.5]
    pauses.reset()
    assert pauses.next() == 0.05


def test_the_first_attempt_after_a_success_may_follow_at_once() -> None:
    pauses = Backoff(0.05, 0.5, at_once=True)
    assert [pauses.next() for _ in range(4)] == [0, 0.05, 0.1, 0.2]
    pauses.reset()
    assert [pauses.next() for _ in range(2)] == [0, 0.05]


@pytest.mark.parametrize(("failures", "pause"), [(1, 0.5), (2, 1), (5, 8), (100_000, 8)])
def test_the_count_may_be_kept_elsewhere(failures: int, pause: float) -> None:
    assert Backoff(0.5, 8).after(failures) == pause


def test_an_outage_of_days_does_not_overflow() -> None:
    pauses = Backoff(0.05, 2)
    assert {pauses.next() for _ in range(2_000)} == {0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2}


def test_an_export_comes_back_to_a_store_more_and_more_seldom() -> None:
    assert [store_failures.pause(attempt) for attempt in (1, 2, 3, 6, 7, 65)] == [1, 2, 4, 32, 60, 60]
