"""The page of benchmarks, made from stored runs: the newest in full, and the aims with a column for each run."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench import records
from tests.bench.aims import AIMS
from tests.bench.parts import cost, exports, growth, mixed, postings, queue, reads, replication, sync, tryton
from tests.bench.recorder import P50, P99, RATE
from tests.bench.records import Run
from tests.bench.tables import Compared, Table, by_way, compared, number

STORY = "story.md"
_INTRODUCTION = """
`make bench` writes this page: change `ops/benchmarks/story.md` or the generator, and not the page. `make bench
PART=reads` measures a part alone, `make bench QUICK=1` everything in small. Every way of the same work alternates with
the others, round by round, and a ratio is that of one round: so what else the machine does meets both sides. Figures
are medians of the rounds, with the least and the greatest; so are ratios, and those are what to read. Servers, clients
and Postgres share the machine. Postgres does not wait for the disk (`fsync=off`), neither for the service nor for its
peers: what is compared is the work. A disk's latency would be the same for both, and would make every ratio milder.
"""
_PEERS = """
The peers are in `tests/bench/peers`, each with what it is and what it leaves out. **bare**: one Litestar app on
asyncpg, which checks the token and nothing else. **people**: FastAPI, SQLAlchemy entities, pydantic, the user looked up
on each request. **pgbench**: the effect of a receipt in SQL, from a client written in C. **psql**: `\\copy` of
the query that the export runs. **Tryton**: moves by its own ORM, without HTTP.
"""

_ABOUT = {
    reads.PART: "wrk, eight connections in one thread, without pauses. CPU is milliseconds for each request, of the"
    " process and of all of Postgres; “ours to it” is our rate divided by the peer's.",
    postings.PART: "Each request has an Idempotency-Key of its own and is in the audit log; eight clients, or as said.",
    exports.PART: "From the submission over HTTP until the file is there, durable and digested; psql, until its end.",
    queue.PART: "One instance and one worker. The long past is of other users; see the sizes above.",
    mixed.PART: "All kinds at once, each on one connection with a pause of"
    f" {mixed.PAUSE} ms after each answer, beside one worker that makes one large export after the other.",
    cost.PART: "Memory is read after one request, a worker's after one export. A start is timed to 0.1 s.",
    growth.PART: "A ratio is how many times as long the same takes with more in the ledger; CPU time is what other work"
    " on the machine disturbs least. Reports read more of the ledger, and `erp verify` reads everything.",
    sync.PART: "One connection, without pauses. Who writes one product a request has to ask for its id before."
    " Everything is in the audit log.",
    replication.PART: replication.ABOUT,
    tryton.PART: tryton.ABOUT,
}
_FILES = (exports.PSQL, exports.ONE_PART, exports.TWO_PARTS)
_PAST = (queue.FRESH, queue.LONG)
_BESIDE = (mixed.ALONE, *mixed.EXPORTS, mixed.BALANCED, mixed.ROLLING)
_LEDGERS = (growth.SMALL, growth.MIDDLE, growth.LARGE)
_COMPARED = {
    exports.PART: [
        Compared("The ledger as CSV", unit, _FILES)
        for unit in (exports.SECONDS, exports.CPU_SECONDS, exports.SERVER_SECONDS, exports.PEAK)
    ],
    queue.PART: [
        Compared("Time", queue.MILLISECONDS, _PAST),
        Compared("Submissions", RATE, _PAST, first_is_over=True),
        Compared("Exports", queue.EXPORTS_RATE, _PAST, first_is_over=True),
    ],
    mixed.PART: [Compared("Half of the answers within", P50, _BESIDE), Compared("99 % within", P99, _BESIDE)],
    sync.PART: [
        Compared("Items written", sync.ITEMS_RATE, (sync.SEARCHED, sync.ONE, sync.BULK), first_is_over=False),
    ],
    replication.PART: [
        Compared(title, unit, ways, first_is_over=unit == RATE)
        for ways in (replication.NEAR_WAYS, replication.DISTANT_WAYS)
        for title, unit in (("Half of the answers within", P50), ("99 % within", P99), ("Postings", RATE))
    ],
    growth.PART: [
        Compared("Reads and postings", RATE, _LEDGERS, first_is_over=True),
        Compared("The instance and Postgres together", growth.CPU_BOTH, _LEDGERS),
        Compared("Reports", growth.MILLISECONDS, _LEDGERS),
        Compared("Proofs", growth.SECONDS, _LEDGERS),
    ],
}


def stored_runs(directory: Path) -> list[Run]:
    """Oldest first."""
    return [records.load(path) for path in sorted(directory.glob("*.json"))]


def write(path: Path, runs: Sequence[Run], story: str) -> None:
    path.write_text(render(runs, story))


def render(runs: Sequence[Run], story: str) -> str:
    """The page; `runs` are oldest first, and at least one."""
    newest = runs[-1]
    blocks = ["# Benchmarks", _INTRODUCTION, "## Aims", _aims(runs), *_missing(newest), _PEERS, story]
    blocks += ["## The newest run", _machine(newest)]
    for part in newest.parts:
        blocks += [f"## {part.capitalize()}", _ABOUT[part], *map(_markdown, part_tables(newest, part))]
        blocks += [f"- {note.partition(': ')[2]}" for note in newest.notes if note.startswith(f"{part}: ")]
    return "\n\n".join(block.strip() for block in blocks if block.strip()) + "\n"


def part_tables(run: Run, part: str) -> list[Table]:
    return compared(run, part, _COMPARED[part]) if part in _COMPARED else by_way(run, part)


def aims_table(runs: Sequence[Run]) -> Table:
    """Without the aims whose parts were in none of the runs."""
    rows = []
    for aim in (aim for aim in AIMS if any(aim.parts <= set(run.parts) for run in runs)):
        cells = []
        for run in runs:
            figure = aim.figure_in(run)
            verdict = "" if figure is None else "met" if aim.met_by(figure) else "**missed**"
            cells.append("not measured" if figure is None else f"{number(figure)} {verdict}")
        rows.append([aim.what, aim.text, *cells])
    return Table("", ["what", "aim", *(f"{run.began:%Y-%m-%d %H:%M}" for run in runs)], rows, words=2)


def _aims(runs: Sequence[Run]) -> str:
    machines = [
        f"- {run.began:%Y-%m-%d %H:%M} UTC: {run.machine.cores} cores of {run.machine.cpu}, load"
        f" {run.machine.load_before:g} before it, revision `{run.revision}`"
        for run in runs
    ]
    return "\n".join([_markdown(aims_table(runs)), "", *machines])


def _missing(run: Run) -> Iterator[str]:
    if run.missing:
        yield "**Not measured in the newest run:**\n\n" + "\n".join(f"- {line}" for line in run.missing)


def _machine(run: Run) -> str:
    machine = run.machine
    rows = [
        [
            "began",
            f"{run.began:%Y-%m-%d %H:%M} UTC, took {run.seconds / 60:.0f} minutes{', in small' if run.quick else ''}",
        ],
        ["machine", f"{machine.cores} cores of {machine.cpu}, {machine.memory_gib:g} GiB, {machine.kernel}"],
        ["load before it", f"{machine.load_before:g}"],
        ["revision", f"`{run.revision}`"],
        ["versions", ", ".join(f"{name} {version}" for name, version in run.versions.items())],
        *([name, size] for name, size in run.sizes.items()),
    ]
    return _markdown(Table("", ["", ""], rows, words=2))


def _markdown(table: Table) -> str:
    lines = [f"**{table.title}**", ""] if table.title else []
    lines.append(_row(table.columns))
    lines.append(_row(["---" if n < table.words else "---:" for n in range(len(table.columns))]))
    return "\n".join(lines + [_row(row) for row in table.rows])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
