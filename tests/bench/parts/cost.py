"""What an instance and a worker use of the machine: idle, at the start, and for a thousand requests of each kind."""

import asyncio
import json
import shutil
from time import perf_counter

from tests.acceptance.instances import Process, worker
from tests.bench.bench import Bench
from tests.bench.environments import python_of_the_service
from tests.bench.load import Call, NotMeasured, Work
from tests.bench.measured import cpu_of, cpu_of_server, memory_of, pss_of, reset_peak
from tests.bench.parts.postings import LINES_ALONE, SPREAD, documents, postings
from tests.bench.parts.reads import API, PAGE, reads
from tests.bench.recorder import Recorder
from tests.bench.records import OURS
from tests.bench.stage import Data, Stage, answer, postmaster, stage
from tests.support.waiting import eventually

PART = "cost"
IDLE_INSTANCE, IDLE_WORKER = "an instance, idle", "a worker, idle"
START_INSTANCE, START_WORKER = "start of an instance until it is ready", "start of a worker until an export has ended"
IMAGE = "the image"
RSS, PSS, SECONDS, CPU_SHARE = "RSS MiB", "PSS MiB", "s", "CPU ms a second"
SERVER_SHARE, MEBIBYTES = "Postgres CPU ms a second", "MiB"
CPU_SECONDS, SERVER_SECONDS = "CPU s for 1,000 requests", "Postgres CPU s for 1,000 requests"
PEAK, GROWTH = "peak RSS MiB", "more RSS MiB after 1,000 requests"
LEAST_REQUESTS = 1000
IDLE_SECONDS = 3.0
_IMAGE_NAME = "localhost/erp:latest"


async def run(bench: Bench, recorder: Recorder) -> None:
    data = await bench.main_data()
    for number in range(bench.sizes.rounds):
        recorder.say(f"round {number + 1} of {bench.sizes.rounds}")
        for what, measure in ((IDLE_INSTANCE, _idle_instance), (IDLE_WORKER, _idle_worker)):
            with recorder.figure(what, OURS):
                await measure(bench, data, recorder)
    async with stage(bench.cluster, data, bench.directory) as ours:
        for what, work in (await _kinds(ours, bench.sizes.deep_page)).items():
            with recorder.figure(what, OURS):
                await ours.caller.load(ours.ours, work, bench.sizes.seconds)
                await _thousand(bench, ours, what, work, recorder)
    await _image(recorder)


async def _thousand(bench: Bench, ours: Stage, what: str, work: Work, recorder: Recorder) -> None:
    pid, requests = ours.server.pid, 0
    reset_peak(pid)
    before = memory_of(pid, "VmRSS")
    for _ in range(bench.sizes.rounds):
        load = await ours.caller.load(ours.ours, work, bench.sizes.seconds)
        requests += load.requests
        # milliseconds for each are seconds for a thousand
        recorder.add(what, OURS, CPU_SECONDS, load.cpu)
        recorder.add(what, OURS, SERVER_SECONDS, load.server_cpu)
    recorder.add(what, OURS, PEAK, memory_of(pid))
    # of few requests, what a thousand would take cannot be told
    if requests >= LEAST_REQUESTS:
        recorder.add(what, OURS, GROWTH, 1000 * (memory_of(pid, "VmRSS") - before) / requests)


async def _kinds(ours: Stage, deep_page: int) -> dict[str, Work]:
    lines = documents(ours.data, connections=1)
    submission = Call("POST", "/api/v1/exports/jobs", {"dataset": "items", "filter": {"sku": "SKU-1"}})
    report = Work([Call("GET", f"{API}/reports/snapshot?limit={PAGE}")])
    more = {SPREAD: postings(ours.data)[SPREAD], LINES_ALONE: lines, "snapshot report, 50": report}
    return {**await reads(ours, deep_page), **more, "submission of an export that waits already": Work([submission])}


async def _idle_instance(bench: Bench, data: Data, recorder: Recorder) -> None:
    python = python_of_the_service()
    began = perf_counter()
    async with stage(bench.cluster, data, bench.directory, TEST_PYTHON=str(python)) as ours:
        recorder.add(START_INSTANCE, OURS, SECONDS, perf_counter() - began)
        await answer(ours, Call("GET", f"{API}/items/1"))
        await _idle(bench, ours.server, IDLE_INSTANCE, recorder)


async def _idle_worker(bench: Bench, data: Data, recorder: Recorder) -> None:
    async with stage(bench.cluster, data, bench.directory) as ours:
        submission = Call("POST", "/api/v1/exports/jobs", {"dataset": "locations", "force_new": True})
        job = (await answer(ours, submission)).json()["id"]

        async def ended() -> bool:
            state = (await answer(ours, Call("GET", f"/api/v1/exports/jobs/{job}"))).json()["status"]
            if state not in ("queued", "running", "succeeded"):
                raise NotMeasured(f"an export of the locations is {state}")
            return bool(state == "succeeded")

        began = perf_counter()
        async with worker(
            data.settings, bench.directory / "worker.log", TEST_PYTHON=str(python_of_the_service())
        ) as process:
            await eventually(ended)
            recorder.add(START_WORKER, OURS, SECONDS, perf_counter() - began)
            await _idle(bench, process, IDLE_WORKER, recorder)


async def _idle(bench: Bench, process: Process, what: str, recorder: Recorder) -> None:
    before = cpu_of(process.pid), cpu_of_server(postmaster(bench.cluster))
    await asyncio.sleep(IDLE_SECONDS)
    after = cpu_of(process.pid), cpu_of_server(postmaster(bench.cluster))
    recorder.add(what, OURS, RSS, memory_of(process.pid, "VmRSS"))
    recorder.add(what, OURS, PSS, pss_of(process.pid))
    recorder.add(what, OURS, CPU_SHARE, (after[0] - before[0]) * 1000 / IDLE_SECONDS)
    recorder.add(what, OURS, SERVER_SHARE, (after[1] - before[1]) * 1000 / IDLE_SECONDS)


async def _image(recorder: Recorder) -> None:
    podman = shutil.which("podman")
    if podman is None:
        recorder.note("the size of the image was not measured: podman is not installed")
        return
    process = await asyncio.create_subprocess_exec(
        podman, "image", "inspect", _IMAGE_NAME, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    output, _ = await process.communicate()
    if process.returncode:
        recorder.note(f"the size of the image was not measured: there is no {_IMAGE_NAME}")
        return
    recorder.add(IMAGE, OURS, MEBIBYTES, json.loads(output)[0]["Size"] / 2**20)
