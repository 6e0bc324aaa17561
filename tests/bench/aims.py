"""What the service should reach, and whether a run reached it."""

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from tests.bench.parts import cost, exports, growth, mixed, postings, queue, reads, replication, sync
from tests.bench.peers.pgbench import PGBENCH
from tests.bench.peers.web import BARE, PEOPLE
from tests.bench.recorder import P50, P99, RATE
from tests.bench.records import OURS, Key, Run, ratios


class Measure(NamedTuple):
    """A figure, or its ratio to the one `under` it, round by round."""

    figure: Key
    under: Key | None = None

    def median_in(self, run: Run) -> float | None:
        """None if the run does not have it."""
        values = run.values(self.figure)
        if self.under is not None:
            values = ratios(values, run.values(self.under))
        return median(values) if values else None


class Aim(NamedTuple):
    """The worst of the measures must be at least, or at most, `bound`."""

    what: str
    at_least: bool
    bound: float
    unit: str
    measures: Sequence[Measure]

    @property
    def parts(self) -> set[str]:
        return {key.part for measure in self.measures for key in measure if key is not None}

    @property
    def text(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.bound:g} {self.unit}".strip()

    def figure_in(self, run: Run) -> float | None:
        """None if any measure of it is missing in the run."""
        values = [measure.median_in(run) for measure in self.measures]
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            return None
        return min(known) if self.at_least else max(known)

    def is_judged_by(self, run: Run) -> bool:
        """True as well if its parts were not in the run."""
        return not self.parts <= set(run.parts) or self.figure_in(run) is not None

    def met_by(self, figure: float) -> bool:
        return figure >= self.bound if self.at_least else figure <= self.bound


def _rate(part: str, what: str, way: str = OURS) -> Key:
    return Key(part, what, way, RATE)


def _against(part: str, what: str, peer: str) -> list[Measure]:
    return [Measure(_rate(part, what), _rate(part, what, peer))]


def _in_times_of_50_items(what: str) -> list[Measure]:
    return [Measure(_rate(reads.PART, reads.ITEMS), _rate(reads.PART, what))]


def _grown(what: str) -> Measure:
    small, large = (Key(growth.PART, what, way, RATE) for way in (growth.SMALL, growth.LARGE))
    return Measure(small, large)


def _beside_exports(what: str) -> list[Measure]:
    alone = Key(mixed.PART, what, mixed.ALONE, P99)
    return [Measure(Key(mixed.PART, what, way, P99), alone) for way in mixed.EXPORTS]


def _in_bulk(what: str, *, to: str | None = None) -> Measure:
    many = Key(sync.PART, what, sync.BULK, sync.ITEMS_RATE)
    return Measure(many, None if to is None else Key(sync.PART, what, to, sync.ITEMS_RATE))


def _replicated(what: str) -> Measure:
    near, alone = (Key(replication.PART, what, way, P50) for way in (replication.FLUSHED, replication.NOBODY))
    return Measure(near, alone)


_RECEIPTS = (postings.SPREAD, postings.HOT)
AIMS = (
    Aim("item by id, to the bare driver", True, 0.75, "", _against(reads.PART, reads.ITEM, BARE)),
    Aim("50 items, to the bare driver", True, 0.75, "", _against(reads.PART, reads.ITEMS, BARE)),
    Aim("item by id, to FastAPI with ORM", True, 4, "", _against(reads.PART, reads.ITEM, PEOPLE)),
    Aim("50 items, to FastAPI with ORM", True, 4, "", _against(reads.PART, reads.ITEMS, PEOPLE)),
    Aim("`/health/live`, to the bare framework", True, 0.8, "", _against(reads.PART, reads.LIVE, BARE)),
    Aim("stock/current, 50 rows, in times of 50 items", False, 1.3, "", _in_times_of_50_items(reads.STOCK)),
    Aim("ledger, 50 rows, in times of 50 items", False, 1.3, "", _in_times_of_50_items(reads.LEDGER)),
    Aim("one receipt, spread, to pgbench", True, 0.35, "", _against(postings.PART, postings.SPREAD, PGBENCH)),
    Aim("one receipt, hot, to pgbench", True, 0.6, "", _against(postings.PART, postings.HOT, PGBENCH)),
    Aim(
        "one receipt, the slower of spread and hot",
        True,
        500,
        "a second",
        [Measure(_rate(postings.PART, what)) for what in _RECEIPTS],
    ),
    Aim(
        "documents of 1,000 lines",
        True,
        20_000,
        "lines a second",
        [Measure(Key(postings.PART, postings.LINES, OURS, postings.LINES_RATE))],
    ),
    Aim(
        "statements of a document of 1,000 lines, to those of one of 10",
        False,
        1,
        "",
        [
            Measure(
                Key(postings.PART, postings.STATEMENTS_1000, OURS, postings.STATEMENTS),
                Key(postings.PART, postings.STATEMENTS_10, OURS, postings.STATEMENTS),
            )
        ],
    ),
    Aim(
        "the slowest growing read or posting, time with the large ledger to the small",
        False,
        1.1,
        "",
        [_grown(what) for what in growth.BOUNDED],
    ),
    Aim(
        "submit to start, median",
        False,
        20,
        "ms",
        [Measure(Key(queue.PART, queue.START, queue.FRESH, queue.MILLISECONDS))],
    ),
    Aim(
        "an export of the ledger, submit to ready, to `psql \\copy` of its query",
        False,
        0.9,
        "",
        [
            Measure(
                Key(exports.PART, exports.EXPORT, exports.TWO_PARTS, exports.SECONDS),
                Key(exports.PART, exports.EXPORT, exports.PSQL, exports.SECONDS),
            )
        ],
    ),
    Aim(
        "p99 of reads while a large export runs, to alone",
        False,
        1.5,
        "",
        [measure for what in mixed.READS for measure in _beside_exports(what)],
    ),
    Aim(
        "items upserted, 1,000 a request, the slower of new and changed",
        True,
        2_500,
        "a second",
        [_in_bulk(what) for what in (sync.NEW, sync.CHANGED)],
    ),
    Aim(
        "the same, to one at a time that is looked up by its sku first",
        True,
        50,
        "",
        [_in_bulk(what, to=sync.SEARCHED) for what in (sync.NEW, sync.CHANGED)],
    ),
    Aim(
        "a posting that waits for a standby on the same machine, the median, to one that does not",
        False,
        1.5,
        "",
        [_replicated(what) for what in replication.NEAR_WORK],
    ),
    Aim("memory of an idle instance", False, 90, "MiB", [Measure(Key(cost.PART, cost.IDLE_INSTANCE, OURS, cost.RSS))]),
    Aim("memory of an idle worker", False, 80, "MiB", [Measure(Key(cost.PART, cost.IDLE_WORKER, OURS, cost.RSS))]),
)
