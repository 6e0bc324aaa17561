"""What is attacked, and how an attacker speaks to it: over bare connections, since clients are too polite."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx

from erp_service.settings import Settings
from tests.acceptance.instances import Process
from tests.attacks.bystander import Bystander, Request, median
from tests.support.waiting import eventually

ADDRESS = "127.0.0.66"
"""Where attackers come from; the balancer counts by address."""
ROUNDS, REQUESTS = 3, 40
"""A comparison has so many rounds, each with so many of the bystander's requests before and during the attack."""
FACTOR = 2.0
"""How many times as long the median request of others may take during an attack."""

BYTES_PER_USER = 10_000_000
JOBS = "/api/v1/exports/jobs"
EMAIL, PASSWORD = "owner@example.com", "nine green bottles on a wall"


class Target(NamedTuple):
    """Two instances and a worker behind the balancer."""

    balancer: str
    instances: list[Process]
    settings: Settings
    logs: Path
    item: int
    location: int
    viewer: str
    greedy: str
    staff: str
    admin: str
    super_admin: str

    def client(self, token: str | None = None, *, url: str | None = None, address: str = ADDRESS) -> httpx.AsyncClient:
        """Through the balancer, unless a URL is given."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        transport = httpx.AsyncHTTPTransport(local_address=address, limits=httpx.Limits(max_connections=None))
        return httpx.AsyncClient(base_url=url or self.balancer, headers=headers, transport=transport, timeout=60)


async def finished(client: httpx.AsyncClient, **spec: object) -> dict[str, Any]:
    """The export job of this specification, when it has succeeded."""
    job = (await client.post(JOBS, json=spec)).raise_for_status().json()
    while job["status"] in ("queued", "running"):
        answer = await client.get(f"{JOBS}/{job['id']}", headers={"Prefer": "wait=20"})
        job = answer.raise_for_status().json()
    assert job["status"] == "succeeded", job
    return dict(job)


async def ended(client: httpx.AsyncClient) -> None:
    """Returns when no export of this user waits or runs."""

    async def none_is_left() -> bool:
        jobs = (await client.get(JOBS)).raise_for_status().json()["items"]
        return not any(job["status"] in ("queued", "running") for job in jobs)

    await eventually(none_is_left, seconds=60)


class Connection(NamedTuple):
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> bool:
        """Whether the other side still takes it."""
        try:
            self.writer.write(data)
            await self.writer.drain()
        except ConnectionError:
            return False
        return True

    async def status(self) -> int:
        """Of the next answer; 0 if the connection is closed without one."""
        try:
            line = await self.reader.readline()
        except ConnectionError:
            return 0
        return int(line.split()[1]) if line.startswith(b"HTTP/") else 0


@contextlib.asynccontextmanager
async def connected(url: str, *, address: str = ADDRESS) -> AsyncIterator[Connection]:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, local_addr=(address, 0))
    try:
        yield Connection(reader, writer)
    finally:
        writer.transport.abort()


def head(url: str, method: str, path: str, *lines: str) -> bytes:
    """The head of a request, whole."""
    host = urlsplit(url).netloc
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *lines, "", ""]).encode()


@contextlib.asynccontextmanager
async def repeated(attack: Callable[[], Awaitable[object]], *, pause: float) -> AsyncIterator[None]:
    """Runs the attack again and again, with so many seconds between, and has run it once before it yields."""
    await attack()

    async def forever() -> None:
        while True:
            await asyncio.sleep(pause)
            await attack()

    task = asyncio.create_task(forever())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


Attack = Callable[[], AbstractAsyncContextManager[object]]
"""In force inside its context."""

Harmless = Callable[[Attack], Awaitable[None]]
"""Fails unless others are answered during the attack, and their median request takes at most FACTOR times as long."""


async def medians(others: Bystander, attack: Attack) -> tuple[float, float]:
    """Of the requests of others before and during the attack, in ms. Fails if one of them is not answered.

    Before and during are measured in turn, so that whatever else the machine does meets both."""
    before: list[Request] = []
    during: list[Request] = []
    for _ in range(ROUNDS):
        before += await others.next(REQUESTS)
        async with attack():
            during += await others.next(REQUESTS)
    statuses = {request.status for request in before + during}
    assert statuses <= {200, 201}, statuses
    return median(before), median(during)
