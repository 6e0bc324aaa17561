"""What the clients stand on: items to post to, rows to export, schedules that are due each minute, and their keys."""

import httpx

from tests.containers.stack import Stack

ITEMS = 4
"""Few, so that postings meet."""
PLACE = "LOAD"
BULK = "BULK"
"""The location whose movements are exported: they are there before the clients, and never change."""
ROWS = 60_000
"""Enough for an export to be met in the middle."""
SCHEDULES = 5
"""Each is due every five minutes, which is the most that is allowed: together, one each minute."""
SCOPES = ["stock:read", "stock:write", "items:read", "reports:read", "exports:read", "exports:write"]

API = "/api/v1"
INVENTORY = f"{API}/inventory"


async def prepare(stack: Stack) -> None:
    """What the owner does once, in person."""
    headers = {"Authorization": f"Bearer {await stack.sign_in()}"}
    async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=60) as owner:
        for number in range(ITEMS):
            await made(owner, f"{INVENTORY}/items", sku=f"LOAD-{number}", name=f"Posted {number}", unit="PCS")
        for code in (PLACE, BULK):
            await made(owner, f"{INVENTORY}/locations", code=code, name=code, location_type="WAREHOUSE")
        (api, *_) = await stack.containers("api")
        await stack.inside(api, "erp", "import", "items", "-", stdin=_items().encode())
        await stack.inside(api, "erp", "import", "movements", "-", stdin=_movements().encode())
        for number in range(SCHEDULES):
            spec = {"dataset": "locations", "force_new": True}
            await made(owner, f"{API}/exports/schedules", cron=f"{number}-59/5 * * * *", spec=spec)


async def key_of(stack: Stack, name: str) -> str:
    """An API key, made by the owner as an operator does it."""
    headers = {"Authorization": f"Bearer {await stack.sign_in()}"}
    async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=60) as owner:
        answer = await made(owner, f"{API}/api-keys", name=name, role="STAFF", scopes=SCOPES)
    return str(answer["key"])


async def made(owner: httpx.AsyncClient, path: str, **body: object) -> dict[str, object]:
    answer = await owner.post(path, json=body)
    assert answer.status_code == 201, answer.text
    created: dict[str, object] = answer.json()
    return created


def _items() -> str:
    return "sku,name,unit\n" + "".join(f"BULK-{n},Item {n},PCS\n" for n in range(200))


def _movements() -> str:
    lines = (f"2026-01-{1 + n * 28 // ROWS:02}T08:00:00Z,IN,BULK-{n % 200},{BULK},3,1.25\n" for n in range(ROWS))
    return "occurred_at,type,sku,location,quantity,unit_cost\n" + "".join(lines)
