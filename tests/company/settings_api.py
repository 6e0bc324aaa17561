"""The settings as a client of the API meets them."""

import json
from typing import Any

import asyncpg
import httpx

SETTINGS = "/api/v1/settings"


async def changed(client: httpx.AsyncClient, **values: Any) -> dict[str, Any]:
    answer = await client.patch(SETTINGS, json=values)
    assert answer.status_code == 200, answer.text
    assert answer.headers["ETag"] == f'"{answer.json()["version"]}"'
    shown: dict[str, Any] = answer.json()
    return shown


async def refused(client: httpx.AsyncClient, **values: Any) -> tuple[int, list[str]]:
    """The status, and the pointers of the fields at fault."""
    before = (await client.get(SETTINGS)).json()
    answer = await client.patch(SETTINGS, json=values)
    assert answer.status_code >= 400, answer.text
    assert (await client.get(SETTINGS)).json() == before, "nothing was changed"
    return answer.status_code, [fault["pointer"] for fault in answer.json().get("errors", [])]


async def entries(owner: asyncpg.Connection) -> list[dict[str, Any]]:
    """What the audit log says of the company, the oldest first."""
    rows = await owner.fetch(
        "select action, before::text, after::text, reason, user_id from audit_log where entity = 'company' order by id"
    )
    return [{**row, "before": json.loads(row["before"]), "after": json.loads(row["after"])} for row in rows]
