"""Well-behaved clients: an Idempotency-Key for each effect, and retries after 503, lost connections and a full queue.

Whatever was acknowledged is written down here, and held against the database and the files afterwards."""

import asyncio
import contextlib
import csv
import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from random import Random
from time import monotonic
from typing import Any
from uuid import uuid4

import httpx

JOBS = "/api/v1/exports/jobs"
STOCK = "/api/v1/inventory/stock"
PATIENCE_SECONDS = 60.0
OPEN = ("queued", "running", "canceling")

SPECS: Sequence[tuple[dict[str, Any], int]] = (
    ({"dataset": "items"}, 4),
    ({"dataset": "items", "filter": {"q": "7"}, "columns": ["sku", "name"]}, 3),
    ({"dataset": "stock_movements", "filter": {"sku": "SOAK-1"}}, 4),
    ({"dataset": "stock_movements", "sort": "-id", "columns": ["id", "sku", "quantity"]}, 2),
    ({"dataset": "stock_movements"}, 3),
    ({"dataset": "stock_levels"}, 4),
    ({"dataset": "locations"}, 2),
)


class Job:
    def __init__(self, client: "Client", id_: str) -> None:
        self.client, self.id = client, id_
        self.canceled = self.deleted = False


class Ledger:
    """Everything that the service acknowledged to all clients."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.on_hand: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []


class Client:
    """One signed-in user, who sends requests to any instance."""

    def __init__(self, token: str, urls: Sequence[str], random: Random, ledger: Ledger) -> None:
        self.urls, self.random, self.ledger = urls, random, ledger
        self.http = httpx.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=8)

    async def call(self, method: str, path: str, *, key: str | None = None, **request: Any) -> httpx.Response | None:
        """The first response that is not 503, cut off or `still running`. Without one, None and a noted fault.

        A POST without a `key` gets one of its own."""
        key = str(uuid4()) if key is None and method == "POST" else key
        headers = {} if key is None else {"Idempotency-Key": key}
        deadline = monotonic() + PATIENCE_SECONDS
        last: object = None
        while monotonic() < deadline:
            url = self.random.choice(self.urls) + path
            try:
                answer = last = await self.http.request(method, url, headers=headers, **request)
            except httpx.TransportError as exc:
                last = exc
                self.ledger.counts["calls cut off"] += 1
                await asyncio.sleep(0.2)
                continue
            if answer.status_code == 503:
                self.ledger.counts["calls answered 503"] += 1
                if "Retry-After" not in answer.headers:
                    self.ledger.faults.append(f"503 of {method} {path} without Retry-After: {answer.text[:300]}")
            elif answer.status_code != 409 or "still-running" not in answer.text:
                if answer.status_code >= 500:
                    self.ledger.faults.append(f"{answer.status_code} of {method} {path}: {answer.text[:500]}")
                self.ledger.counts["calls answered"] += 1
                return answer
            await asyncio.sleep(0.3)
        self.ledger.faults.append(f"{method} {path} was not answered within {PATIENCE_SECONDS} s: {last!r}")
        return None

    async def submit(self) -> None:
        (spec,) = self.random.choices([spec for spec, _ in SPECS], [weight for _, weight in SPECS])
        self._acknowledged(await self.call("POST", JOBS, json={**spec, "force_new": True}), "submits")

    async def change_mind(self) -> None:
        """Submits a large export, and cancels it while it waits or runs."""
        answer = await self.call("POST", JOBS, json={"dataset": "stock_movements", "sort": "-id", "force_new": True})
        if (job := self._acknowledged(answer, "submits")) is not None:
            await asyncio.sleep(self.random.uniform(0, 0.4))
            await self.cancel(job)

    async def retry(self) -> None:
        if (job := self._one_of(canceled=True)) is not None:
            self._acknowledged(await self.call("POST", f"{JOBS}/{job.id}/retry"), "retries")

    def _acknowledged(self, answer: httpx.Response | None, what: str) -> Job | None:
        if answer is None:
            return None
        if answer.status_code == 202:
            self.ledger.counts[what] += 1
            id_ = answer.json()["id"]
            if id_ in self.ledger.jobs:
                self.ledger.faults.append(f"export {id_} was given for two requests")
            job = self.ledger.jobs[id_] = Job(self, id_)
            return job
        if answer.status_code in (409, 429):
            self.ledger.counts[f"{what} refused"] += 1
        else:
            self.ledger.faults.append(f"{what}: {answer.status_code} {answer.text[:300]}")
        return None

    async def cancel(self, job: Job) -> None:
        answer = await self.call("POST", f"{JOBS}/{job.id}/cancel")
        if answer is not None and answer.status_code == 200:
            job.canceled = True
            self.ledger.counts["cancels"] += 1

    async def delete(self) -> None:
        if (job := self._one_of()) is None:
            return
        answer = await self.call("DELETE", f"{JOBS}/{job.id}")
        # 404 too: an earlier try succeeded, and its response was lost
        if answer is not None and answer.status_code in (204, 404):
            job.deleted = True
            self.ledger.counts["deletes"] += 1

    async def fetch(self) -> None:
        if (job := self._one_of(canceled=False)) is not None:
            await self.check(job)

    async def browse(self) -> None:
        answer = await self.call("GET", JOBS, params={"limit": 20})
        if answer is not None and answer.status_code != 200:
            self.ledger.faults.append(f"list: {answer.status_code} {answer.text[:300]}")

    async def check(self, job: Job) -> bool:
        """Downloads a succeeded export and compares it with its job's digest; False if it has no file."""
        found = await self.call("GET", f"{JOBS}/{job.id}")
        if found is None or found.status_code == 404:
            return False
        said = found.json()
        if said["status"] != "succeeded":
            return False
        file = await self.call("GET", f"{JOBS}/{job.id}/download")
        if file is None or file.status_code == 410:
            return False
        if file.status_code != 200:
            self.ledger.faults.append(f"download of {job.id}: {file.status_code} {file.text[:300]}")
            return False
        fault = await asyncio.to_thread(wrong, file.content, said["result"])
        if fault:
            self.ledger.faults.append(f"file of {job.id}, attempt {said['attempt']}: {fault}")
        self.ledger.counts["files checked"] += 1
        return True

    async def post_stock(self) -> None:
        sku, quantity = f"SOAK-{self.random.randrange(5)}", self.random.randrange(1, 20)
        way = self.random.choice(["in", "in", "out"])
        body = {"sku": sku, "location": "MAIN", "quantity": str(quantity)}
        if way == "in":
            body["unit_cost"] = "2"
        answer = await self.call("POST", f"{STOCK}/{way}", json=body)
        if answer is None:
            return
        if answer.status_code == 201:
            self.ledger.counts["postings"] += 1
            self.ledger.on_hand[sku] += quantity if way == "in" else -quantity
        elif answer.status_code != 409:
            self.ledger.faults.append(f"{way}: {answer.status_code} {answer.text[:300]}")

    def _one_of(self, *, canceled: bool | None = None) -> Job | None:
        mine = [
            job
            for job in list(self.ledger.jobs.values())[-200:]
            if job.client is self and not job.deleted and canceled in (None, job.canceled)
        ]
        # mostly a late export, which still waits or runs
        return self.random.choice(mine[-4:] if self.random.random() < 0.6 else mine) if mine else None


def wrong(content: bytes, result: dict[str, Any]) -> str | None:
    """The fault of a file, or None."""
    if len(content) != result["bytes"]:
        return f"{len(content)} bytes instead of {result['bytes']}"
    if hashlib.sha256(content).hexdigest() != result["sha256"]:
        return "its sha256 is another"
    reader = csv.reader(io.StringIO(content.decode(), newline=""), strict=True)
    header = next(reader)
    rows = 0
    for row in reader:
        if len(row) != len(header):
            return f"row {rows + 1} has {len(row)} cells instead of {len(header)}"
        rows += 1
    return None if rows == result["rows"] else f"{rows} rows instead of {result['rows']}"


async def traffic(client: Client, until: float) -> None:
    """One user's requests until the time is over."""
    actions = {
        client.submit: 40,
        client.change_mind: 12,
        client.retry: 6,
        client.delete: 16,
        client.fetch: 10,
        client.browse: 4,
        client.post_stock: 30,
    }
    with contextlib.suppress(asyncio.CancelledError):
        while monotonic() < until:
            (action,) = client.random.choices(list(actions), list(actions.values()))
            await action()
            await asyncio.sleep(client.random.uniform(0.05, 0.6))
