"""`make bench-scaling`: requests a second with 1, 2 and 4 instances, exports a minute with 1, 2 and 4 workers.

All share one machine with Postgres and with who asks, so the table shows what this machine can show: where the CPU is
used up, more processes give nothing more. The column of the CPU says so. Rounds alternate between the counts."""

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import NamedTuple

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from erp_service.settings import Settings
from erp_service.standalone import postgres
from tests.acceptance.instances import Process, instance, worker
from tests.bench.ground import made
from tests.support.company import set_company_at
from tests.support.users import token_of
from tests.support.waiting import eventually

COUNTS = (1, 2, 4)
CLIENTS = 32
ROWS = 200_000
EXPORTS = 16

out = Console(width=None if sys.stdout.isatty() else 120)


class Figures(NamedTuple):
    """One round: requests per second, 99th percentile in milliseconds, and the share of all cores in use (0 to 1)."""

    rate: float
    p99: float
    busy: float


async def _ask(urls: list[str], token: str, seconds: float, times: list[float]) -> None:
    """The traffic of a shop: reads of stock and items; one request in ten is a posting."""
    headers = {"Authorization": f"Bearer {token}"}
    until = perf_counter() + seconds

    async def one(number: int) -> None:
        async with httpx.AsyncClient(base_url=urls[number % len(urls)], headers=headers, timeout=30) as client:
            turn = number
            while perf_counter() < until:
                turn += 1
                began = perf_counter()
                if turn % 10:
                    path = f"/api/v1/inventory/stock/current?item_id={1 + turn % 4000}"
                    answer = await client.get(path if turn % 2 else f"/api/v1/inventory/items/{1 + turn % 4000}")
                else:
                    booking = {"item_id": 1 + turn * 7 % 4000, "location": "L1", "quantity": 1, "unit_cost": "2.5"}
                    answer = await client.post("/api/v1/inventory/stock/in", json=booking)
                answer.raise_for_status()
                times.append(perf_counter() - began)

    await asyncio.gather(*(one(number) for number in range(CLIENTS // 2)))


def _asking(urls: list[str], token: str, seconds: float, found: "multiprocessing.Queue[list[float]]") -> None:
    times: list[float] = []
    asyncio.run(_ask(urls, token, seconds, times))
    found.put(times)


async def requests(urls: list[str], token: str, seconds: float) -> Figures:
    """Two client processes, since a single client would limit four instances."""
    context = multiprocessing.get_context("spawn")
    found: multiprocessing.Queue[list[float]] = context.Queue()
    askers = [context.Process(target=_asking, args=(urls, token, seconds, found)) for _ in range(2)]
    psutil.cpu_percent()
    for asker in askers:
        asker.start()
    times = [time for _ in askers for time in await asyncio.to_thread(found.get, timeout=seconds + 60)]
    busy = psutil.cpu_percent() / 100
    for asker in askers:
        asker.join()
    return Figures(len(times) / seconds, quantiles(times, n=100)[98] * 1000, busy)


async def exports(client: httpx.AsyncClient) -> Figures:
    """Runs so many exports of 200,000 movements, from the first submission to the last file."""
    psutil.cpu_percent()
    began = perf_counter()
    body = {"dataset": "stock_movements", "force_new": True}
    jobs = [(await client.post("/api/v1/exports/jobs", json=body)).raise_for_status().json() for _ in range(EXPORTS)]

    async def ended() -> bool:
        page = (await client.get("/api/v1/exports/jobs", params={"limit": EXPORTS})).json()["items"]
        failed = [job for job in page if job["status"] not in ("queued", "running", "succeeded")]
        assert not failed, failed
        return all(job["status"] == "succeeded" for job in page)

    await eventually(ended, seconds=600)
    seconds = perf_counter() - began
    shown = [(await client.get(job["links"]["self"])).json() for job in jobs]
    assert {job["result"]["rows"] >= ROWS for job in shown} == {True}
    return Figures(60 * EXPORTS / seconds, 0.0, psutil.cpu_percent() / 100)


@contextlib.asynccontextmanager
async def fleet(settings: Settings, logs: Path, instances: int, workers: int) -> AsyncIterator[list[Process]]:
    async with contextlib.AsyncExitStack() as stack:
        serving = [await stack.enter_async_context(instance(settings, logs / f"api{n}")) for n in range(instances)]
        for n in range(workers):
            await stack.enter_async_context(worker(settings, logs / f"worker{n}"))
        yield serving


async def measure(settings: Settings, user_id: int, logs: Path, rounds: int, seconds: float) -> None:
    answered: dict[int, list[Figures]] = {count: [] for count in COUNTS}
    exported: dict[int, list[Figures]] = {count: [] for count in COUNTS}
    token = token_of(settings, user_id)
    headers = {"Authorization": f"Bearer {token}"}
    for round_ in range(1, rounds + 1):
        for count in COUNTS:
            out.print(f"round {round_} of {rounds}: {count}")
            async with fleet(settings, logs, count, 0) as serving:
                answered[count].append(await requests([process.url for process in serving], token, seconds))
            async with (
                fleet(settings, logs, 1, count) as serving,
                httpx.AsyncClient(base_url=serving[0].url, headers=headers, timeout=60) as client,
            ):
                exported[count].append(await exports(client))
    _show("instances of the API", "requests a second", answered, with_p99=True)
    _show("workers", f"exports of {ROWS:,} rows a minute", exported, with_p99=False)


def _show(what: str, unit: str, figures: dict[int, list[Figures]], *, with_p99: bool) -> None:
    table = Table(title=what)
    for column in (what, unit, "to one", *(["p99, ms"] if with_p99 else []), "CPU busy"):
        table.add_column(column, justify="right")
    one = median(found.rate for found in figures[COUNTS[0]])
    for count, rounds in figures.items():
        rate = median(found.rate for found in rounds)
        row = [str(count), f"{rate:,.0f}", f"{rate / one:.2f}"]
        row += [f"{median(found.p99 for found in rounds):.0f}"] if with_p99 else []
        table.add_row(*row, f"{median(found.busy for found in rounds):.0%}")
    out.print(table)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement of requests")
    chosen = parser.parse_args()
    out.print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before the start")
    with tempfile.TemporaryDirectory() as folder, postgres.running(Path(folder) / "postgres") as cluster:
        settings, user_id = await made(cluster, Path(folder), ROWS)
        url = settings.migration_database_url or ""
        await set_company_at(url, exports_running_per_user=EXPORTS, exports_waiting_per_user=EXPORTS)
        await measure(settings, user_id, Path(folder), chosen.rounds, chosen.seconds)


if __name__ == "__main__":
    asyncio.run(main())
