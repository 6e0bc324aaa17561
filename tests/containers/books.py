"""The proof that the books hold exactly what all clients of all tests were told."""

import json
from collections.abc import Callable
from typing import Any

import httpx

from tests.containers.clients import EXPORTED, FINAL, IMPORTS, JOBS, POSTED, Load
from tests.containers.stack import Stack
from tests.support.waiting import eventually

Say = Callable[[str], None]

ROWS = 100_000
"""In the ledger: enough for an export to be met in the middle."""

NOTES = "said at length so that the file is a large one; " * 5


async def load_stock(stack: Stack, api: str) -> None:
    items = "sku,name,unit\n" + "".join(f"BULK-{n},Item {n},PCS\n" for n in range(500))
    lines = (f"2026-01-{1 + n * 28 // ROWS:02}T08:00:00Z,IN,BULK-{n % 500},LOAD,3,1.25,{NOTES}\n" for n in range(ROWS))
    movements = "occurred_at,type,sku,location,quantity,unit_cost,notes\n" + "".join(lines)
    await stack.inside(api, "erp", "import", "items", "-", stdin=items.encode())
    await stack.inside(api, "erp", "import", "movements", "-", stdin=movements.encode())


async def checked(client: httpx.AsyncClient, items: int) -> int:
    """A dry run of an import of so many new items, each of four kilobytes; returns the bytes of the file."""
    lines = (f"CHECKED-{n},Item {n},PCS,{'word ' * 800}\n" for n in range(items))
    file = ("sku,name,unit,description\n" + "".join(lines)).encode()
    query = {"dataset": "items", "dry_run": "true"}
    answer = await client.post(IMPORTS, params=query, content=file, headers={"Content-Type": "text/csv"})
    assert answer.status_code == 202, answer.text
    job = await final(client, answer.json()["id"], IMPORTS)
    assert (job["status"], (job["result"] or {}).get("rows")) == ("succeeded", items), job
    return len(file)


async def exported(client: httpx.AsyncClient, **spec: object) -> dict[str, Any]:
    answer = await client.post(JOBS, json={"force_new": True, **spec})
    assert answer.status_code == 202, answer.text
    job = await final(client, answer.json()["id"])
    assert job["status"] == "succeeded", job
    return job


async def final(client: httpx.AsyncClient, job_id: str, jobs: str = JOBS) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        job: dict[str, Any] = (await client.get(f"{jobs}/{job_id}")).json()
        return job if job["status"] in FINAL else None

    found = await eventually(look, seconds=90)
    assert found is not None
    return found


async def proven(stack: Stack, load: Load) -> str:
    """No client has anything to complain of, and the books hold exactly what was acknowledged."""
    assert not load.failures, f"{len(load.failures)} requests failed: {load.failures[:5]}"
    await nothing_lost_or_doubled(stack)
    return ", ".join(f"{count:,} {what}" for what, count in sorted(load.counts.items())) + f"; {load.slowest()}"


async def nothing_lost_or_doubled(stack: Stack) -> None:
    rows = await stack.sql(
        "select coalesce(json_object_agg(sku, on_hand::bigint), '{}') from items join stock_balances on item_id = id"
        " where sku like 'LOAD-%'"
    )
    assert json.loads(rows) == dict(POSTED)
    there = await stack.sql("select id from export_jobs where dataset = 'locations' and status = 'succeeded'")
    assert sorted(there.split()) == sorted(EXPORTED)
    twice = await stack.sql(
        "select count(*) from (select from audit_log where action = 'export.succeeded' group by entity_id"
        " having count(*) > 1) twice"
    )
    assert twice == "0"
