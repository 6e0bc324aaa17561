"""`make bench-exports ROWS="1000000 5000000" ROUNDS=3`: exports against psql, on the same data, in one run.

Rounds alternate between all ways, and ratios are to the psql of the same round: so whatever else the machine does
meets all of them. An export counts from its submission over HTTP until its row says that the file is there, durable and
digested; psql, until it has ended. Read the ratios; the seconds are this machine's."""

import argparse
import asyncio
import contextlib
import csv
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter, sleep
from typing import Any, NamedTuple

import asyncpg
import httpx
from rich.console import Console
from rich.table import Table

from erp_service.exports.catalogue import DATASETS
from erp_service.exports.planning.selection import psql_text
from erp_service.settings import Settings
from erp_service.standalone import postgres
from erp_service.standalone.postgres import Cluster
from tests.acceptance.instances import Process, instance, worker
from tests.bench.ground import DATABASE, made
from tests.bench.measured import Taken, cpu_of, cpu_of_server, memory_of, reset_peak
from tests.support.users import token_of
from tests.support.waiting import eventually

JOBS = "/api/v1/exports/jobs"
DATASET = "stock_movements"
ONE_BY_ONE = "plain writer, row by row"
PSQL = "psql \\copy"
SHEET_ROWS = 1_048_575

out = Console(width=None if sys.stdout.isatty() else 140)


class Way(NamedTuple):
    """One way of exporting; slow ways are measured in fewer `rounds`."""

    format: str
    compression: str
    parts: int
    rounds: int = 100

    def __str__(self) -> str:
        packed = "" if self.compression == "none" else f" {self.compression}"
        return f"{self.format}{packed}, {'one part' if self.parts == 1 else f'{self.parts} parts'}"


class Bench(NamedTuple):
    cluster: Cluster
    settings: Settings
    server: Process
    client: httpx.AsyncClient
    directory: Path

    @property
    def postmaster(self) -> int:
        assert self.cluster.pid is not None
        return self.cluster.pid


def ways(rows: int, parts: int, only: str = "") -> list[Way]:
    return [way for way in _ways(rows, parts) if str(way).startswith(only)]


def _ways(rows: int, parts: int) -> list[Way]:
    chosen = [Way("csv", "none", 1), Way("csv", "none", parts)]
    chosen += [Way("csv", "gzip", parts), Way("csv", "zstd", parts), Way("csv", "gzip", 1)]
    chosen += [Way("jsonl", compression, parts) for compression in ("none", "gzip", "zstd")]
    chosen += [Way("jsonl", "none", 1), Way("parquet", "none", parts, rounds=1)]
    return [*chosen, Way("xlsx", "none", 1, rounds=1)] if rows <= SHEET_ROWS else chosen


@contextlib.asynccontextmanager
async def prepared(rows: int) -> AsyncIterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="erp-bench-") as place:
        directory = Path(place)
        with postgres.running(directory / "postgres", fsync=False, max_connections=60) as cluster:
            began = perf_counter()
            settings, user_id = await made(cluster, directory, rows)
            out.print(f"{rows:,} movements, made in {perf_counter() - began:.0f} s")
            async with instance(settings, directory / "serve.log") as server:
                headers = {"Authorization": f"Bearer {token_of(settings, user_id)}"}
                async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=30) as client:
                    yield Bench(cluster, settings, server, client, directory)


async def by_psql(bench: Bench) -> Taken:
    target = bench.directory / "psql.csv"
    command = f"\\copy ({psql_text(DATASETS[DATASET])}) to '{target}' csv header"
    program = [str(bench.cluster.bin / "psql"), "-X", "-d", bench.cluster.app_url(DATABASE), "-c", command]
    return await asyncio.to_thread(in_a_process, bench, program, target)


async def row_by_row(bench: Bench) -> Taken:
    target = bench.directory / "rows.csv"
    program = [sys.executable, "-m", "tests.bench.exports", "--write", bench.settings.database_url, str(target)]
    return await asyncio.to_thread(in_a_process, bench, program, target)


def in_a_process(bench: Bench, program: list[str], target: Path) -> Taken:
    before, began = cpu_of_server(bench.postmaster), perf_counter()
    process = subprocess.Popen(program, stdout=subprocess.DEVNULL)
    memory = 0.0
    while True:
        # read while the process lives: the memory that wait4 reports includes this process's own, from before the exec
        memory = max(memory, memory_of(process.pid))
        sleep(0.02)
        ended, status, used = os.wait4(process.pid, os.WNOHANG)
        if ended:
            break
    seconds = perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, program)
    size = target.stat().st_size
    target.unlink()
    server = cpu_of_server(bench.postmaster) - before
    return Taken(seconds, used.ru_utime + used.ru_stime, server, memory, memory, size)


async def write_rows(url: str, target: str) -> None:
    """What most services do: a cursor and Python's CSV writer."""
    connection = await asyncpg.connect(url)
    file = await asyncio.to_thread(open, target, "w", newline="")
    try:
        writer = csv.writer(file)
        async with connection.transaction():
            async for row in connection.cursor(psql_text(DATASETS[DATASET]), prefetch=1000):
                writer.writerow(row)
    finally:
        file.close()
        await connection.close()


