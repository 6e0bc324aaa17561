"""However instances lease, wait, lose answers and crash: never more than the limit passes in a window, and none is
refused while a use is free."""

from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from erp_service.web.request_limits.leases import Demand, Grant, Leases, Tuning
from tests.web.request_limits.model import SharedCounts

KEY = "user:1"
SECONDS = 60.0
INSTANCES = 3
INSTANCE = st.integers(0, INSTANCES - 1)


class Sent(NamedTuple):
    """A statement that the database has run, whose answer has not arrived."""

    at: float
    grants: list[Grant]


class Instance:
    """As limiter.py drives the leases: one statement at a time, requests that wait, some that pass at once."""

    def __init__(self, skew: float) -> None:
        self.leases = Leases(Tuning(least_ahead=4))
        self.waiting = 0
        self.sent: Sent | None = None
        self.skew = skew


class Cluster(RuleBasedStateMachine):
    @initialize(most=st.integers(1, 120), skews=st.tuples(*[st.floats(-1000, 1000)] * INSTANCES))
    def start(self, most: int, skews: tuple[float, ...]) -> None:
        self.most = most
        self.counts = SharedCounts(SECONDS)
        self.instances = [Instance(skew) for skew in skews]
        self.passed: dict[float, int] = {}
        self.lost = 0
        self.window: float | None = None

    def clock(self, instance: Instance) -> float:
        """Of the instance: monotonic clocks have nothing in common but their pace."""
        return self.counts.now + instance.skew

    def end_of_window(self) -> float | None:
        """Of the window that is not over."""
        count = self.counts.counts.get(KEY)
        return count.resets_at if count and count.resets_at > self.counts.now else None

    def pass_one(self) -> None:
        window = self.end_of_window()
        assert window is not None, "let through after its window"
        self.passed[window] = self.passed.get(window, 0) + 1

    @rule(number=INSTANCE, requests=st.integers(1, 40))
    def request(self, number: int, requests: int) -> None:
        instance = self.instances[number]
        for _ in range(requests):
            now = self.clock(instance)
            lease = instance.leases.of(KEY, self.most)
            if instance.leases.use(lease, now):
                self.pass_one()
            elif not lease.is_refused(now):
                instance.waiting += 1

    @rule(number=INSTANCE, lost=st.sampled_from([False, False, False, True]))
    def send(self, number: int, lost: bool) -> None:
        """The database answers at once; `lost`: the answer, or all of the outage, never arrives."""
        instance = self.instances[number]
        if instance.sent is not None:
            return
        now = self.clock(instance)
        waiting = {KEY: instance.waiting} if instance.waiting else {}
        demands: list[Demand] = instance.leases.unused(now, besides=waiting)
        demands += instance.leases.demands(waiting, now)
        assert len({demand.key for demand in demands}) == len(demands), "one statement changes a row once"
        if not demands:
            return
        grants = self.counts.settle(demands)
        if lost:
            # who waits passes uncounted, which the limiter's metric counts
            instance.waiting = 0
        else:
            instance.sent = Sent(now, grants)

    @rule(number=INSTANCE)
    def receive(self, number: int) -> None:
        instance = self.instances[number]
        if (sent := instance.sent) is None:
            return
        instance.sent = None
        now = self.clock(instance)
        instance.leases.apply(sent.grants, sent_at=sent.at, now=now)
        lease = instance.leases.of(KEY, self.most)
        while instance.waiting:
            if instance.leases.use(lease, now):
                self.pass_one()
            elif not lease.is_exhausted(now):
                return
            instance.waiting -= 1

    @rule(number=INSTANCE)
    def crash(self, number: int) -> None:
        """And start anew, without what it had leased."""
        self.instances[number] = Instance(self.instances[number].skew)

    @rule(seconds=st.sampled_from([0.01, 0.1, 1.0, 6.0, 30.0, 59.99, 60.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self.counts.now += seconds

    @rule(number=INSTANCE)
    def ask_for_one(self, number: int) -> None:
        """Refused only if others hold all that is left."""
        instance = self.instances[number]
        if instance.waiting or instance.sent is not None:
            return
        before = self.passed.copy()
        self.request(number, 1)
        self.send(number, False)
        self.receive(number)
        window = self.end_of_window()
        if self.passed == before and window is not None:
            assert self.counts.counts[KEY].taken >= self.most

    @invariant()
    def never_more_than_the_limit(self) -> None:
        assert all(passed <= self.most for passed in getattr(self, "passed", {}).values())

    @invariant()
    def leases_and_uses_are_within_the_count(self) -> None:
        """What passed and what may still pass without asking."""
        if (window := self.end_of_window() if hasattr(self, "counts") else None) is None:
            return
        leased = sum(
            lease.left
            for instance in self.instances
            if self.clock(instance) < (lease := instance.leases.of(KEY, self.most)).ends_at
        )
        assert self.passed.get(window, 0) + leased <= self.counts.counts[KEY].taken <= self.most


TestCluster = Cluster.TestCase
TestCluster.settings = settings(max_examples=150, stateful_step_count=40)


def leases_after_one_grant(granted: int, *, seconds: float = SECONDS) -> tuple[Leases, SharedCounts]:
    counts = SharedCounts(seconds)
    leases = Leases(Tuning(least_ahead=granted))
    leases.of(KEY, 10_000)
    leases.apply(counts.settle(leases.demands({KEY: 1}, 0.0)), sent_at=0.0, now=0.0)
    return leases, counts


def test_lease_ends_with_its_window_however_late_the_answer_came() -> None:
    """What is counted from the arrival of the answer ends too late, and lets uses of one window through in the next."""
    counts, leases = SharedCounts(SECONDS), Leases()
    lease = leases.of(KEY, 10_000)
    leases.apply(counts.settle(leases.demands({KEY: 1}, 100.0)), sent_at=100.0, now=107.0)
    assert leases.use(lease, 159.9)
    assert not leases.use(lease, 160.0)


def test_caller_whose_lease_was_not_filled_up_may_still_ask_for_the_last_uses() -> None:
    counts, leases = SharedCounts(SECONDS), Leases()
    lease = leases.of(KEY, 7)
    leases.apply(counts.settle(leases.demands({KEY: 2}, 0.0)), sent_at=0.0, now=0.0)
    assert leases.use(lease, 0.0)
    assert leases.use(lease, 0.0)
    leases.apply(counts.settle(leases.demands({}, 0.0)), sent_at=0.0, now=0.0)
    assert not leases.use(lease, 0.0)
    assert not lease.is_refused(0.0)


def test_caller_who_is_refused_is_refused_without_asking_until_a_moment_later() -> None:
    counts, leases = SharedCounts(SECONDS), Leases()
    lease = leases.of(KEY, 1)
    leases.apply(counts.settle(leases.demands({KEY: 2}, 0.0)), sent_at=0.0, now=0.0)
    assert leases.use(lease, 0.0)
    assert not leases.use(lease, 0.0)
    assert lease.is_refused(0.05)
    assert not lease.is_refused(0.15)


def test_caller_far_from_the_limit_asks_before_the_lease_is_used_up_and_never_waits() -> None:
    """A thousand requests in a second, and a statement ten times in it."""
    leases, counts = leases_after_one_grant(16)
    lease = leases.of(KEY, 10_000)
    waits = statements = 0
    for number in range(1000):
        now = counts.now = number / 1000
        waiting = 0 if leases.use(lease, now) else 1
        waits += waiting
        if waiting or number % 100 == 0:
            statements += 1
            leases.apply(counts.settle(leases.demands({KEY: 1} if waiting else {}, now)), sent_at=now, now=now)
    assert waits <= 3
    assert statements <= 13


def test_slow_caller_leases_few_uses_so_that_the_remaining_count_is_nearly_exact() -> None:
    leases, counts = leases_after_one_grant(16)
    lease = leases.of(KEY, 10_000)
    for number in range(100):
        now = counts.now = number / 2
        if not leases.use(lease, now):
            leases.apply(counts.settle(leases.demands({KEY: 1}, now)), sent_at=now, now=now)
        assert lease.left <= 32


def test_what_a_caller_left_unused_goes_back() -> None:
    leases, counts = leases_after_one_grant(16)
    assert leases.use(leases.of(KEY, 10_000), 0.0)
    assert not leases.unused(1.0)
    counts.settle(leases.unused(6.0))
    assert counts.counts[KEY].taken == 1
    assert len(leases) == 0


def test_uses_of_a_window_that_is_over_are_not_given_back_to_the_next() -> None:
    leases, counts = leases_after_one_grant(16)
    counts.now = 61.0
    other = Leases()
    other.of(KEY, 10_000)
    other.apply(counts.settle(other.demands({KEY: 1}, 61.0)), sent_at=61.0, now=61.0)
    taken = counts.counts[KEY].taken
    assert not leases.unused(61.0)
    # sent just before the end, arrived after it
    late = Demand(KEY, 10_000, 0, 0, 16, leases.of(KEY, 10_000).window)
    counts.settle([late])
    assert counts.counts[KEY].taken == taken


@pytest.mark.parametrize("remaining", range(1, 9))
def test_the_last_uses_are_leased_to_those_who_wait_alone(remaining: int) -> None:
    counts = SharedCounts(SECONDS)
    counts.settle([Demand(KEY, 100, 100 - remaining, 0, 0, None)])
    (grant,) = counts.settle([Demand(KEY, 100, 1, 50, 0, None)])
    assert grant.granted == 1
    assert grant.taken == 100 - remaining + 1
