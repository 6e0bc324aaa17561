"""`make bench`: everything that is said about speed, measured in one run, beside the peers of tests/bench/peers.

All ways alternate in rounds, and ratios are taken within a round: so whatever else the machine does meets all of them.
Read the ratios; the figures themselves are this machine's. The exit status is 0 if everything could be measured, also
if aims are missed, and 1 if anything could not, or if an answer was wrong."""

import argparse
import asyncio
import logging
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import msgspec
import rich.table
from rich.console import Console

from erp_service.standalone import postgres
from erp_service.standalone.postgres_directory import Setting
from tests.bench import page, records
from tests.bench.aims import AIMS
from tests.bench.bench import CACHE, QUICK, WHOLE, Bench, Sizes
from tests.bench.load import NotMeasured
from tests.bench.machine import revision, this_machine, versions
from tests.bench.parts import cost, exports, growth, mixed, postings, queue, reads, replication, sync, tryton
from tests.bench.recorder import Recorder
from tests.bench.records import Run
from tests.bench.tables import Table

# exports come before the postings, which make the ledger longer
PARTS = {
    part.PART: part.run for part in (reads, exports, postings, queue, mixed, cost, growth, sync, replication, tryton)
}
SERVER: Mapping[str, Setting] = {
    "fsync": False,
    "max_connections": 150,
    "shared_buffers": "256MB",
    "max_wal_size": "8GB",
    "shared_preload_libraries": "pg_stat_statements",
}
"""As in compose.yaml, but without a disk's latency and without checkpoints amid a round."""

OPS = Path(__file__).parents[2] / "ops"

log = logging.getLogger("bench")


async def measure(parts: Sequence[str], sizes: Sizes, *, quick: bool, out: Console) -> Run:
    began, start = datetime.now(UTC), perf_counter()
    machine, tree = this_machine(), revision()
    with tempfile.TemporaryDirectory(prefix="erp-bench-") as place:
        directory = Path(place)
        with postgres.running(directory / "postgres", **SERVER) as cluster:
            bench = Bench(cluster, directory, sizes, out)
            await bench.quiet_statistics()
            recorders = [await _part(part, bench) for part in parts]
            known = versions(cluster)
    for recorder in recorders:
        known |= recorder.versions
    return Run(
        began=began,
        seconds=perf_counter() - start,
        quick=quick,
        revision=tree,
        parts=list(parts),
        sizes=sizes.described(),
        machine=machine,
        versions=known,
        notes=[note for recorder in recorders for note in recorder.notes],
        series=[series for recorder in recorders for series in recorder.series],
        missing=[line for recorder in recorders for line in recorder.missing],
    )


async def _part(part: str, bench: Bench) -> Recorder:
    """A part that fails leaves the others to be measured, and the run fails in the end."""
    recorder = bench.recorder(part)
    try:
        await PARTS[part](bench, recorder)
    except NotMeasured as problem:
        recorder.missed(str(problem))
    except Exception as problem:
        log.exception("%s", part)
        recorder.missed(f"{type(problem).__name__}: {problem}")
    return recorder


def _print(run: Run, out: Console) -> None:
    for part in run.parts:
        for table in page.part_tables(run, part):
            out.print(_on_terminal(table, title=f"{part}: {table.title}" if table.title else part))
    out.print(_on_terminal(page.aims_table([run]), title="aims"))
    for line in run.missing:
        out.print(f"NOT MEASURED {line}", style="bold red", markup=False)


def _on_terminal(table: Table, title: str) -> rich.table.Table:
    shown = rich.table.Table(title=title, title_justify="left")
    for n, column in enumerate(table.columns):
        shown.add_column(column, justify="left" if n < table.words else "right")
    for row in table.rows:
        shown.add_row(*row)
    return shown


def _write_page(directory: Path, path: Path) -> None:
    """From the runs that are stored there."""
    story = OPS / "benchmarks" / page.STORY
    page.write(path, page.stored_runs(directory), story.read_text())


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all of them, if none is named")
    parser.add_argument("--quick", action="store_true", help="small sizes and short rounds: for the wiring alone")
    parser.add_argument("--rounds", type=int, help="instead of the usual number")
    parser.add_argument("--page", action="store_true", help="measure nothing; write the page from the stored runs")
    chosen = parser.parse_args()
    if unknown := set(chosen.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    committed = OPS / "benchmarks", OPS / "benchmarks.md"
    if chosen.page:
        if not page.stored_runs(committed[0]):
            parser.error("no whole run is stored yet")
        _write_page(*committed)
        return 0
    out = Console(width=None if sys.stdout.isatty() else 160)
    parts = [part for part in PARTS if not chosen.parts or part in chosen.parts]
    sizes = QUICK if chosen.quick else WHOLE
    sizes = msgspec.structs.replace(sizes, rounds=chosen.rounds or sizes.rounds)
    run = asyncio.run(measure(parts, sizes, quick=chosen.quick, out=out))
    run.missing += [f"{aim.what}: a figure of this aim is missing" for aim in AIMS if not aim.is_judged_by(run)]
    _print(run, out)
    # what is quick, or a part alone, is not for the page that is committed
    whole = not chosen.quick and parts == list(PARTS)
    directory, path = committed if whole else (CACHE / "results", CACHE / "benchmarks.md")
    stored = records.store(run, directory)
    if whole:
        _write_page(directory, path)
    else:
        page.write(path, [run], "")
    out.print(f"written: {path} and {stored}", markup=False)
    return 1 if run.missing else 0


if __name__ == "__main__":
    sys.exit(main())
