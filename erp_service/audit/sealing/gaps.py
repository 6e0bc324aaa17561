"""Which ids of a table are not visible yet, and which never will be.

An identity column takes its ids one after another, but a transaction that took one may commit long after another with a
greater id, or roll back. Whoever looks for "greater than the last" loses the first; and neither transaction ids nor
their horizon help, because an id is taken before the transaction has one of its own (dba.stackexchange.com 342896).

So the ids between those that were seen are kept as gaps. A transaction locks the table (ROW EXCLUSIVE, until its end)
before it takes an id. Hence whoever may still fill a gap holds that lock when the gap is found. Once all those have
ended, and the id is still not there, it was rolled back: as CREATE INDEX CONCURRENTLY waits for older transactions,
but only for those that write to this table, so that neither a dump nor an export delays anything. (A transaction of
PREPARE TRANSACTION holds its lock under another name. Nothing here prepares any.)"""

from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

Ids = tuple[int, int]
"""The first and the last of some ids that follow each other."""


class Gap(Struct, frozen=True):
    """Ids that were taken and are not visible. `writers` are the transactions that may still commit them; None until
    they are known."""

    first: int
    last: int
    writers: frozenset[str] | None = None


class GapTracker:
    """The state of one table, for rounds of: `on_writers` with the transactions that hold the lock; then one look at
    the table, for `wanted`, in one snapshot that is later than that; then `on_seen` with what was there."""

    def __init__(self, through: int) -> None:
        """Every id up to `through` is taken care of."""
        self.last = through
        """The greatest id that was seen."""
        self._gaps: list[Gap] = []

    @property
    def gaps(self) -> Sequence[Gap]:
        """In order; to be looked for together with all ids after `last`."""
        return self._gaps

    @property
    def through(self) -> int:
        """Every id up to it was seen, or was rolled back."""
        return self._gaps[0].first - 1 if self._gaps else self.last

    def on_writers(self, writers: frozenset[str]) -> None:
        """`writers`: the transactions that hold the lock at this moment."""
        self._gaps = [
            # those that have ended since the gap was found stay ended: ids of transactions are used once
            Gap(gap.first, gap.last, writers if gap.writers is None else gap.writers & writers)
            for gap in self._gaps
        ]

    def on_seen(self, seen: Iterable[Ids], *, up_to: int | None = None) -> None:
        """`seen`: what the look found among the gaps and after `last`, in order. `up_to`: the look went no further
        than this id; None: it went to the end."""
        seen = list(seen)
        kept: list[Gap] = []
        for gap in self._gaps:
            looked_at = up_to is None or gap.last <= up_to
            for first, last in _without(gap.first, gap.last, seen):
                # no writer is left, and this look came after the last one ended
                if not (looked_at and gap.writers is not None and not gap.writers):
                    kept.append(Gap(first, last, gap.writers))
        if seen and (last_seen := seen[-1][1]) > self.last:
            kept += [Gap(first, last) for first, last in _without(self.last + 1, last_seen, seen)]
            self.last = last_seen
        self._gaps = kept


def _without(first: int, last: int, seen: Sequence[Ids]) -> Iterator[Ids]:
    """The parts of first..last that are not among `seen`, which is in order."""
    for seen_first, seen_last in seen:
        if seen_last < first or seen_first > last:
            continue
        if first < seen_first:
            yield first, seen_first - 1
        first = seen_last + 1
    if first <= last:
        yield first, last
