"""`make soak MINUTES=2 SEED=...`: random faults in real processes, and the proof that nothing was lost or doubled.

The seed replays the schedule of faults and of what clients do, not how the two meet."""

import asyncio
import contextlib
import os
import re
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from random import Random
from time import monotonic

import asyncpg
from msgspec.structs import replace

from erp_service.access.roles import Role
from erp_service.db import migrate as schema
from erp_service.db.engine import Database
from erp_service.settings import Settings
from erp_service.standalone import postgres
from erp_service.standalone.postgres import Cluster
from tests.soak import fleet as fleets
from tests.soak import verdict
from tests.soak.clients import Client, Ledger, traffic
from tests.soak.fleet import Fleet
from tests.soak.tables import out, table
from tests.support.company import as_of_tests
from tests.support.settings import settings_for
from tests.support.users import make_user, token_of

USERS = 6
SAY_SECONDS = 10.0
_RESCUED = re.compile(r"job \d+ of worker \d+ \((gone|silent|lost)\): ([a-z ]+)")

DATA = """
insert into locations (code, name, location_type) values ('MAIN', 'Main', 'WAREHOUSE');
insert into items (sku, name, unit) select 'SOAK-' || n, 'Posted to all the time', 'PCS' from generate_series(0, 4) n;
insert into items (sku, name, unit, description)
  select 'SKU-' || n, 'Item, "' || n || '"', 'PCS', repeat('long, and "quoted" ', 10) from generate_series(1, 3000) n;
insert into stock_transactions (id) values ('00000000-0000-7000-8000-000000000001');
insert into stock_ledger (transaction_id, line, item_id, location_id, entry_type, quantity, value, unit_cost,
    on_hand_after, item_on_hand_after, value_after, occurred_at, notes)
  select '00000000-0000-7000-8000-000000000001', n, i.id, 1, 'IN', 1, 2, 2, n, n, 2 * n, now(), 'no ' || n
  from generate_series(1, 40) n, items i where i.sku like 'SKU-%' order by n, i.id;
insert into stock_balances (item_id, location_id, on_hand) select id, 1, 40 from items where sku like 'SKU-%';
insert into stock_values (item_id, on_hand, value, last_cost)
  select id, 40, 80, 2 from items where sku like 'SKU-%';
analyze;
"""


async def prepared(cluster: Cluster, directory: Path) -> Settings:
    """A migrated database with 3,000 items and 120,000 movements, and short timeouts."""
    await asyncio.to_thread(cluster.create_database, "soak")
    settings = replace(
        settings_for(cluster, "soak", directory),
        access_token_seconds=86_400,
        worker_concurrency=3,
        drain_seconds=0.5,
        grace_seconds=2,
    )
    await schema.migrate(settings.migration_database_url or "")
    await as_of_tests(settings.migration_database_url or "")
    db = await asyncpg.connect(settings.migration_database_url or "")
    try:
        await db.execute(DATA)
    finally:
        await db.close()
    return settings


async def clients_of(fleet: Fleet, seed: int, ledger: Ledger) -> list[Client]:
    database = Database(fleet.settings, name="erp soak")
    try:
        ids = [await make_user(database, Role.STAFF) for _ in range(USERS)]
    finally:
        await database.close()
    urls = [seat.url for seat in fleet.of("serve")]
    return [Client(token_of(fleet.settings, id_), urls, Random(f"{seed}:{id_}"), ledger) for id_ in ids]


async def soak(cluster: Cluster, directory: Path, minutes: float, seed: int) -> list[str]:
    settings = await prepared(cluster, directory)
    fleet = Fleet(cluster, settings, directory, instances=2, workers=3)
    ledger, figures = Ledger(), verdict.Figures()
    clients = await clients_of(fleet, seed, ledger)
    faults: list[str] = []
    async with contextlib.AsyncExitStack() as stack:
        for client in clients:
            await stack.enter_async_context(client.http)
        await stack.enter_async_context(fleet.running())
        if not await fleet.all_up(seconds=60):
            return ["the fleet did not start", *fleet.faults]
        until = monotonic() + 60 * minutes
        saying = asyncio.create_task(say(fleet, ledger, until))
        async with asyncio.TaskGroup() as group:
            group.create_task(fleets.trouble(fleet, Random(seed), until))
            for client in clients:
                group.create_task(traffic(client, until))
        saying.cancel()
        out.print("quiet now")
        if not (faults := await verdict.settle(fleet, figures)):
            faults = await verdict.judge(fleet, ledger, figures)
        faults += await verdict.stopped_in_order(fleet)
    report(fleet, ledger, figures, directory)
    return faults + fleet.faults + ledger.faults


async def say(fleet: Fleet, ledger: Ledger, until: float) -> None:
    said = 0
    while True:
        await asyncio.sleep(SAY_SECONDS)
        done = f"{len(ledger.jobs)} exports, {ledger.counts['postings']} postings, {fleet.done.total()} disturbances"
        out.print(f"{until - monotonic():5.0f} s to go: {done}")
        wrong = fleet.faults + ledger.faults
        if len(wrong) > said:
            out.print(*wrong, sep="\n  ")
            said = len(wrong)


def report(fleet: Fleet, ledger: Ledger, figures: verdict.Figures, logs: Path) -> None:
    rescued: Counter[str] = Counter()
    for seat in fleet.of("worker"):
        rescued.update(f"{why}: {ending}".strip() for why, ending in _RESCUED.findall(seat.log.read_text()))
    table("what clients did", ledger.counts)
    table("what was done to it", fleet.done)
    table("exit statuses", {f"{seat.name}: {code}": n for seat in fleet.seats for code, n in seat.codes.items()})
    table("rescues", rescued)
    table("exports by state", figures.states)
    table("exports by attempts", {str(n): many for n, many in sorted(figures.attempts.items())})
    table(
        "seconds from submission to the end",
        {
            "median": round(figures.median, 2),
            **{
                f"{row['status']} at attempt {row['attempt']}, {row['id']}": round(row["seconds"], 2)
                for row in figures.slowest
            },
            "from the last fault until all had ended": round(figures.final_after_quiet, 2),
        },
    )
    table("files that the sweep removed", {"orphans": figures.swept})


def main() -> int:
    minutes = float(os.environ.get("MINUTES") or 2)
    seed = int(os.environ.get("SEED") or Random().randrange(10**6))
    out.print(f"soak: {minutes:g} minutes, SEED={seed}")
    directory = Path(tempfile.mkdtemp(prefix="erp-soak-"))
    with postgres.running(directory / "postgres", fsync=False, max_connections=200) as cluster:
        faults = asyncio.run(soak(cluster, directory, minutes, seed))
    if faults:
        out.print(f"FAILED with SEED={seed}; logs in {directory}", *faults, sep="\n  ")
        return 1
    if not os.environ.get("KEEP"):
        shutil.rmtree(directory)
    out.print(f"All holds. SEED={seed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
