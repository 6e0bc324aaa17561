"""`make bank MINUTES=10 SEED=...`: everything that stock knows, posted at random over two instances that are killed
again and again, while all proofs are read from a snapshot ten times a second; afterwards each answer that a client got
must be in the ledger exactly once.

The seed replays the schedule of faults and of what clients do, not how the two meet."""

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from random import Random
from time import monotonic

from msgspec.structs import replace

from erp_service.access.roles import Role
from erp_service.db import migrate as schema
from erp_service.db.engine import Database
from erp_service.settings import Settings
from erp_service.standalone import postgres
from erp_service.standalone.postgres import Cluster
from tests.soak import verdict as soak_verdict
from tests.soak.bank import verdict
from tests.soak.bank.books import Books
from tests.soak.bank.checker import Rounds, check
from tests.soak.bank.clients import StockClient
from tests.soak.bank.traffic import make_catalogue, traffic
from tests.soak.bank.trouble import BankFleet, close_periods, trouble
from tests.soak.fleet import Fleet
from tests.soak.tables import out, table
from tests.support.company import as_of_tests
from tests.support.settings import settings_for
from tests.support.users import make_user, token_of

USERS = 8
SAY_SECONDS = 10.0


async def prepared(cluster: Cluster, directory: Path) -> Settings:
    """A migrated database, and short timeouts."""
    await asyncio.to_thread(cluster.create_database, "bank")
    settings = replace(
        settings_for(cluster, "bank", directory), access_token_seconds=86_400, drain_seconds=0.5, grace_seconds=2
    )
    await schema.migrate(settings.migration_database_url or "")
    await as_of_tests(settings.migration_database_url or "")
    return settings


async def clients_of(fleet: Fleet, seed: int, books: Books) -> list[StockClient]:
    database = Database(fleet.settings, name="erp bank")
    try:
        ids = [await make_user(database, Role.ADMIN) for _ in range(USERS)]
    finally:
        await database.close()
    urls = [seat.url for seat in fleet.of("serve")]
    return [StockClient(token_of(fleet.settings, id_), urls, Random(f"{seed}:{id_}"), books) for id_ in ids]


async def bank(cluster: Cluster, directory: Path, minutes: float, seed: int) -> list[str]:
    settings = await prepared(cluster, directory)
    fleet = BankFleet(cluster, settings, directory, instances=2, workers=1)
    books, rounds, closings = Books(), Rounds(), Counter[str]()
    clients = await clients_of(fleet, seed, books)
    faults: list[str] = []
    async with contextlib.AsyncExitStack() as stack:
        for client in clients:
            await stack.enter_async_context(client.http)
        await stack.enter_async_context(fleet.running())
        if not await fleet.all_up(seconds=60):
            return ["the fleet did not start", *fleet.faults]
        if refused := await make_catalogue(clients[0]):
            return ["the shop cannot be stocked", *refused]
        until = monotonic() + 60 * minutes
        beside = [asyncio.create_task(say(fleet, books, rounds, until)), asyncio.create_task(check(settings, rounds))]
        async with asyncio.TaskGroup() as group:
            group.create_task(trouble(fleet, Random(seed), until))
            group.create_task(close_periods(fleet, Random(f"{seed}:periods"), until, closings))
            for client in clients:
                group.create_task(traffic(client, until))
        for task in beside:
            task.cancel()
        await asyncio.wait(beside)
        out.print("quiet now")
        if not await fleet.all_up(seconds=60):
            faults.append("not every process came up again")
        else:
            faults += await verdict.judge(fleet, clients[0], books)
        faults += await soak_verdict.stopped_in_order(fleet)
        # a checker that failed has found nothing
        faults += [repr(task.exception()) for task in beside if not task.cancelled() and task.exception() is not None]
        faults += [] if rounds.done else ["the proofs were never read"]
    fleet.done.update(closings)
    report(fleet, books, rounds)
    return faults + fleet.faults + books.faults + rounds.faults


async def say(fleet: Fleet, books: Books, rounds: Rounds, until: float) -> None:
    said = 0
    while True:
        await asyncio.sleep(SAY_SECONDS)
        done = f"{len(books.documents)} documents, {rounds.done} rounds of proofs, {fleet.done.total()} disturbances"
        out.print(f"{until - monotonic():5.0f} s to go: {done}")
        wrong = fleet.faults + books.faults + rounds.faults
        if len(wrong) > said:
            out.print(*wrong[:20], sep="\n  ", markup=False)
            said = len(wrong)


def report(fleet: Fleet, books: Books, rounds: Rounds) -> None:
    table("what clients did", dict(sorted(books.counts.items())))
    table("what was done to it", fleet.done)
    table("exit statuses", {f"{seat.name}: {code}": n for seat in fleet.seats for code, n in seat.codes.items()})
    table(
        "what was acknowledged",
        {
            "documents": len(books.documents),
            "entries": sum(len(document.entries) for document in books.documents.values()),
            "reservations": len(books.reservations),
            "counts": len(books.stock_counts),
        },
    )
    table("the proofs, each round from one snapshot", rounds.figures)
    slowest = sorted(rounds.slowest_proofs.items(), key=lambda one: -one[1])[:5]
    table("the slowest proofs, ms", {name: round(1000 * seconds) for name, seconds in slowest})


def main() -> int:
    minutes = float(os.environ.get("MINUTES") or 2)
    seed = int(os.environ.get("SEED") or Random().randrange(10**6))
    out.print(f"bank: {minutes:g} minutes, SEED={seed}")
    directory = Path(tempfile.mkdtemp(prefix="erp-bank-"))
    with postgres.running(directory / "postgres", fsync=False, max_connections=200) as cluster:
        faults = asyncio.run(bank(cluster, directory, minutes, seed))
    if faults:
        out.print(f"FAILED with SEED={seed}; logs in {directory}", *faults[:40], sep="\n  ", markup=False)
        return 1
    if not os.environ.get("KEEP"):
        shutil.rmtree(directory)
    out.print(f"All holds. SEED={seed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
