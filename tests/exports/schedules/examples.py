"""Schedules, as a client of the API makes them."""

from typing import Any

import httpx

SCHEDULES = "/api/v1/exports/schedules"
DAILY: dict[str, Any] = {"cron": "0 6 * * *", "timezone": "Europe/Berlin", "spec": {"dataset": "items"}}


async def made(client: httpx.AsyncClient, **more: Any) -> dict[str, Any]:
    answer = await client.post(SCHEDULES, json={**DAILY, **more})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())
