"""Outside clients: they know an address and an API key, and do what ops/integrating.md says."""

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from time import monotonic
from typing import Any
from uuid import uuid4

import httpx

from tests.containers.clients import FINAL, JOBS, STOCK
from tests.failover.ground import BULK, ITEMS, PLACE, ROWS
from tests.failover.journal import CUT_OFF, Answer, Journal

REPORT = "/api/v1/inventory/reports/snapshot"
PATIENCE_SECONDS = 240.0
"""How long a request is sent again: longer than the longest outage that these tests make."""
MOST_RANDOM_SECONDS = 10.0
REPLAYED = 0.1
"""The share of postings that are sent once more after their answer."""


PAUSE = (0.05, 0.3)
"""Seconds from one request of a life to the next."""
EXPORT_PAUSE = (0.5, 2.5)
"""Seconds from one export to the next."""


class Client:
    """One program with one key, which does several things at once."""

    def __init__(self, url: str, key: str, random: Random, journal: Journal) -> None:
        self.url, self.key, self.random, self.journal = url, key, random, journal
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._file: tuple[int, str] | None = None

    def begin(self, *, posters: int, readers: int, reporters: int, exporters: int) -> None:
        lives = [self._post] * posters + [self._read] * readers + [self._report] * reporters
        self._tasks = [asyncio.create_task(self._life(act)) for act in lives + [self._export] * exporters]

    async def end(self) -> None:
        """Once everything that was begun has its answer. Raises what a life ended with."""
        self._stopping.set()
        await asyncio.gather(*self._tasks)

    @property
    def is_alive(self) -> bool:
        """Whether none of its lives has ended."""
        return not any(task.done() for task in self._tasks)

    async def _life(self, act: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
        headers = {"Authorization": f"Bearer {self.key}"}
        async with httpx.AsyncClient(base_url=self.url, headers=headers, timeout=60) as http:
            while not self._stopping.is_set():
                await act(http)
                await asyncio.sleep(self.random.uniform(*PAUSE))

    async def _ask(self, http: httpx.AsyncClient, what: str, method: str, path: str, **request: Any) -> httpx.Response:
        """One attempt. Raises httpx.TransportError."""
        began, status = monotonic(), CUT_OFF
        try:
            answer = await http.request(method, path, **request)
            status = answer.status_code
            return answer
        finally:
            self.journal.answers.append(Answer(monotonic(), what, status, monotonic() - began))

    async def call(
        self,
        http: httpx.AsyncClient,
        what: str,
        method: str,
        path: str,
        *,
        key: str | None = None,
        fine: Sequence[int] = (),
        **request: Any,
    ) -> httpx.Response | None:
        """The first answer that is a success, or in `fine`; None, and a failure noted, if there was none in time.

        After a lost connection, 502, 503, 504, 429 and `still running` the same request is sent again, after
        `Retry-After` and a random part of as much again."""
        headers = {} if key is None else {"Idempotency-Key": key}
        deadline = monotonic() + PATIENCE_SECONDS
        while True:
            wait = 1.0
            try:
                answer = await self._ask(http, what, method, path, headers=headers, **request)
            except httpx.TransportError as exc:
                said = f"{method} {path}: {exc!r}"
            else:
                if answer.is_success or answer.status_code in fine:
                    return answer
                said = f"{method} {path}: {answer.status_code} {answer.text[:300]}"
                running = answer.status_code == 409 and "still-running" in answer.text
                if answer.status_code not in (429, 502, 503, 504) and not running:
                    self.journal.fail(said)
                    return None
                if "Retry-After" not in answer.headers:
                    self.journal.fail(f"without Retry-After: {said}")
                wait = float(answer.headers.get("Retry-After", 1))
            if monotonic() > deadline:
                self.journal.fail(f"given up after {PATIENCE_SECONDS:.0f} s: {said}")
                return None
            await asyncio.sleep(wait + self.random.uniform(0, min(wait, MOST_RANDOM_SECONDS)))

    async def _post(self, http: httpx.AsyncClient) -> None:
        key = str(uuid4())
        sku = f"LOAD-{self.random.randrange(ITEMS)}"
        body = {"sku": sku, "location": PLACE, "quantity": "1", "unit_cost": "2", "notes": key}
        # until there is an answer
        self.journal.unknown.add(key)
        if (answer := await self.call(http, "post", "POST", f"{STOCK}/in", key=key, json=body)) is None:
            return
        self.journal.postings[key] = answer.json()["transaction_id"]
        self.journal.unknown.discard(key)
        self.journal.posted_at.append(monotonic())
        if self.random.random() < REPLAYED:
            again = await self.call(http, "repetition", "POST", f"{STOCK}/in", key=key, json=body)
            if again is not None and again.json()["transaction_id"] != self.journal.postings[key]:
                self.journal.fail(f"{key} was posted as {self.journal.postings[key]}, and again: {again.text}")

    async def _read(self, http: httpx.AsyncClient) -> None:
        if await self.call(http, "read", "GET", f"{STOCK}/current", params={"limit": "50"}) is not None:
            self.journal.read_at.append(monotonic())

    async def _report(self, http: httpx.AsyncClient) -> None:
        """Asked once: what reads a report for a person does not ask again."""
        with contextlib.suppress(httpx.TransportError):
            answer = await self._ask(http, "report", "GET", REPORT, params={"limit": "50"})
            if answer.is_success and answer.json()["items"]:
                self.journal.reported_at.append(monotonic())

    async def _export(self, http: httpx.AsyncClient) -> None:
        """From the submission to the checked file."""
        body = {"dataset": "stock_movements", "filter": {"location": BULK}, "force_new": True}
        if (answer := await self.call(http, "export", "POST", JOBS, key=str(uuid4()), json=body)) is None:
            return
        job = answer.json()
        self.journal.exports.append(job["id"])
        deadline = monotonic() + PATIENCE_SECONDS
        while job["status"] not in FINAL:
            if monotonic() > deadline:
                self.journal.fail(f"export {job['id']} was given up: {job['status']}, attempt {job['attempt']}")
                return
            await asyncio.sleep(0.3)
            if (answer := await self.call(http, "export", "GET", f"{JOBS}/{job['id']}")) is None:
                return
            job = answer.json()
        if job["status"] != "succeeded":
            self.journal.fail(f"export {job['id']}: {job['status']} {job['error']}")
            return
        if (file := await self.call(http, "download", "GET", f"{JOBS}/{job['id']}/download")) is not None:
            self._compare(job, file.content)
        # of these files the disk would be full in an hour; 404: an earlier try succeeded, and its answer was lost
        await self.call(http, "export", "DELETE", f"{JOBS}/{job['id']}", fine=[404])
        await asyncio.sleep(self.random.uniform(*EXPORT_PAUSE))

    def _compare(self, job: dict[str, Any], content: bytes) -> None:
        """The rows that it exports never change, so each file is the first one again."""
        result = job["result"]
        told = (result["rows"], result["sha256"])
        self._file = self._file or (ROWS, result["sha256"])
        if told != self._file or hashlib.sha256(content).hexdigest() != result["sha256"]:
            self.journal.fail(f"export {job['id']}, attempt {job['attempt']}: {len(content)} bytes, {told}")
