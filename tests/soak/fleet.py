"""The fleet under test: a Postgres of its own, instances and workers that a supervisor starts again, and the faults."""

import asyncio
import contextlib
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from random import Random
from time import monotonic
from typing import Literal

import asyncpg

from erp_service.db.connections import connect
from erp_service.db.outages import DATABASE_ERRORS
from erp_service.settings import Settings
from erp_service.standalone.postgres import Cluster
from tests.acceptance.instances import environment, free_port

DRAIN_SECONDS = 60.0
"""How long an orderly stop may take, also when Postgres goes away meanwhile."""

Kind = Literal["serve", "worker"]


class Seat:
    """A place in the fleet that is filled again whenever its process ends. `expected` says why it may end."""

    def __init__(self, kind: Kind, number: int, settings: Settings, logs: Path) -> None:
        self.name = f"{kind}{number}"
        self.kind = kind
        self.port = free_port() if kind == "serve" else 0
        self.log = logs / f"{self.name}.log"
        self.env = environment(settings, ERP_PORT=str(self.port), ERP_LOG_LEVEL="info")
        if kind == "serve":
            # longer than a request waits for a lock: uvicorn answers what it must cut short with a bare 500
            self.env["ERP_GRACE_SECONDS"] = "20"
        self.process: asyncio.subprocess.Process | None = None
        self.expected: str | None = None
        self.taken = asyncio.Lock()
        self.codes: Counter[int] = Counter()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> asyncio.subprocess.Process:
        with self.log.open("ab") as file:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "erp_service", self.kind, env=self.env, stdout=file, stderr=file
            )
        return self.process

    def send(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)


class Fleet:
    """Seats, the server they share, and what has gone wrong so far."""

    def __init__(self, cluster: Cluster, settings: Settings, logs: Path, *, instances: int, workers: int) -> None:
        self.cluster, self.settings = cluster, settings
        self.seats = [Seat("serve", n, settings, logs) for n in range(instances)]
        self.seats += [Seat("worker", n, settings, logs) for n in range(workers)]
        self.done: Counter[str] = Counter()
        self.faults: list[str] = []
        self.restarting = asyncio.Lock()
        self.outages = 0
        self._closing = False

    def of(self, kind: Kind) -> list[Seat]:
        return [seat for seat in self.seats if seat.kind == kind]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        held = [asyncio.create_task(self._keep(seat)) for seat in self.seats]
        try:
            yield
        finally:
            self._closing = True
            for seat in self.seats:
                seat.send(signal.SIGCONT)
                seat.send(signal.SIGKILL)
            await asyncio.wait(held)

    async def _keep(self, seat: Seat) -> None:
        while not self._closing:
            process = await seat.start()
            code = await process.wait()
            seat.codes[code] += 1
            if seat.expected is None and not self._closing:
                self.faults.append(f"{seat.name} ended by itself with status {code}: see {seat.log}")
            seat.expected = None
            await asyncio.sleep(0.2)

    async def stop(self, seat: Seat) -> int | None:
        """SIGTERM; the exit status, or None and a fault if it does not come."""
        process = seat.process
        if process is None or process.returncode is not None:
            return None
        seat.expected = "stopped"
        outages = self.outages if not self.restarting.locked() else None
        process.terminate()
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                code = await process.wait()
        except TimeoutError:
            self.faults.append(f"{seat.name} did not stop within {DRAIN_SECONDS} s of SIGTERM")
            process.kill()
            return None
        # a worker that could not put its jobs back, since the database was away, says so by its status
        cut_short = code == 1 and seat.kind == "worker" and self.outages != outages
        if code != 0 and not cut_short:
            self.faults.append(f"{seat.name} ended with status {code} after SIGTERM instead of 0")
        return code

    async def stop_all(self) -> None:
        """For good, in order."""
        self._closing = True
        await asyncio.gather(*(self.stop(seat) for seat in self.seats))

    async def look(self, sql: str, *arguments: object, seconds: float = 30.0) -> list[asyncpg.Record]:
        """Ask the server as its owner, on a connection of its own, through outages."""
        deadline = monotonic() + seconds
        while True:
            try:
                db = await connect(self.settings.migration_database_url or "", name="erp soak")
                try:
                    return await db.fetch(sql, *arguments)  # type: ignore[no-any-return]
                finally:
                    db.terminate()
            except DATABASE_ERRORS:
                if monotonic() > deadline:
                    raise
                await asyncio.sleep(0.1)

    async def ready(self, seat: Seat) -> bool:
        """Wait until there is something to disturb; False if the process does not come up in time."""
        deadline = monotonic() + 20
        while not await self.up(seat):
            if monotonic() > deadline:
                return False
            await asyncio.sleep(0.1)
        await self.busy()
        return True

    async def busy(self) -> None:
        """Wait a moment for an export to be in the making, so that faults fall into something."""
        for _ in range(20):
            if await self.look("select from procrastinate_jobs where status = 'doing' and task_name = 'exports:run'"):
                return
            await asyncio.sleep(0.05)

    async def up(self, seat: Seat) -> bool:
        """A worker is up when it has beaten, an instance when its listener is connected."""
        if seat.process is None or seat.process.returncode is not None:
            return False
        if seat.kind == "serve":
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", seat.port)
                writer.close()
                return True
            return False
        return bool(await self.look("select from queue_workers where pid = $1", seat.process.pid))

    async def all_up(self, *, seconds: float) -> bool:
        deadline = monotonic() + seconds
        while not all([await self.up(seat) for seat in self.seats]):
            if monotonic() > deadline:
                return False
            await asyncio.sleep(0.2)
        return True


