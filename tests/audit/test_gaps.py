"""The gap tracker against every order in which transactions take ids, commit and roll back, and the sealer looks."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from erp_service.audit.sealing.gaps import GapTracker
from erp_service.audit.sealing.sealer import merged, parsed


class Table(RuleBasedStateMachine):
    """A table with an identity column. `open` are the ids that each transaction has taken and not undone."""

    def __init__(self) -> None:
        super().__init__()
        self.next_id = 1
        self.transactions = 0
        self.open: dict[str, list[int]] = {}
        self.committed: set[int] = set()
        self.rolled_back: set[int] = set()
        self.sealed: list[int] = []
        self.tracker = GapTracker(0)
        self.through = 0

    @rule(count=st.integers(0, 2))
    def begin(self, count: int) -> None:
        """It has the lock of the table from here on."""
        self.transactions += 1
        self.open[f"1/{self.transactions}"] = list(range(self.next_id, self.next_id + count))
        self.next_id += count

    @precondition(lambda self: self.open)
    @rule(data=st.data(), count=st.integers(1, 3))
    def insert(self, data: st.DataObject, count: int) -> None:
        transaction = data.draw(st.sampled_from(sorted(self.open)))
        self.open[transaction] += range(self.next_id, self.next_id + count)
        self.next_id += count

    @rule(count=st.integers(1, 40))
    def jump(self, count: int) -> None:
        """As after a crash, when PostgreSQL leaves out up to 32."""
        self.rolled_back |= set(range(self.next_id, self.next_id + count))
        self.next_id += count

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def undo_to_a_savepoint(self, data: st.DataObject) -> None:
        transaction = data.draw(st.sampled_from(sorted(self.open)))
        self.rolled_back |= set(self.open[transaction])
        self.open[transaction] = []

    @precondition(lambda self: self.open)
    @rule(data=st.data(), commits=st.booleans())
    def end(self, data: st.DataObject, commits: bool) -> None:
        ids = self.open.pop(data.draw(st.sampled_from(sorted(self.open))))
        (self.committed if commits else self.rolled_back).update(ids)

    @rule()
    def ask_for_writers(self) -> None:
        self.tracker.on_writers(frozenset(self.open))

    @rule(limit=st.sampled_from([1, 2, 3, 1000]))
    def look(self, limit: int) -> None:
        wanted = [id_ for gap in self.tracker.gaps for id_ in range(gap.first, gap.last + 1) if id_ in self.committed]
        wanted += [id_ for id_ in sorted(self.committed) if id_ > self.tracker.last]
        seen = wanted[:limit]
        self.tracker.on_seen(merged((id_, id_) for id_ in seen), up_to=seen[-1] if len(seen) == limit else None)
        self.sealed += seen
        if seen:
            self.through = self.tracker.through

    @rule()
    def another_sealer_takes_over(self) -> None:
        """It knows only what was written with the last positions."""
        self.tracker = GapTracker(self.through)
        self.tracker.on_seen(merged((id_, id_) for id_ in sorted(self.sealed) if id_ > self.through))

    @invariant()
    def nothing_is_sealed_twice_or_given_up(self) -> None:
        assert len(self.sealed) == len(set(self.sealed))
        up_to = set(range(1, self.tracker.through + 1))
        assert up_to <= {*self.sealed} | self.rolled_back

    def teardown(self) -> None:
        for ids in self.open.values():
            self.committed |= set(ids)
        self.open = {}
        self.look(10_000)
        self.ask_for_writers()
        self.look(10_000)
        assert set(self.sealed) == self.committed
        assert not self.tracker.gaps
        assert self.tracker.through == max(self.committed, default=0)


def test_every_id_that_commits_is_seen_once_and_no_other_is_waited_for() -> None:
    run_state_machine_as_test(Table, settings=settings(max_examples=150, stateful_step_count=25))


def gaps(tracker: GapTracker) -> list[tuple[int, int]]:
    return [(gap.first, gap.last) for gap in tracker.gaps]


def test_a_gap_stays_while_one_of_its_first_writers_does() -> None:
    tracker = GapTracker(0)
    tracker.on_seen([(3, 3)])
    for writers in ({"1/7", "2/8"}, {"1/7", "3/9"}, {"1/7"}):
        tracker.on_writers(frozenset(writers))
        tracker.on_seen(())
        assert (gaps(tracker), tracker.through) == ([(1, 2)], 0)
    # others that came later are not waited for
    tracker.on_writers(frozenset({"3/10"}))
    tracker.on_seen([(2, 2)])
    assert (gaps(tracker), tracker.through) == ([], 3)


def test_a_gap_is_not_given_up_before_somebody_looked_since_its_writers_are_known() -> None:
    tracker = GapTracker(0)
    tracker.on_seen([(3, 3)])
    # without asking for the writers in between
    tracker.on_seen(())
    assert gaps(tracker) == [(1, 2)]
    tracker.on_writers(frozenset())
    # this look had no room for what is in the second one
    tracker.on_seen([(5, 5)])
    assert gaps(tracker) == [(4, 4)]
    tracker.on_writers(frozenset())
    tracker.on_seen([(7, 7)], up_to=3)
    assert gaps(tracker) == [(4, 4), (6, 6)]


def test_ids_are_read_as_postgres_writes_them() -> None:
    assert parsed("{[1,5),[7,8)}") == [(1, 4), (7, 7)]
    assert parsed("{}") == []
    assert merged([(1, 1), (2, 4), (6, 6), (7, 7)]) == [(1, 4), (6, 7)]
