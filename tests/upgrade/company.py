"""A company whose instances move from one address of the database to another while its people go on posting."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import uuid4

import httpx

from erp_service.settings import Settings
from tests.acceptance.instances import Process, answers, environment, erp, free_port
from tests.support.settings import as_role
from tests.support.waiting import eventually

API = "/api/v1"
PEOPLE = 4
_AGAIN_SECONDS = 0.05


class Instance:
    """One instance of the API, which keeps its port when it is started again."""

    def __init__(self, directory: Path, number: int) -> None:
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self._port, self._log = port, directory / f"serve-{number}.log"
        self._stack = contextlib.AsyncExitStack()
        self._process: Process | None = None

    async def start(self, settings: Settings) -> None:
        """Returns when it is ready."""
        env = environment(as_role(settings, "erp_api"), ERP_PORT=str(self._port), ERP_DRAIN_SECONDS="0")
        process = erp("serve", env=env, log=self._log, url=self.url)
        self._process = await self._stack.enter_async_context(process)
        await eventually(lambda: answers(self._running, "/health/ready"), seconds=60)

    @property
    def _running(self) -> Process:
        assert self._process is not None
        return self._process

    async def restart(self, settings: Settings) -> None:
        """As an operator does who has given it another address."""
        self._running.signal(signal.SIGTERM)
        await self._running.ended()
        await self.start(settings)

    async def close(self) -> None:
        await self._stack.aclose()


class Trade:
    """People who post receipts, each with a key of its own, until it is answered with 201; and one who reads.

    `urls` are the instances that they ask, as a balancer would know them; it may be changed at any time."""

    def __init__(self, urls: list[str], token: str) -> None:
        self.acknowledged: dict[str, str] = {}
        self.statuses: dict[int, int] = {}
        self.read_failures = self.reads = 0
        self.longest_wait = self.longest_read = 0.0
        self.urls, self._headers = urls, {"Authorization": f"Bearer {token}"}
        self._stopped = asyncio.Event()

    @contextlib.asynccontextmanager
    async def going_on(self) -> AsyncIterator["Trade"]:
        """Until it is left; then everybody finishes the receipt in hand."""
        people = [asyncio.create_task(self._post(number)) for number in range(PEOPLE)]
        people.append(asyncio.create_task(self._read()))
        try:
            yield self
        finally:
            self._stopped.set()
            await asyncio.gather(*people)

    async def posted(self, number: int) -> None:
        """Returns when so many more were acknowledged."""
        wanted = len(self.acknowledged) + number

        async def enough() -> bool:
            return len(self.acknowledged) >= wanted

        await eventually(enough, seconds=60)

    async def _post(self, person: int) -> None:
        async with httpx.AsyncClient(headers=self._headers, timeout=20) as client:
            while not self._stopped.is_set():
                key, began = str(uuid4()), monotonic()
                body = {
                    "sku": f"ITEM-{person}",
                    "location": "SHOP",
                    "quantity": "1",
                    "unit_cost": "2",
                    "reference_no": key,
                }
                self.acknowledged[key] = await self._until_created(client, person, key, body)
                self.longest_wait = max(self.longest_wait, monotonic() - began)

    async def _until_created(self, client: httpx.AsyncClient, person: int, key: str, body: dict[str, Any]) -> str:
        """The id of the ledger entry. The other instance is asked after each failure, as behind a balancer."""
        tries = person
        while True:
            tries += 1
            with contextlib.suppress(httpx.TransportError):
                url = f"{self.urls[tries % len(self.urls)]}{API}/inventory/stock/in"
                answer = await client.post(url, json=body, headers={"Idempotency-Key": key})
                self.statuses[answer.status_code] = self.statuses.get(answer.status_code, 0) + 1
                if answer.status_code == 201:
                    return str(answer.json()["id"])
                assert answer.status_code == 503, answer.text
                assert answer.headers["Retry-After"]
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _read(self) -> None:
        async with httpx.AsyncClient(headers=self._headers, timeout=20) as client:
            last = monotonic()
            while not self._stopped.is_set():
                answered = False
                for url in list(self.urls):
                    with contextlib.suppress(httpx.TransportError):
                        answered |= (await client.get(f"{url}{API}/inventory/items")).status_code == 200
                    if answered:
                        break
                self.reads += answered
                self.read_failures += not answered
                if answered:
                    self.longest_read, last = max(self.longest_read, monotonic() - last), monotonic()
                await asyncio.sleep(_AGAIN_SECONDS)
