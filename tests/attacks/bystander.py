"""Somebody else's requests during an attack, sent by a process of their own, so that they are not timed by a busy one.

`python -m tests.attacks.bystander URL TOKEN ITEM LOCATION` sends a read and a posting in turn, over one connection, and
writes for each a line: when it started (seconds of the monotonic clock, which all processes share), how many
milliseconds its answer took, its status."""

import asyncio
import contextlib
import http.client
import json
import statistics
import sys
import time
import uuid
from collections.abc import AsyncIterator
from typing import NamedTuple
from urllib.parse import urlsplit

from tests.support.waiting import eventually

ADDRESS = "127.0.0.3"
"""Where they come from: another address than any attacker's."""
PAUSE = 0.02
"""Seconds between an answer and the next request: a busy person's client, not a flood."""


class Request(NamedTuple):
    started: float
    milliseconds: float
    status: int


class Bystander:
    """What the process has written until now."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.requests: list[Request] = []

    async def collect(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            started, milliseconds, status = line.split()
            self.requests.append(Request(float(started), float(milliseconds), int(status)))

    async def next(self, count: int, *, seconds: float = 120.0) -> list[Request]:
        """The next `count` requests that start after this call."""
        start = time.monotonic()

        async def enough() -> list[Request]:
            later = [request for request in self.requests if request.started >= start]
            return later if len(later) >= count else []

        return (await eventually(enough, seconds=seconds))[:count]


@contextlib.asynccontextmanager
async def bystander(url: str, token: str, item: int, location: int) -> AsyncIterator[Bystander]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.attacks.bystander", url, token, str(item), str(location),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    them = Bystander(process)
    collecting = asyncio.create_task(them.collect())
    try:
        yield them
    finally:
        process.kill()
        await process.wait()
        await collecting


def median(requests: list[Request]) -> float:
    """Milliseconds."""
    return statistics.median(request.milliseconds for request in requests)


def main(url: str, token: str, item: str, location: str) -> None:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60, source_address=(ADDRESS, 0))
    authorization = {"Authorization": f"Bearer {token}"}
    posting = json.dumps({"item_id": int(item), "location_id": int(location), "quantity": "1", "unit_cost": "1"})
    while True:
        for method in ("GET", "POST"):
            started = time.monotonic()
            try:
                if method == "GET":
                    connection.request("GET", f"/api/v1/inventory/items/{item}", headers=authorization)
                else:
                    headers = {"Content-Type": "application/json", "Idempotency-Key": str(uuid.uuid4())}
                    connection.request(
                        "POST", "/api/v1/inventory/stock/in", body=posting, headers={**headers, **authorization}
                    )
                answer = connection.getresponse()
                answer.read()
                status = answer.status
            except (OSError, http.client.HTTPException):
                connection.close()
                status = 0
            taken = (time.monotonic() - started) * 1000
            sys.stdout.write(f"{started} {taken} {status}\n")
            sys.stdout.flush()
            time.sleep(PAUSE)


if __name__ == "__main__":
    main(*sys.argv[1:])
