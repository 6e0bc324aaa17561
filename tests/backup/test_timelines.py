"""Lineages, for histories as Postgres writes them."""

from hypothesis import given
from hypothesis import strategies as st

from ops.backups.timelines import Lineage, segment_name

MEGABYTES = 1024 * 1024
EACH = 16 * MEGABYTES
HISTORY = "1\t0/3000148\tno recovery target specified\n\n2\t1/02000000\tbefore 2026-11-23 16:04:59+00\n"


def names(*segments: tuple[int, int]) -> set[str]:
    return {segment_name(timeline, number, EACH) for timeline, number in segments}


def test_history_file_says_where_each_ancestor_was_left() -> None:
    lineage = Lineage.parse(3, HISTORY)
    assert lineage.ancestors == ((1, 0x3000148), (2, 0x1_0200_0000))
    assert lineage.holds(1, 0x3000148)
    assert not lineage.holds(1, 0x3000149)
    assert lineage.holds(3, 1 << 40)
    assert not lineage.holds(4, 0)


def test_segment_in_which_a_timeline_begins_is_read_from_the_new_one() -> None:
    lineage = Lineage.parse(3, HISTORY)
    at_the_fork = [lineage.segment(number, EACH)[:8] for number in (2, 3, 257, 258)]
    assert at_the_fork == ["00000001", "00000002", "00000002", "00000003"]


def test_gap_is_looked_for_along_the_lineage_only() -> None:
    lineage = Lineage(2, ((1, 3 * EACH + 100),))
    # beyond the fork the lost primary went on, and its segments prove nothing
    assert lineage.first_gap(names((1, 1), (1, 2), (1, 3), (1, 4), (1, 9), (2, 3), (2, 4)), EACH) is None
    assert lineage.first_gap(names((1, 1), (1, 2), (1, 3), (2, 4)), EACH) == segment_name(2, 3, EACH)
    assert lineage.first_gap(names((1, 3), (2, 5)), EACH) == segment_name(2, 3, EACH)
    assert lineage.first_gap(names((1, 1), (2, 3)), EACH) == segment_name(1, 2, EACH)
    assert lineage.first_gap(names((1, 3), (1, 4)), EACH) is None


@st.composite
def lineages(draw: st.DrawFn) -> Lineage:
    ends = sorted(draw(st.lists(st.integers(EACH, 20 * EACH), max_size=5)))
    return Lineage(len(ends) + 1, tuple(enumerate(ends, 1)))


@given(lineages(), st.integers(0, 15), st.integers(2, 10), st.data())
def test_any_segment_that_is_missing_is_named(lineage: Lineage, first: int, count: int, data: st.DataObject) -> None:
    path = [lineage.segment(number, EACH) for number in range(first, first + count)]
    assert lineage.own(path, EACH) == list(range(first, first + count))
    assert lineage.first_gap(set(path), EACH) is None
    if count > 2:
        missing = data.draw(st.sampled_from(path[1:-1]))
        assert lineage.first_gap(set(path) - {missing}, EACH) == missing
