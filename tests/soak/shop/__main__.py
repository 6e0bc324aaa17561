"""`make shop MINUTES=10 SEED=...`: a web shop with nothing but an API key and the OpenAPI document, at two instances
and two workers that are killed meanwhile. In the end shop and service agree to the piece.

The seed replays the schedule of faults and of what the shop does, not how the two meet."""

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

import httpx
from msgspec.structs import replace

from erp_service.access.roles import Role
from erp_service.db import migrate as schema
from erp_service.db.engine import Database
from erp_service.settings import Settings
from erp_service.standalone import postgres
from erp_service.standalone.postgres import Cluster
from tests.acceptance.shop import Shop
from tests.soak import verdict
from tests.soak.bank.trouble import BankFleet
from tests.soak.fleet import Fleet
from tests.soak.shop.trouble import trouble
from tests.soak.tables import out, table
from tests.support.settings import settings_for
from tests.support.users import make_user, token_of

SAY_SECONDS = 10.0
KEY = {
    "name": "Web shop",
    "role": "ADMIN",
    "scopes": [
        "items:read",
        "items:write",
        "locations:write",
        "stock:read",
        "stock:write",
        "webhooks:write",
    ],
}


async def prepared(cluster: Cluster, directory: Path) -> Settings:
    """A migrated database, short timeouts, and webhooks to this machine."""
    await asyncio.to_thread(cluster.create_database, "shop")
    settings = replace(
        settings_for(cluster, "shop", directory),
        drain_seconds=0.5,
        grace_seconds=2,
        webhook_networks="127.0.0.0/8",
    )
    await schema.migrate(settings.migration_database_url or "")
    return settings


async def key_of(fleet: Fleet) -> str:
    """What the owner of the shop does once, in person."""
    database = Database(fleet.settings, name="erp shop")
    try:
        owner = await make_user(database, Role.ADMIN)
    finally:
        await database.close()
    headers = {"Authorization": f"Bearer {token_of(fleet.settings, owner)}"}
    async with httpx.AsyncClient(base_url=fleet.of("serve")[0].url, headers=headers) as person:
        answer = await person.post("/api/v1/api-keys", json=KEY)
        return str(answer.raise_for_status().json()["key"])


async def open_shop(cluster: Cluster, directory: Path, minutes: float, seed: int) -> list[str]:
    settings = await prepared(cluster, directory)
    fleet = BankFleet(cluster, settings, directory, instances=2, workers=2)
    faults: list[str] = []
    async with fleet.running():
        if not await fleet.all_up(seconds=60):
            return ["the fleet did not start", *fleet.faults]
        shop = Shop([seat.url for seat in fleet.of("serve")], await key_of(fleet), Random(seed), name="SHOP")
        until = monotonic() + 60 * minutes
        beside = [
            asyncio.create_task(say(fleet, shop, until)),
            asyncio.create_task(trouble(fleet, Random(f"{seed}:trouble"), until)),
        ]
        try:
            faults += await shop.run(minutes)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.wait(beside)
        faults += [repr(task.exception()) for task in beside if not task.cancelled() and task.exception() is not None]
        faults += await positions_that_differ(fleet, shop)
        faults += await verdict.verified(fleet.settings)
        faults += await verdict.stopped_in_order(fleet)
    report(fleet, shop)
    return faults + fleet.faults


async def positions_that_differ(fleet: Fleet, shop: Shop) -> list[str]:
    """What the database holds, against what the shop was told."""
    kinds = sorted({event["type"] for event in shop.follower.events})
    rows = await fleet.look(
        "select t.position from trail t join audit_log a on a.id = t.audit_id"
        " where t.position > $1 and t.position <= $2 and a.action = any($3::text[]) order by 1",
        shop.follower.first,
        shop.follower.last,
        kinds,
    )
    true, told = [row["position"] for row in rows], [event["position"] for event in shop.follower.events]
    return [] if true == told else [f"of {len(true)} events the shop was told {len(told)}"]


async def say(fleet: Fleet, shop: Shop, until: float) -> None:
    while True:
        await asyncio.sleep(SAY_SECONDS)
        done = f"{shop.api.counts.total()} answers, {len(shop.follower.events)} events, {len(shop.receiver.received)}"
        out.print(f"{until - monotonic():5.0f} s to go: {done} webhooks, {fleet.done.total()} disturbances")


def report(fleet: Fleet, shop: Shop) -> None:
    table("what the service answered", dict(sorted(shop.api.counts.items())))
    table("what was done to it", fleet.done)
    table("exit statuses", {f"{seat.name}: {code}": n for seat in fleet.seats for code, n in seat.codes.items()})
    again = len(shop.receiver.received) - len({id_ for id_, _ in shop.receiver.received})
    figures: dict[str, Any] = {
        "orders paid": shop.orders_paid,
        "events": len(shop.follower.events),
        "webhooks": len(shop.receiver.received),
        "webhooks that came again": again,
        "webhooks that the shop refused": shop.receiver.refused,
    }
    table("what the shop heard", figures)


def main() -> int:
    minutes = float(os.environ.get("MINUTES") or 2)
    seed = int(os.environ.get("SEED") or Random().randrange(10**6))
    out.print(f"shop: {minutes:g} minutes, SEED={seed}")
    directory = Path(tempfile.mkdtemp(prefix="erp-shop-"))
    with postgres.running(directory / "postgres", fsync=False, max_connections=200) as cluster:
        faults = asyncio.run(open_shop(cluster, directory, minutes, seed))
    if faults:
        out.print(f"FAILED with SEED={seed}; logs in {directory}", *faults[:40], sep="\n  ", markup=False)
        return 1
    if not os.environ.get("KEEP"):
        with contextlib.suppress(OSError):
            shutil.rmtree(directory)
    out.print(f"Shop and service agree. SEED={seed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