async def by_export(bench: Bench, way: Way) -> Taken:
    log = bench.directory / "worker.log"
    async with worker(bench.settings, log, ERP_EXPORT_PARTS=str(way.parts)) as running:
        # a small export first, so that the worker is up and warm
        await finished(bench, {"dataset": "items", "format": way.format, "compression": way.compression})
        reset_peak(running.pid)
        idle, cpu, server = memory_of(running.pid, "VmRSS"), cpu_of(running.pid), cpu_of_server(bench.postmaster)
        began = perf_counter()
        job = await finished(bench, {"dataset": DATASET, "format": way.format, "compression": way.compression})
        seconds = perf_counter() - began
        peak = memory_of(running.pid)
        taken = Taken(
            seconds,
            cpu_of(running.pid) - cpu,
            cpu_of_server(bench.postmaster) - server,
            peak,
            peak - idle,
            job["result"]["bytes"],
        )
    await bench.client.delete(f"{JOBS}/{job['id']}")
    return taken


async def finished(bench: Bench, request: dict[str, str]) -> dict[str, Any]:
    answer = await bench.client.post(JOBS, json={**request, "force_new": True})
    answer.raise_for_status()
    address = f"{JOBS}/{answer.json()['id']}"

    async def ended() -> dict[str, Any] | None:
        job: dict[str, Any] = (await bench.client.get(address)).json()
        return None if job["status"] in ("queued", "running") else job

    job = await eventually(ended, seconds=1800)
    if job is None or job["status"] != "succeeded":
        raise RuntimeError(job and job["error"])
    return job


async def reads(bench: Bench, until: asyncio.Event) -> list[float]:
    """The milliseconds of ordinary list requests, one after the other."""
    took = []
    while not until.is_set():
        began = perf_counter()
        (await bench.client.get("/api/v1/inventory/stock/ledger", params={"item_id": 7})).raise_for_status()
        took.append((perf_counter() - began) * 1000)
        await asyncio.sleep(0.005)
    return took


async def reads_beside(bench: Bench, parts: int, seconds: float = 6) -> tuple[list[float], list[float]]:
    """Request times without exports, and while exports run."""
    until = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, until.set)
    await reads(bench, _after(1))
    idle = await reads(bench, until)
    until = asyncio.Event()
    async with worker(bench.settings, bench.directory / "worker.log", ERP_EXPORT_PARTS=str(parts)):
        await finished(bench, {"dataset": "items"})
        reading = asyncio.create_task(reads(bench, until))
        await finished(bench, {"dataset": DATASET})
        until.set()
        return idle, await reading


def _after(seconds: float) -> asyncio.Event:
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, event.set)
    return event


async def run(rows: int, rounds: int, parts: int, only: str) -> None:
    async with prepared(rows) as bench:
        taken: dict[str, list[Taken]] = {}
        ratios: dict[str, list[float]] = {}
        await by_psql(bench)
        for number in range(rounds):
            psql = await by_psql(bench)
            taken.setdefault(PSQL, []).append(psql)
            for way in ways(rows, parts, only):
                if number < way.rounds:
                    found = await by_export(bench, way)
                    taken.setdefault(str(way), []).append(found)
                    ratios.setdefault(str(way), []).append(found.seconds / psql.seconds)
            if number == 0 and not only:
                found = await row_by_row(bench)
                taken[ONE_BY_ONE] = [found]
                ratios[ONE_BY_ONE] = [found.seconds / psql.seconds]
            out.print(f"round {number + 1} of {rounds}: load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        out.print(shown(rows, rounds, taken, ratios))
        idle, busy = await reads_beside(bench, parts)
        last = [quantiles(found, n=100)[98] for found in (idle, busy)]
        out.print(
            f"ordinary reads, 99th percentile: {last[0]:.1f} ms idle ({len(idle)}), {last[1]:.1f} ms while a CSV of"
            f" {parts} parts is made ({len(busy)}): {last[1] / last[0]:.2f} times"
        )


def shown(rows: int, rounds: int, taken: dict[str, list[Taken]], ratios: dict[str, list[float]]) -> Table:
    table = Table(title=f"{rows:,} movements, medians of {rounds} rounds", title_justify="left")
    for name in ("way", "seconds", "to psql", "rows/s", "CPU s", "server CPU s", "peak MiB", "above idle", "file MB"):
        table.add_column(name, justify="left" if name == "way" else "right", no_wrap=True)
    for way, runs in taken.items():
        seconds = median(run.seconds for run in runs)
        table.add_row(
            way,
            f"{seconds:.2f}",
            f"{median(ratios[way]):.2f}" if way in ratios else "1",
            f"{rows / seconds:,.0f}",
            f"{median(run.cpu for run in runs):.2f}",
            f"{median(run.server_cpu for run in runs):.2f}",
            f"{max(run.memory for run in runs):.0f}",
            f"{max(run.grown for run in runs):.0f}",
            f"{runs[0].bytes / 1e6:.0f}",
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=int, nargs="*", default=[1_000_000, 5_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", type=int, default=Settings(database_url="").export_parts)
    parser.add_argument("--only", default="", help="ways whose name begins so, such as 'csv,'")
    parser.add_argument("--write", nargs=2, metavar=("URL", "FILE"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.write:
        asyncio.run(write_rows(*asked.write))
        return
    for rows in asked.rows:
        asyncio.run(run(rows, asked.rounds, asked.parts, asked.only))


if __name__ == "__main__":
    main()
