"""The primary is lost while workers and an instance use it, and its standby is promoted, as Patroni would."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg
import httpx
import msgspec
import pytest

from erp_service.operations.verify import verify
from erp_service.settings import Settings
from erp_service.standalone.postgres import Cluster
from tests.chaos.after import never_back
from tests.chaos.ground import Ground, since
from tests.chaos.record import Record
from tests.chaos.traffic import Traffic
from tests.events.webhooks.endpoints import make, seen
from tests.events.webhooks.receiving import Receiver, receiving
from tests.imports.jobs import ended, submitted
from tests.support.clusters import frozen
from tests.support.databases import value_of
from tests.support.failover import Pair, pair_of
from tests.support.waiting import eventually

PROMPT = 4.0  # seconds: less than the five between two polls, so it was a notification

LINES = 400
FILE = "code,name,location_type\n" + "".join(f"BIN-{number},Bin,BIN\n" for number in range(LINES))
# an import of them waits for the same lock as the exports of the ground
HOLDING = """
create function hold_row() returns trigger language plpgsql as $$
begin
  perform pg_advisory_xact_lock_shared(4711);
  return new;
end $$;
create trigger hold_row before insert on locations for each row execute function hold_row();
"""


@pytest.fixture
async def pair(cluster: Cluster) -> AsyncIterator[Pair]:
    async with pair_of(cluster) as pair:
        yield pair


@pytest.fixture
def settings(settings: Settings, pair: Pair, database_name: str) -> Settings:
    # time limits by which nothing that lives is taken for dead
    urls = {"database_url": pair.url(database_name), "webhook_networks": "127.0.0.1"}
    return msgspec.structs.replace(settings, heartbeat_seconds=2, stalled_seconds=15, **urls)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


async def connections(cluster: Cluster, database: str) -> int:
    """Those of the service."""
    query = "select count(*) from pg_stat_activity where usename like 'erp\\_%' and datname = '{}' and usename <> '{}'"
    # the test itself is erp_app
    number = await value_of(cluster, query.format(database, "erp_app"))
    assert isinstance(number, int)
    return number


class Events:
    """A webhook for the ends of exports, and what its endpoint got."""

    def __init__(self, ground: Ground, client: httpx.AsyncClient, receiver: Receiver) -> None:
        self._ground, self._client, self._receiver = ground, client, receiver

    async def begin(self) -> None:
        self._webhook = await make(self._client, self._receiver.url(), types=["export.succeeded"])

    async def proven(self) -> None:
        """Each event came, in order."""

        async def delivered() -> bool:
            return bool((await seen(self._client, self._webhook))["lag"] == 0)

        await eventually(delivered)
        rows = await self._ground.fetch(
            "select position from trail t join audit_log a on a.id = t.audit_id where action = 'export.succeeded'"
            " order by position"
        )
        positions = self._receiver.positions
        assert positions == sorted(positions)
        assert sorted({*positions}) == [row["position"] for row in rows]


async def schedule(ground: Ground, client: httpx.AsyncClient, seconds: float) -> str:
    """An export that is due so long from now."""
    body = {"cron": "0 0 1 1 *", "spec": {"dataset": "locations"}}
    answer = await client.post("/api/v1/exports/schedules", json=body)
    assert answer.status_code == 201, answer.text
    due = "update export_schedules set next_run_at = clock_timestamp() + make_interval(secs => $1)"
    await ground.fetch(due, seconds)
    return str(answer.json()["id"])


async def ran_once(ground: Ground, schedule_id: str) -> None:
    run = "select last_export_id from export_schedules where id = $1"
    await ground.ends(str(await eventually(lambda: ground.value(run, schedule_id))))
    runs = "select count(*) from audit_log where action = 'schedule.run' and entity_id = $1"
    assert await ground.value(runs, schedule_id) == 1
    assert await ground.value("select count(*) from export_jobs where dataset = 'locations'") == 1


async def test_primary_is_killed(
    ground: Ground, pair: Pair, owner: asyncpg.Connection, receiver: Receiver, record: Record
) -> None:
    """Exports and an import in the middle of their COPY, a waiting export, a schedule that is due meanwhile, events."""
    await owner.execute(HOLDING)
    client, *_ = await ground.fleet(1, 2)
    events = Events(ground, client, receiver)
    await events.begin()
    first = await ground.submit(client)
    await ground.proven(first)
    await ground.settled()
    await ground.hold()
    exports = [await ground.submit(client) for _ in range(3)]
    for export in exports[:2]:
        await ground.in_the_middle(export)
    loaded = await submitted(client, "locations", FILE)
    await eventually(lambda: ground.value("select count(*) > 2 from pg_locks where objid = 4711 and not granted"))
    traffic = Traffic(client)
    async with traffic.going_on():
        scheduled = await schedule(ground, client, 1.0)
        await pair.caught_up()
        pair.kill()
        killed = datetime.now(UTC)
        await pair.promote()
        ground.move(pair.standby)
        answered = await traffic.answered()
    effects = await ground.proven(*exports)
    for export in exports:
        await never_back(ground, export)
    starts = [await ground.starts(export) for export in exports]
    assert starts == [2, 2, 1]
    assert (await ended(client, loaded, seconds=60))["status"] == "succeeded"
    assert await ground.value("select count(*) from locations") == LINES
    assert await ground.value("select count(*) from audit_log where action = 'import.locations'") == 1
    await ran_once(ground, scheduled)
    await unharmed(ground, client)
    await events.proven()
    traffic.proven()
    record(seconds=since(killed, answered), starts="/".join(map(str, starts)), effects=effects)


async def unharmed(ground: Ground, client: httpx.AsyncClient) -> None:
    """Nobody was taken for dead, everybody listens again, the trail has no gap, and the books hold."""
    assert await ground.deaths() == 0
    assert {worker.process.returncode for worker in ground.workers} == {None}
    await ground.lifelines(len(ground.workers))
    await ground.listening(len(ground.workers))
    assert await ground.promptly(client) < PROMPT
    assert await ground.value("select max(position) = count(*) from trail")
    assert await verify(ground.settings) == []


async def test_primary_is_silent_and_comes_back_as_a_second_leader(
    ground: Ground, pair: Pair, database_name: str, record: Record
) -> None:
    """Nothing is closed, so each process must find out by itself; and none may use the old one when it answers again,
    although that does not know of the new one and comes first in the address."""
    client, *_ = await ground.fleet(1, 2)
    await ground.settled()
    await ground.hold()
    exports = [await ground.submit(client) for _ in range(2)]
    for export in exports:
        await ground.in_the_middle(export)
    await pair.caught_up()
    with frozen(pair.primary):
        await pair.promote()
        promoted = datetime.now(UTC)
        ground.move(pair.standby)
        again = max(*[await ground.began(export, 2) for export in exports])
        effects = await ground.proven(*exports)
    # of the instance too, and those that had sent something when it froze
    await eventually(lambda: nobody_on(pair.primary, database_name))
    newcomer, other = await asyncio.gather(ground.instance(), ground.worker())
    for each in (client, newcomer):
        later = await ground.submit(each)
        effects = await ground.proven(*exports, later)
    assert await nobody_on(pair.primary, database_name)
    assert await value_of(pair.primary, "select count(*) from export_jobs", database_name) == 2
    assert other.process.returncode is None
    await unharmed(ground, client)
    record(seconds=since(promoted, again), starts=2, effects=effects)


async def nobody_on(cluster: Cluster, database: str) -> bool:
    return await connections(cluster, database) == 0


async def test_standby_on_which_an_export_runs_is_promoted(
    ground: Ground, pair: Pair, owner: asyncpg.Connection, database_name: str, record: Record
) -> None:
    """The COPY itself could go on, but what is written of it cannot; so it ends, or goes on and is published."""
    # as the ground does it for workers
    await owner.execute(f'alter role erp_reader in database "{database_name}" set enable_sort = off')
    replica = pair.standby.role_url("erp_reader", database_name)
    client, *_ = await ground.fleet(1, 1, ERP_REPLICA_URL=replica)
    await ground.settled()
    await pair.caught_up()
    ground.move(pair.standby)
    hold = await ground.hold()
    # the first ones, before the worker has checked the standby, read the primary
    export = await eventually(lambda: held(ground, client))
    await ground.in_the_middle(export)
    traffic = Traffic(client)
    async with traffic.going_on():
        await pair.caught_up()
        pair.kill()
        killed = datetime.now(UTC)
        await pair.promote()
        answered = await traffic.answered()
    await hold.release()
    effects = await ground.proven(export)
    await never_back(ground, export)
    traffic.proven()
    await unharmed(ground, client)
    record(seconds=since(killed, answered), starts=await ground.starts(export), effects=effects)


async def held(ground: Ground, client: httpx.AsyncClient) -> str:
    """The id of a new export; empty if it has ended without having met the lock."""
    export = await ground.submit(client)

    async def status() -> str:
        if await ground.value("select count(*) from pg_locks where objid = 4711 and not granted"):
            return "held"
        return (
            "ended" if await ground.value("select status = 'succeeded' from export_jobs where id = $1", export) else ""
        )

    return export if await eventually(status) == "held" else ""
