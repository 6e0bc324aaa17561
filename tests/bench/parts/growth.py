"""Reads, postings, reports and `erp verify` with a small ledger and with a large one, side by side."""

import contextlib
from time import perf_counter

from tests.acceptance.instances import environment, erp
from tests.bench.bench import Bench
from tests.bench.load import Call, NotMeasured, Work
from tests.bench.parts import postings, reads
from tests.bench.recorder import RATE, Recorder
from tests.bench.stage import Stage, answer, stage

PART = "growth"
SMALL, MIDDLE, LARGE = "small", "middle", "large"
MILLISECONDS, SECONDS, CPU_BOTH = "ms", "s", "CPU ms each"
VERIFY = "erp verify"
READS = (reads.ITEM, reads.ITEMS, reads.STOCK, reads.LEDGER, reads.DEEP, reads.JOB)
POSTINGS = (postings.SPREAD, postings.HOT, postings.LINES_ALONE, postings.REVERSAL)
BOUNDED = (*READS, *POSTINGS)
"""What must not take longer with a larger ledger. Reports read more when there is more."""
REPORTS_PATH = "/api/v1/inventory/reports"
YEAR = "from=2024-01-01T00:00:00Z&to=2025-01-01T00:00:00Z"
REPORTS = {
    "report: snapshot, 50 rows": "/snapshot?limit=50",
    "report: snapshot of 1 June 2024, 50 rows": "/snapshot?limit=50&as_of=2024-06-01T00:00:00Z",
    "report: movements of 2024 by month, 50 rows": "/movements?limit=50&" + YEAR,
    "report: summary": "/summary",
    "report: low stock, 50 rows": "/low-stock?limit=50",
}
REPORT_TIMES = 3
WARM_SECONDS = 1.0
VERIFY_SECONDS = 600


async def run(bench: Bench, recorder: Recorder) -> None:
    async with contextlib.AsyncExitStack() as stack:
        stages: list[tuple[str, Stage, dict[str, Work]]] = []
        for way, (rows, items) in bench.sizes.ledgers.items():
            data = await bench.data(f"growth_{way}", rows, items)
            ours = await stack.enter_async_context(stage(bench.cluster, data, bench.directory))
            stages.append((way, ours, await _work(ours, bench.sizes.deep_page)))
        for way, ours, work in stages:
            for what in work:
                with recorder.figure(what, way):
                    await ours.caller.load(ours.ours, work[what], WARM_SECONDS)
        for number in range(rounds := 2 * bench.sizes.rounds):
            recorder.say(f"round {number + 1} of {rounds}")
            await _round(bench, stages, recorder, number)
        for way, ours, _ in stages:
            with recorder.figure(VERIFY, way):
                recorder.add(VERIFY, way, SECONDS, await _verify(bench, ours))


async def _work(ours: Stage, deep_page: int) -> dict[str, Work]:
    """The postings come after the reads, since they make the ledger grow."""
    read = await reads.reads(ours, deep_page)
    lines = postings.documents(ours.data, connections=1)
    receipts = {**postings.postings(ours.data), postings.LINES_ALONE: lines}
    return {what: read[what] for what in READS} | {what: receipts[what] for what in POSTINGS if what in receipts}


async def _round(bench: Bench, stages: list[tuple[str, Stage, dict[str, Work]]], recorder: Recorder, turn: int) -> None:
    since = {way: await postings.now(ours) for way, ours, _ in stages}
    # short rounds, and more of them: the bound is narrow, and so must be the time between the two sides
    seconds = bench.sizes.seconds / 2
    for number, what in enumerate(BOUNDED):
        # none is always the first
        for way, ours, work in stages if (number + turn) % 2 else reversed(stages):
            with recorder.figure(what, way):
                if what == postings.REVERSAL:
                    load = await postings.reversals(ours, since[way], seconds)
                else:
                    load = await ours.caller.load(ours.ours, work[what], seconds)
                recorder.add(what, way, RATE, load.rate)
                recorder.add(what, way, CPU_BOTH, load.cpu + load.server_cpu)
    for what, path in REPORTS.items():
        for way, ours, _ in stages:
            with recorder.figure(what, way):
                recorder.add(what, way, MILLISECONDS, await _report(ours, path))


async def _report(ours: Stage, path: str) -> float:
    """The quickest of several, in milliseconds."""
    times = []
    for _ in range(REPORT_TIMES):
        began = perf_counter()
        await answer(ours, Call("GET", REPORTS_PATH + path))
        times.append((perf_counter() - began) * 1000)
    return min(times)


async def _verify(bench: Bench, ours: Stage) -> float:
    log = bench.directory / "verify.log"
    began = perf_counter()
    async with erp("verify", env=environment(ours.data.settings), log=log) as process:
        try:
            status = await process.ended(seconds=VERIFY_SECONDS)
        except TimeoutError:
            raise NotMeasured(f"erp verify took longer than {VERIFY_SECONDS} s") from None
    if status:
        raise NotMeasured(f"erp verify ended with {status}: {log.read_text()[-500:]}")
    return perf_counter() - began
