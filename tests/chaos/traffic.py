"""Requests that go on during a fault, and their responses."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import NamedTuple

import httpx

from tests.chaos.ground import JOBS
from tests.support.waiting import eventually


class Asked(NamedTuple):
    """One request of `Traffic`."""

    at: datetime
    status: int
    retry_after: str | None
    type: str


class Traffic:
    """Sends requests to one instance during a fault; `answers` are all responses."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.answers: list[Asked] = []
        self._client = client

    @contextlib.asynccontextmanager
    async def going_on(self) -> AsyncIterator["Traffic"]:
        task = asyncio.create_task(self._ask())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def refused(self, *, seconds: float = 30) -> None:
        await self._sees(503, seconds)

    async def answered(self, *, seconds: float = 60) -> datetime:
        """The time of the next successful response."""
        return await self._sees(200, seconds)

    async def _sees(self, status: int, seconds: float) -> datetime:
        seen = len(self.answers)

        async def look() -> datetime | None:
            return next((asked.at for asked in self.answers[seen:] if asked.status == status), None)

        found = await eventually(look, seconds=seconds)
        assert found is not None
        return found

    def proven(self) -> int:
        """Every response was right, or a problem with Retry-After; returns the number of problems."""
        refused = [asked for asked in self.answers if asked.status != 200]
        for asked in refused:
            assert asked.status == 503, asked
            assert asked.type == "application/problem+json", asked
            assert asked.retry_after is not None, asked
        return len(refused)

    async def _ask(self) -> None:
        while True:
            for path in ("/api/v1/inventory/locations", JOBS):
                answer = await self._client.get(path)
                headers = answer.headers
                self.answers.append(
                    Asked(datetime.now(UTC), answer.status_code, headers.get("Retry-After"), headers["Content-Type"])
                )
                await asyncio.sleep(0.05)
