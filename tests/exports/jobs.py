"""Export jobs, as a client of the API submits and follows them."""

from typing import Any
from uuid import UUID

import asyncpg
import httpx

from tests.support.waiting import eventually

JOBS = "/api/v1/exports/jobs"


async def submitted(client: httpx.AsyncClient, dataset: str = "items", **more: Any) -> str:
    answer = await client.post(JOBS, json={"dataset": dataset, "force_new": True, **more})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def reaches(client: httpx.AsyncClient, export_id: str, *statuses: str, seconds: float = 20) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        job = (await client.get(f"{JOBS}/{export_id}")).json()
        return job if job["status"] in statuses else None

    found = await eventually(look, seconds=seconds)
    assert found is not None
    return found


async def done(client: httpx.AsyncClient, dataset: str = "items", **more: Any) -> dict[str, Any]:
    return await reaches(
        client, await submitted(client, dataset, **more), "succeeded", "failed", "canceled", seconds=30
    )


async def row_of(owner: asyncpg.Connection, export_id: str | UUID) -> asyncpg.Record:
    return await owner.fetchrow("select * from export_jobs where id = $1::text::uuid", str(export_id))
