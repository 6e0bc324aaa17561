"""A real streaming replica of the embedded cluster, made by pg_basebackup."""

import asyncio
import contextlib
import random
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import asyncpg
import httpx

from erp_service.standalone import postgres_directory as directory
from erp_service.standalone.postgres import Cluster
from tests.support.databases import value_of

CONFLICTS_AFTER = "200ms"
"""How long a read on the replica may hold up the replay; Postgres's own default is thirty seconds."""


@contextlib.asynccontextmanager
async def replica_of(primary: Cluster, data_dir: Path, *, fsync: bool = False) -> AsyncIterator[Cluster]:
    replica = await asyncio.to_thread(_made, primary, data_dir, fsync)
    try:
        await asyncio.to_thread(replica.start)
        yield replica
    finally:
        await asyncio.to_thread(replica.stop, "immediate")


def _made(primary: Cluster, data_dir: Path, fsync: bool) -> Cluster:
    account = directory.find_account()
    directory.own(data_dir, account)
    settings: dict[str, directory.Setting] = {
        "fsync": fsync,
        "max_connections": 200,
        "max_standby_streaming_delay": CONFLICTS_AFTER,
        "wal_retrieve_retry_interval": "100ms",
    }
    replica = Cluster(data_dir, primary.bin, account, settings)
    directory.make_private(replica.socket_dir, account)
    directory.make_private(replica.directory, account)
    place = directory.pgdata_argument(replica.directory, account)
    said = subprocess.run(
        [primary.bin / "pg_basebackup", "-D", place, "-R", "--checkpoint=fast", "--no-sync",
         "-d", f"host={primary.socket_dir} port=5432 user=postgres"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        **directory.process_options(replica.directory, account, signal.SIGKILL),
    )  # fmt: skip
    assert said.returncode == 0, said.stdout
    return replica


@contextlib.asynccontextmanager
async def slowed(replica: Cluster) -> AsyncIterator[None]:
    """Pauses its replay again and again: mostly for less time than a reader waits, sometimes for more."""
    connection = await asyncpg.connect(replica.owner_url("postgres"))
    pauses = random.Random(5)

    async def toggle() -> None:
        while True:
            await connection.execute("select pg_wal_replay_pause()")
            await asyncio.sleep(pauses.choice([0.005, 0.02, 0.05, 0.1, 0.4]))
            await connection.execute("select pg_wal_replay_resume()")
            await asyncio.sleep(pauses.choice([0.01, 0.05, 0.2, 0.8]))

    task = asyncio.create_task(toggle())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await connection.close()
        await value_of(replica, "select pg_wal_replay_resume()")


class Lane(NamedTuple):
    """Two clients, perhaps of two instances, and an item that only they use."""

    writer: httpx.AsyncClient
    reader: httpx.AsyncClient
    sku: str


class Lanes:
    """Each lane receives one piece of its item and reads the report at once, again and again."""

    def __init__(self, lanes: list[Lane]) -> None:
        self._lanes = lanes
        self._received = dict.fromkeys(lanes, 0)
        self._stopped = False
        self._reports = 0
        self.slowest = 0.0

    @classmethod
    async def of(cls, number: int, admin: httpx.AsyncClient, *clients: httpx.AsyncClient) -> "Lanes":
        """Each lane writes with one of the clients and reads with the next."""
        body = {"code": "LANES", "name": "Lanes", "location_type": "BIN"}
        (await admin.post("/api/v1/inventory/locations", json=body)).raise_for_status()
        lanes = []
        for n in range(number):
            body = {"sku": f"LANE-{n}", "name": "Lane", "unit": "pcs"}
            (await admin.post("/api/v1/inventory/items", json=body)).raise_for_status()
            lanes.append(Lane(clients[n % len(clients)], clients[(n + 1) % len(clients)], body["sku"]))
        return cls(lanes)

    async def run(self, times: int) -> None:
        async with asyncio.TaskGroup() as group:
            for lane in self._lanes:
                group.create_task(self._several(lane, times))

    @contextlib.asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """Runs all lanes until it is left; `slowest` is then the seconds of the slowest report."""
        async with asyncio.TaskGroup() as group:
            for lane in self._lanes:
                group.create_task(self._until_stopped(lane))
            try:
                yield
            finally:
                self._stopped = True

    async def reports(self, number: int) -> bool:
        """Whether so many reports were read."""
        return self._reports >= number

    async def _several(self, lane: Lane, times: int) -> None:
        for _ in range(times):
            await self._once(lane)

    async def _until_stopped(self, lane: Lane) -> None:
        while not self._stopped:
            await self._once(lane)

    async def _once(self, lane: Lane) -> None:
        body = {"sku": lane.sku, "location": "LANES", "quantity": "1", "unit_cost": "0"}
        written = await lane.writer.post("/api/v1/inventory/stock/in", json=body)
        assert written.status_code == 201, written.text
        self._received[lane] += 1
        began = monotonic()
        read = await lane.reader.get("/api/v1/inventory/reports/snapshot", params={"sku": lane.sku})
        self.slowest = max(self.slowest, monotonic() - began)
        self._reports += 1
        assert read.status_code == 200, read.text
        assert [row["on_hand"] for row in read.json()["items"]] == [str(self._received[lane])]
