"""A caller who knows nothing of the service but its OpenAPI document and an API key."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from random import Random
from time import monotonic
from typing import Any, NamedTuple
from uuid import uuid4

import httpx

PATIENCE_SECONDS = 90.0
"""How long one call is tried again while instances die."""


class Unanswered(Exception):
    """No instance gave an answer that counts in time."""


class Request(NamedTuple):
    method: str
    path: str
    options: dict[str, Any]
    """As httpx takes them, with the Idempotency-Key."""


class Api:
    """Operations by the ids of the document, at any of several instances."""

    def __init__(self, urls: Sequence[str], key: str, random: Random) -> None:
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        self.http = httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=40)
        self._urls, self._random = urls, random
        self._operations: dict[str, tuple[str, str]] = {}
        self._doubtful: list[tuple[Request, Callable[[], None]]] = []

    async def learn(self) -> None:
        """Read the document, from the first instance that answers."""
        document = (await self._send(Request("GET", "/schema/openapi.json", {})))[0].json()
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                if "operationId" in operation:
                    self._operations[operation["operationId"]] = (method.upper(), path)

    async def call(
        self,
        operation: str,
        body: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        fine: Sequence[int] = (),
        done: Callable[[], None] | None = None,
        **path: object,
    ) -> httpx.Response:
        """The first answer that is neither 503, 429, cut off nor `still running`; a POST keeps its Idempotency-Key.

        An answer that is no success and not in `fine` is a fault. After a success `done` is called, if need be late:
        see `settle`. Raises Unanswered."""
        method, template = self._operations[operation]
        request = Request(method, template.format(**path), {"params": query} if query else {})
        if body is not None:
            request.options["json"] = body
        if method == "POST":
            request.options["headers"] = {"Idempotency-Key": str(uuid4())}
        answer, was_cut_off = await self._send(request)
        self.counts[f"{operation}: {answer.status_code}"] += 1
        if answer.is_success:
            if done is not None:
                done()
        elif answer.status_code not in fine:
            self.faults.append(f"{operation}: {answer.status_code} {answer.text[:500]}")
        elif was_cut_off and done is not None:
            self._doubtful.append((request, done))
        return answer

    async def settle(self) -> None:
        """A request that was cut off may wait in a paused instance, and be carried out after its repetition was
        refused. So the last word of such a refusal is the answer to one more repetition."""
        for request, done in self._doubtful:
            answer, _ = await self._send(request)
            if answer.is_success and "Idempotency-Replayed" in answer.headers:
                self.counts["carried out after the repetition was refused"] += 1
                done()
        self._doubtful.clear()

    async def _send(self, request: Request) -> tuple[httpx.Response, bool]:
        """With whether an attempt was cut off before."""
        method, path, options = request
        deadline = monotonic() + PATIENCE_SECONDS
        was_cut_off, last = False, None
        while monotonic() < deadline:
            wait = 0.2
            try:
                answer = await self.http.request(method, self._random.choice(self._urls) + path, **options)
            except httpx.TransportError as exc:
                was_cut_off, last = True, repr(exc)
                self.counts["cut off"] += 1
            else:
                last = f"{answer.status_code} {answer.text[:300]}"
                if answer.status_code not in (429, 503) and "still-running" not in answer.text[:200]:
                    return answer, was_cut_off
                self.counts[f"asked to wait: {answer.status_code}"] += 1
                wait = min(float(answer.headers.get("Retry-After", 1)), 5.0) * self._random.uniform(0.5, 1)
            await asyncio.sleep(wait)
        raise Unanswered(f"{method} {path}: {last}")
