"""Outside clients: they know an address and a token, and write down all that they were told."""

import asyncio
import contextlib
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from time import monotonic
from typing import Any
from uuid import uuid4

import httpx

from tests.containers.stack import percentile

STOCK = "/api/v1/inventory/stock"
JOBS = "/api/v1/exports/jobs"
IMPORTS = "/api/v1/imports/jobs"
FINAL = ("succeeded", "failed", "canceled", "expired")

POSTED: Counter[str] = Counter()
"""What was acknowledged to all clients of all tests, also of those that failed: one fault is not every later test's."""

EXPORTED: list[str] = []


class Load:
    """Posters, readers, downloaders and exporters at once.

    `patient` clients do what a good client does with 502, 503 and a lost connection: they ask again, a POST with the
    same Idempotency-Key. Of the others, each request must be answered the first time. `posted` is what was acknowledged
    of each item.
    """

    def __init__(self, url: str, token: str, *, patient: bool, file: tuple[str, str] | None = None) -> None:
        self.url, self.token, self.patient, self.file = url, token, patient, file
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []
        self.seconds: list[float] = []
        self.posted: Counter[str] = Counter()
        self.exports: list[str] = []
        self._stopping = False

    @contextlib.asynccontextmanager
    async def going_on(self, *, posters: int = 8, readers: int = 4, downloaders: int = 2) -> AsyncIterator[None]:
        lives = [self._life(self._post, f"LOAD-{n % 4}") for n in range(posters)]
        lives += [self._life(self._read) for _ in range(readers)]
        lives += [self._life(self._export)]
        if self.file is not None:
            lives += [self._life(self._download) for _ in range(downloaders)]
        tasks = [asyncio.create_task(life) for life in lives]
        try:
            yield
        finally:
            self._stopping = True
            await asyncio.gather(*tasks)
            POSTED.update(self.posted)
            EXPORTED.extend(self.exports)

    def slowest(self) -> str:
        """Of the requests, without downloads."""
        slow = sum(1 for took in self.seconds if took > 0.5)
        median, high = percentile(self.seconds, 0.5), percentile(self.seconds, 0.99)
        longest = max(self.seconds, default=0.0)
        return f"median {median * 1000:.0f} ms, p99 {high * 1000:.0f} ms, longest {longest:.2f} s, {slow} over 0.5 s"

    async def _life(self, act: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        headers = {"Authorization": f"Bearer {self.token}"}
        async with httpx.AsyncClient(base_url=self.url, headers=headers, timeout=30) as client:
            while not self._stopping:
                await act(client, *arguments)

    async def call(self, client: httpx.AsyncClient, method: str, path: str, **request: Any) -> httpx.Response | None:
        """The first answer that is one; None, and a failure written down, if there was none."""
        headers = {"Idempotency-Key": str(uuid4())} if method == "POST" else {}
        deadline = monotonic() + 60
        while True:
            began = monotonic()
            try:
                answer = await client.request(method, path, headers=headers, **request)
            except httpx.TransportError as exc:
                said = f"{method} {path}: {exc!r}"
            else:
                self.seconds.append(monotonic() - began)
                running = answer.status_code == 409 and "still-running" in answer.text
                if answer.status_code < 400:
                    self.counts[f"{method} answered"] += 1
                    return answer
                said = f"{method} {path}: {answer.status_code} {answer.text[:200]}"
                if answer.status_code not in (502, 503, 504) and not running:
                    self.failures.append(said)
                    return None
            self.counts["asked again"] += 1
            if not self.patient or monotonic() > deadline:
                self.failures.append(said)
                return None
            await asyncio.sleep(0.2)

    async def _post(self, client: httpx.AsyncClient, sku: str) -> None:
        body = {"sku": sku, "location": "LOAD", "quantity": "1", "unit_cost": "2"}
        if await self.call(client, "POST", f"{STOCK}/in", json=body) is not None:
            self.posted[sku] += 1

    async def _read(self, client: httpx.AsyncClient) -> None:
        await self.call(client, "GET", f"{STOCK}/current", params={"limit": "50"})

    async def _export(self, client: httpx.AsyncClient) -> None:
        """A small export from the submission to the checked file."""
        body = {"dataset": "locations", "force_new": True}
        if (answer := await self.call(client, "POST", JOBS, json=body)) is None:
            return
        job = answer.json()
        self.exports.append(job["id"])
        while job["status"] not in FINAL:
            await asyncio.sleep(0.2)
            if (answer := await self.call(client, "GET", f"{JOBS}/{job['id']}")) is None:
                return
            job = answer.json()
        if job["status"] != "succeeded":
            self.failures.append(f"export {job['id']}: {job['status']} {job['error']}")
            return
        if (answer := await self.call(client, "GET", f"{JOBS}/{job['id']}/download")) is not None:
            self._compare(answer.content, job["result"]["sha256"])
            self.counts["exports whole"] += 1

    async def _download(self, client: httpx.AsyncClient) -> None:
        """The large file as somebody with a slow line gets it, for some three seconds."""
        assert self.file is not None
        job, sha256 = self.file
        digest = hashlib.sha256()
        began, got = monotonic(), 0
        try:
            async with client.stream("GET", f"{JOBS}/{job}/download") as answer:
                if self.patient and answer.status_code in (502, 503, 504):
                    self.counts["asked again"] += 1
                    await asyncio.sleep(0.5)
                    return
                if answer.status_code != 200:
                    self.failures.append(f"download: {answer.status_code}")
                    return
                total = int(answer.headers["Content-Length"])
                async for piece in answer.aiter_raw(64 * 1024):
                    digest.update(piece)
                    got += len(piece)
                    await asyncio.sleep(max(0.0, began + 3 * got / total - monotonic()))
        except httpx.TransportError as exc:
            if self.patient:
                self.counts["asked again"] += 1
            else:
                self.failures.append(f"download broke after {got} bytes: {exc!r}")
            return
        if digest.hexdigest() != sha256:
            self.failures.append(f"download of {got} bytes is another file")
        self.counts["downloads whole"] += 1

    def _compare(self, content: bytes, sha256: str) -> None:
        if hashlib.sha256(content).hexdigest() != sha256:
            self.failures.append(f"a file of {len(content)} bytes is not what its job says")
