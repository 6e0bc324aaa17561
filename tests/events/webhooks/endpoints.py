"""Webhooks and what happens to them, without a worker: each step is one call, so a test has it when it wants it."""

from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import httpx

from erp_service.access.principals import system
from erp_service.audit.record import record
from erp_service.db.engine import Database
from erp_service.events.webhooks import delivery
from erp_service.events.webhooks.context import WebhookContext
from erp_service.events.webhooks.lifecycle import Run
from erp_service.queue.attempts import JobAttempt
from erp_service.settings import Settings
from tests.support.trail import seal_all

PATH = "/api/v1/webhooks"
WHO = system("erp test")


async def make(client: httpx.AsyncClient, url: str, **fields: Any) -> dict[str, Any]:
    answer = await client.post(PATH, json={"url": url, **fields})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def seen(client: httpx.AsyncClient, webhook: dict[str, Any]) -> dict[str, Any]:
    answer = await client.get(f"{PATH}/{webhook['id']}")
    assert answer.status_code == 200, answer.text
    now: dict[str, Any] = answer.json()
    return now


async def deliveries(client: httpx.AsyncClient, webhook: dict[str, Any]) -> list[dict[str, Any]]:
    answer = await client.get(f"{PATH}/{webhook['id']}/deliveries", params={"limit": 500})
    listed: list[dict[str, Any]] = answer.json()["items"]
    return listed


async def happen(settings: Settings, database: Database, *actions: str) -> None:
    """Events, each a transaction of its own, and sealed."""
    for number, action in enumerate(actions):
        async with database.write() as db:
            await record(db, WHO, action, number, after={"id": number, "version": 1})
    await seal_all(settings)


class Jobs(NamedTuple):
    """The queue, as a worker uses it."""

    owner: asyncpg.Connection
    context: WebhookContext

    async def waiting(self, webhook_id: str) -> int | None:
        """The id of the job that delivers to the endpoint."""
        job_id: int | None = await self.owner.fetchval(
            "select id from procrastinate_jobs where args ->> 'webhook_id' = $1 and status = 'todo' order by id desc",
            webhook_id,
        )
        return job_id

    async def start(self, webhook: dict[str, Any]) -> Run | None:
        """Look for due endpoints, as each worker does every second, and take the job of this one."""
        await delivery.start_due(self.context)
        job_id = await self.waiting(webhook["id"])
        if job_id is None:
            return None
        await self.owner.execute("update procrastinate_jobs set status = 'doing' where id = $1", job_id)
        return Run(UUID(webhook["id"]), JobAttempt.of_row(job_id, 0))

    async def end(self, run: Run) -> None:
        await self.owner.execute("delete from procrastinate_jobs where id = $1", run.job.job_id)

    async def deliver(self, webhook: dict[str, Any]) -> bool:
        """One turn of one job; False if none was needed."""
        run = await self.start(webhook)
        if run is None:
            return False
        await delivery.deliver(self.context, run)
        await self.end(run)
        return True
