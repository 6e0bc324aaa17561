"""Import jobs, as a client of the API submits and follows them."""

from typing import Any

import httpx

from tests.support.waiting import eventually

JOBS = "/api/v1/imports/jobs"
QUEUES = ["imports", "imports-small"]
CSV = {"Content-Type": "text/csv"}

ITEMS = "sku,name,unit\nA,Apples,KGM\nB,Bread,PCS\n"
LOCATIONS = "code,name,location_type\nMAIN,Main store,WAREHOUSE\n"
MOVEMENTS = (
    "occurred_at,type,sku,location,quantity,unit_cost,reference_no\n"
    "2026-01-01T10:00:00Z,IN,A,MAIN,10,1.5,R1\n"
    "2026-01-01T10:00:00Z,IN,B,MAIN,5,2,R1\n"
    "2026-01-02T10:00:00Z,OUT,A,MAIN,4,,S1\n"
)


async def submitted(
    client: httpx.AsyncClient, dataset: str, content: Any, headers: dict[str, str] | None = None, **query: Any
) -> dict[str, Any]:
    body = content.encode() if isinstance(content, str) else content
    answer = await client.post(
        JOBS, params={"dataset": dataset, **query}, content=body, headers={**CSV, **(headers or {})}
    )
    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"] == f"{JOBS}/{answer.json()['id']}"
    return answer.json()  # type: ignore[no-any-return]


async def reaches(
    client: httpx.AsyncClient, job: dict[str, Any], *statuses: str, seconds: float = 30
) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        now = (await client.get(f"{JOBS}/{job['id']}")).json()
        return now if now["status"] in statuses else None

    found = await eventually(look, seconds=seconds)
    assert found is not None
    return found


async def ended(client: httpx.AsyncClient, job: dict[str, Any], *, seconds: float = 30) -> dict[str, Any]:
    return await reaches(client, job, "succeeded", "failed", "canceled", seconds=seconds)


async def done(client: httpx.AsyncClient, dataset: str, content: Any, **more: Any) -> dict[str, Any]:
    return await ended(client, await submitted(client, dataset, content, **more))
