"""The table that these tests end with."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from tests.failover.checks import Books, Exports
from tests.failover.journal import CUT_OFF


class Row(Struct):
    """One failover's figures; seconds, unless said."""

    number: int
    fault: str
    aim: float | None
    said: Sequence[str]
    without_writes: float
    without_reads: float
    without_reports: float
    whole_after: float
    """From the end of the fault."""
    posted: int
    failed: Sequence[str]
    statuses: Mapping[int, int]
    report_statuses: Mapping[int, int]
    books: Books
    exports: Exports
    started_again: int
    """Starts of exports beyond the first of each, since the failover before."""
    ticks: Sequence[str]
    verify: str
    archived_after: float
    """Until the database can be restored to the moment at which the cluster was whole."""

    @property
    def failed_reports(self) -> int:
        return sum(many for status, many in self.report_statuses.items() if status != 200)


_COLUMNS = (
    f"{'':>2} {'fault':<31} {'no writes':>9} {'no reads':>8} {'reports: gap':>12} {'failed':>6} {'whole':>6}"
    f" {'posted':>6} {'failed':>6} {'acked':>7} {'lost':>4} {'twice':>5} {'exports':>7} {'again':>5}  verify"
)


def lines(rows: Sequence[Row]) -> Iterable[str]:
    """The table, and whether the aims were met."""
    yield _COLUMNS
    for row in rows:
        yield from lines_of(row)
    yield from _aims(rows)


def lines_of(row: Row) -> Iterable[str]:
    yield (
        f"{row.number:>2} {row.fault:<31} {row.without_writes:>7.1f} s {row.without_reads:>6.1f} s"
        f" {row.without_reports:>10.1f} s {row.failed_reports:>6} {row.whole_after:>4.0f} s {row.posted:>6,}"
        f" {len(row.failed):>6} {row.books.acknowledged:>7,} {row.books.lost:>4} {row.books.doubled:>5}"
        f" {row.exports.total:>7} {row.started_again:>5}  {row.verify if row.verify == 'holds' else 'FAILS'}"
    )
    archive = f"the log was archived {row.archived_after:.0f} s after"
    for said in (*row.said, archive, f"answers {_counted(row.statuses)}; to reports {_counted(row.report_statuses)}"):
        yield f"   {said}"
    for fault in (*row.failed[:5], *row.ticks[:5], *row.exports.faults[:5]):
        yield f"   ! {fault}"


def _counted(statuses: Mapping[int, int]) -> str:
    named = {("cut off" if status == CUT_OFF else str(status)): many for status, many in sorted(statuses.items())}
    return ", ".join(f"{many:,} {status}" for status, many in named.items()) or "none"


def _aims(rows: Sequence[Row]) -> Iterable[str]:
    aims = sorted({row.aim for row in rows if row.aim is not None})
    for aim in aims:
        took = [row.without_writes for row in rows if row.aim == aim]
        kinds = Counter(row.fault for row in rows if row.aim == aim)
        met = "met" if max(took) <= aim else f"MISSED {sum(1 for one in took if one > aim)} times"
        yield f"aim: at most {aim:.0f} s without writes: longest {max(took):.1f} s, {met} ({', '.join(kinds)})"
    failed, asked = sum(row.failed_reports for row in rows), sum(sum(row.report_statuses.values()) for row in rows)
    met = "met" if not failed else "MISSED"
    yield f"aim: no report fails: {failed} of {asked:,} failed, without retries: {met}"
