"""Starts tryton_moves.py in an environment of its own, on a database of its own in the same cluster."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from erp_service.standalone.postgres import Cluster
from tests.bench.environments import python_with
from tests.bench.load import NotMeasured

TRYTON = "Tryton"
SERIES = "8.2"
_SCRIPT = Path(__file__).with_name("tryton_moves.py")
_DATABASE = "tryton"
# the modules that trytond_stock depends on are in its own requirements
PACKAGES = [f"{name}=={SERIES}.*" for name in ("trytond", "trytond_stock")] + ["psycopg[binary,pool]"]
_START_SECONDS = 300


class Answer(msgspec.Struct):
    count: int
    seconds: float

    @property
    def rate(self) -> float:
        return self.count / self.seconds


class Tryton(NamedTuple):
    process: asyncio.subprocess.Process
    log: Path

    async def moves(self, seconds: float, *, lines: int, products: int) -> float:
        """Moves a second, so many in each transaction."""
        return (await self._ask(f"moves {seconds} {lines} {products}")).rate

    async def fill(self, moves: int) -> None:
        """Make so many moves of the last product. Raises NotMeasured if its quantity is not that."""
        if (quantity := (await self._ask(f"fill {moves}")).count) != moves:
            raise NotMeasured(f"after {moves} moves Tryton's quantity is {quantity}")

    async def quantities(self, seconds: float) -> float:
        """Reads a second of the last product's quantity."""
        return (await self._ask(f"quantity {seconds}")).rate

    async def _ask(self, command: str) -> Answer:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n".encode())
        return msgspec.json.decode(await self.line(), type=Answer)

    async def line(self) -> bytes:
        assert self.process.stdout is not None
        async with asyncio.timeout(_START_SECONDS):
            line = await self.process.stdout.readline()
        if not line:
            raise NotMeasured(f"Tryton ended: {self.log.read_text()[-500:]}")
        return line


@contextlib.asynccontextmanager
async def tryton(python: Path, cluster: Cluster, directory: Path) -> AsyncIterator[Tryton]:
    """Ready, with its modules, a company and products."""
    await asyncio.to_thread(cluster.create_database, _DATABASE)
    url = f"postgresql://postgres@/?host={cluster.socket_dir}&port=5432"
    log = directory / "tryton.log"
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            str(python),
            str(_SCRIPT),
            env={**os.environ, "TRYTOND_DATABASE_URI": url},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=file,
        )
    try:
        peer = Tryton(process, log)
        await peer.line()
        yield peer
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await process.wait()


def environment() -> Path:
    """Raises NotMeasured if the series cannot be installed."""
    return python_with("tryton", PACKAGES)