Fault = Callable[[Fleet, Random], Coroutine[None, None, None]]


async def kill(fleet: Fleet, random: Random) -> None:
    await _kill(fleet, random.choice(fleet.of("worker")), "kill -9 of a worker")


async def kill_instance(fleet: Fleet, random: Random) -> None:
    await _kill(fleet, random.choice(fleet.of("serve")), "kill -9 of an instance")


async def _kill(fleet: Fleet, seat: Seat, name: str) -> None:
    async with seat.taken:
        await fleet.ready(seat)
        seat.expected = "killed"
        seat.send(signal.SIGKILL)
        if seat.process is not None:
            await seat.process.wait()
        fleet.done[name] += 1


async def pause(fleet: Fleet, random: Random) -> None:
    """Half of them for longer than the stall threshold."""
    seat = random.choice(fleet.of("worker"))
    await _pause(seat, fleet, random.uniform(0.3, 2.5 * fleet.settings.stalled_seconds), "pause of a worker")


async def pause_instance(fleet: Fleet, random: Random) -> None:
    await _pause(random.choice(fleet.of("serve")), fleet, random.uniform(0.3, 8), "pause of an instance")


async def _pause(seat: Seat, fleet: Fleet, seconds: float, name: str) -> None:
    async with seat.taken:
        await fleet.ready(seat)
        seat.send(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        seat.send(signal.SIGCONT)
        fleet.done[name] += 1


async def drain(fleet: Fleet, random: Random) -> None:
    await _drain(fleet, random.choice(fleet.of("worker")), "drain of a worker")


async def drain_instance(fleet: Fleet, random: Random) -> None:
    await _drain(fleet, random.choice(fleet.of("serve")), "drain of an instance")


async def _drain(fleet: Fleet, seat: Seat, name: str) -> None:
    async with seat.taken:
        # one that is only starting has no handler for the signal yet
        if await fleet.ready(seat):
            await fleet.stop(seat)
            fleet.done[name] += 1


async def restart_fast(fleet: Fleet, random: Random) -> None:
    await _restart(fleet, "fast", random.uniform(0, 1))


async def restart_immediate(fleet: Fleet, random: Random) -> None:
    await _restart(fleet, "immediate", random.uniform(0, 1))


async def outage(fleet: Fleet, random: Random) -> None:
    await _restart(fleet, random.choice(["fast", "immediate"]), random.uniform(2, 8))


async def _restart(fleet: Fleet, mode: Literal["fast", "immediate"], seconds: float) -> None:
    async with fleet.restarting:
        await fleet.busy()
        fleet.outages += 1
        await asyncio.to_thread(fleet.cluster.stop, mode)
        await asyncio.sleep(seconds)
        # in the main thread, since the server is told when the thread that started it ends
        fleet.cluster.start()
        name = f"{mode} restart of Postgres" if seconds < 2 else "outage of Postgres"
        fleet.done[name] += 1


async def cut(fleet: Fleet, _random: Random) -> None:
    await fleet.look(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where pid <> pg_backend_pid() and backend_type = 'client backend'"
    )
    fleet.done["all backends terminated"] += 1


WEIGHTS: dict[Fault, int] = {
    kill: 30,
    pause: 20,
    drain: 15,
    kill_instance: 7,
    drain_instance: 7,
    pause_instance: 4,
    restart_fast: 4,
    restart_immediate: 5,
    outage: 3,
    cut: 5,
}


async def trouble(fleet: Fleet, random: Random, until: float) -> None:
    """Faults, some at the same time, until the clock says so; returns when the last of them is over."""
    async with asyncio.TaskGroup() as under_way:
        while monotonic() < until:
            await asyncio.sleep(random.uniform(0.5, 4))
            (fault,) = random.choices(list(WEIGHTS), list(WEIGHTS.values()))
            under_way.create_task(fault(fleet, Random(random.random())))
