"""Response times of reads and postings that arrive together: alone, while large exports run, while instances restart.

The load is light, with pauses between requests: what is measured is how long one waits, and not how much goes through.
The balanced ways have two instances behind HAProxy; a rolling restart stops and starts both of them."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from tests.acceptance.instances import Process, answers, environment, erp, free_port, worker
from tests.attacks.balancer import balanced
from tests.bench.bench import Bench
from tests.bench.load import Call, NotMeasured, Target, Work
from tests.bench.parts.postings import SPREAD, postings
from tests.bench.parts.reads import ITEM, ITEMS, LEDGER, reads
from tests.bench.recorder import P50, P99, Recorder
from tests.bench.records import OURS
from tests.bench.stage import Data, Stage, answer, stage
from tests.support.settings import as_role
from tests.support.waiting import eventually

PART = "mixed"
READS = (ITEM, ITEMS, LEDGER)
ALONE, ONE_PART, TWO_PARTS = "alone", "exports, one part", "exports, two parts"
BALANCED, ROLLING = "two, balanced", "two, rolling restart"
EXPORTS = (ONE_PART, TWO_PARTS)
PAUSE = 10
"""Milliseconds between an answer and the next request; each kind of request has one connection."""
MOST_SECONDS = 60
DRAIN_SECONDS = 3
"""The balancer asks for readiness once a second."""
LIMITS = {"REQUESTS_PER_10_SECONDS": "1000000", "CONNECTIONS_PER_ADDRESS": "1000"}
LARGE = Call("POST", "/api/v1/exports/jobs", {"dataset": "stock_movements", "force_new": True})


async def run(bench: Bench, recorder: Recorder) -> None:
    data = await bench.main_data()
    seconds = 2 * bench.sizes.seconds
    async with stage(bench.cluster, data, bench.directory) as ours:
        work = await _work(ours, bench.sizes.deep_page)
        await _measure(ours, ours.ours, work, seconds, "", recorder)
        for number in range(bench.sizes.rounds):
            recorder.say(f"round {number + 1} of {bench.sizes.rounds}")
            await _measure(ours, ours.ours, work, seconds, ALONE, recorder)
            for way, parts in zip(EXPORTS, (1, 2), strict=True):
                async with _exporting(bench, ours, parts):
                    await _measure(ours, ours.ours, work, seconds, way, recorder)
        await _balanced(bench, ours, work, recorder)


async def _work(ours: Stage, deep_page: int) -> dict[str, Work]:
    kinds = {**await reads(ours, deep_page), **postings(ours.data)}
    return {what: kinds[what]._replace(connections=1, pause=PAUSE) for what in (*READS, SPREAD)}


async def _measure(
    ours: Stage,
    target: Target,
    work: dict[str, Work],
    seconds: float,
    way: str,
    recorder: Recorder,
    *,
    until: asyncio.Task[None] | None = None,
) -> None:
    """All kinds at once. Without a way, to warm up."""

    async def one(what: str) -> None:
        with recorder.figure(what, way):
            load = await ours.caller.load(target, work[what], seconds, until=until)
            if way:
                recorder.add(what, way, P50, load.p50)
                recorder.add(what, way, P99, load.p99)

    await asyncio.gather(*(one(what) for what in work))


@contextlib.asynccontextmanager
async def _exporting(bench: Bench, ours: Stage, parts: int) -> AsyncIterator[None]:
    """One worker makes large exports, one after the other, from before the measurement until after it."""
    stopped, begun = asyncio.Event(), asyncio.Event()

    async def export() -> None:
        while not stopped.is_set():
            path = f"/api/v1/exports/jobs/{(await answer(ours, LARGE)).json()['id']}"

            async def ended(path: str = path) -> bool:
                job = (await answer(ours, Call("GET", path))).json()
                if job["status"] == "running":
                    begun.set()
                elif job["status"] not in ("queued", "succeeded"):
                    raise NotMeasured(f"a large export is {job['status']}")
                await asyncio.sleep(0.1)
                return bool(job["status"] == "succeeded")

            await eventually(ended, seconds=300)
            await ours.client.delete(path)

    async with worker(ours.data.settings, bench.directory / "worker.log", ERP_EXPORT_PARTS=str(parts)):
        task = asyncio.create_task(export())
        # also if it failed, which is raised below
        task.add_done_callback(lambda _: begun.set())
        try:
            await begun.wait()
            yield
            stopped.set()
            await task
        finally:
            task.cancel()


async def _balanced(bench: Bench, ours: Stage, work: dict[str, Work], recorder: Recorder) -> None:
    ports = [free_port(), free_port()]
    async with contextlib.AsyncExitStack() as stack:
        stacks = [await stack.enter_async_context(contextlib.AsyncExitStack()) for _ in ports]
        processes = [
            await own.enter_async_context(_serving(ours.data, port, bench.directory))
            for own, port in zip(stacks, ports, strict=True)
        ]
        url = await stack.enter_async_context(balanced([p.url for p in processes], bench.directory, LIMITS))
        target = Target(OURS, url, ())
        for number in range(min(2, bench.sizes.rounds)):
            recorder.say(f"balanced, round {number + 1}")
            await _measure(ours, target, work, 2 * bench.sizes.seconds, BALANCED, recorder)
            rolling = asyncio.create_task(_roll(stacks, processes, ours.data, bench.directory))
            await _measure(ours, target, work, MOST_SECONDS, ROLLING, recorder, until=rolling)
            await rolling


async def _roll(
    stacks: Sequence[contextlib.AsyncExitStack], processes: list[Process], data: Data, directory: Path
) -> None:
    for number, own in enumerate(stacks):
        old = processes[number]
        old.signal(signal.SIGTERM)
        await old.ended(seconds=60)
        await own.aclose()
        port = int(old.url.rpartition(":")[2])
        processes[number] = await own.enter_async_context(_serving(data, port, directory))


@contextlib.asynccontextmanager
async def _serving(data: Data, port: int, directory: Path) -> AsyncIterator[Process]:
    more = {"ERP_PORT": str(port), "ERP_DRAIN_SECONDS": str(DRAIN_SECONDS), "ERP_TRUSTED_PROXIES": "127.0.0.1"}
    env = environment(as_role(data.settings, "erp_api"), **more)
    async with erp("serve", env=env, log=directory / "serve.log", url=f"http://127.0.0.1:{port}") as process:
        await eventually(lambda: answers(process, "/health/ready"))
        yield process
