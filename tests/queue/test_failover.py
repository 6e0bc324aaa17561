"""The primary is lost and a standby takes its place, with real worker processes on both."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import msgspec
import psycopg
import pytest
from procrastinate import exceptions

from erp_service.db import migrate as schema
from erp_service.db.connections import connect
from erp_service.db.engine import Database
from erp_service.db.servers.leaders import NotLeading
from erp_service.queue.connector import WorkerConnector
from erp_service.settings import Settings
from erp_service.standalone.postgres import Cluster
from tests.queue.shop import Shop, keeping_shop, lifelines, paused
from tests.support.clusters import frozen
from tests.support.databases import as_owner, connected, value_of
from tests.support.failover import Pair, pair_of
from tests.support.waiting import eventually


@pytest.fixture
async def pair(own_cluster: Cluster) -> AsyncIterator[Pair]:
    async with pair_of(own_cluster) as pair:
        yield pair


@pytest.fixture(scope="module")
async def migrated(own_cluster: Cluster) -> str:
    """A database to clone others from."""
    await asyncio.to_thread(own_cluster.create_database, "migrated")
    await schema.migrate(own_cluster.owner_url("migrated"))
    return "migrated"


@pytest.fixture
async def name(pair: Pair, migrated: str, tmp_path: Path) -> str:
    """A migrated database on both."""
    name = f"failover_{abs(hash(tmp_path))}"
    await as_owner(pair.primary, f'create database "{name}" template "{migrated}"')
    return name


@pytest.fixture
async def shop(pair: Pair, name: str, settings: Settings, tmp_path: Path) -> AsyncIterator[Shop]:
    urls = {"database_url": pair.url(name), "migration_database_url": pair.primary.owner_url(name)}
    settings = msgspec.structs.replace(settings, **urls)
    database = Database(settings, name="erp test")
    async with keeping_shop(settings, database, tmp_path) as shop:
        yield shop
    await database.close()


def move(shop: Shop, pair: Pair, name: str) -> None:
    """What the test reads from now on, it reads from the new primary."""
    shop.settings = msgspec.structs.replace(shop.settings, migration_database_url=pair.standby.owner_url(name))


async def test_worker_that_comes_back_late_after_a_failover_is_not_taken_for_dead(
    pair: Pair, name: str, shop: Shop, gate: Path
) -> None:
    """The standby never had its lock."""
    late = await shop.start(stalled=600)
    job = await shop.defer("until", gate=str(gate))
    await shop.traced(job, "started")
    await shop.start(stalled=600)
    await pair.caught_up()
    with paused(late):
        pair.kill()
        await pair.promote()
        move(shop, pair, name)
        # it could have taken the job over: its own grace after a reconnect is one second
        await eventually(
            lambda: shop.value(
                "select bool_or(backend_start < now() - interval '3 s') from pg_stat_activity"
                " where application_name = 'erp worker lifeline' and datname = current_database()"
            )
        )
    await lifelines(shop, 2)
    gate.touch()
    await shop.traced(job, "done")
    await eventually(lambda: shop.fetch("select where not exists (select from procrastinate_jobs)"))
    assert len(await shop.traces(job, "started")) == 1
    assert await shop.fetch("select from queue_deaths") == []


async def test_synchronous_standby_that_is_lost_makes_no_worker_look_dead(pair: Pair, shop: Shop, gate: Path) -> None:
    """Until it is replaced, no commit ends, and it may take longer than the stall threshold."""
    for _ in range(2):
        await shop.start(stalled=2)
    job = await shop.defer("until", gate=str(gate))
    await shop.traced(job, "started")
    beaten = "select bool_and(last_heartbeat > $1) from procrastinate_workers"
    try:
        await as_owner(pair.primary, "alter system set synchronous_standby_names = 'lost'", "select pg_reload_conf()")
        moment = await shop.value("select now() + interval '3 s'")
        await eventually(lambda: shop.value(beaten, moment))
    finally:
        await as_owner(pair.primary, "alter system reset synchronous_standby_names", "select pg_reload_conf()")
    gate.touch()
    await shop.traced(job, "done")
    assert len(await shop.traces(job, "started")) == 1
    assert await shop.fetch("select from queue_deaths") == []


async def test_job_that_a_failover_has_lost_is_stopped_and_does_not_end_the_next_with_its_number(
    pair: Pair, name: str, shop: Shop, gate: Path
) -> None:
    """Asynchronous replication: the new primary knows nothing of the job, and gives its number to another one."""
    worker = await shop.start()
    await pair.caught_up()
    await pair.part()
    lost = await shop.defer("until", gate=str(gate))
    await shop.traced(lost, "started")
    pair.kill()
    await pair.promote()
    move(shop, pair, name)
    assert await shop.status(lost) is None
    await shop.fetch("select setval('procrastinate_jobs_id_seq', $1, false)", lost)
    assert await shop.defer("until", gate=str(gate)) == lost
    await shop.traced(lost, "TAKEN_OVER")
    await shop.traced(lost, "started")
    assert await shop.status(lost) == "doing"
    gate.touch()
    await shop.traced(lost, "done")
    await eventually(lambda: shop.fetch("select where not exists (select from procrastinate_jobs)"))
    assert [len(await shop.traces(lost, what)) for what in ("started", "TAKEN_OVER", "done")] == [1, 1, 1]
    assert worker.poll() is None


async def test_old_primary_that_was_silent_and_still_leads_gets_no_job_and_no_worker(
    pair: Pair, name: str, shop: Shop, gate: Path
) -> None:
    workers = [await shop.start("--fetch-job-polling-interval=600") for _ in range(2)]
    job = await shop.defer("until", gate=str(gate))
    await shop.traced(job, "started")
    await pair.caught_up()
    with frozen(pair.primary):
        await pair.promote()
        move(shop, pair, name)
        await lifelines(shop, 2)
        await shop.traced(await shop.defer("quick"), "done", seconds=10)
    # two servers lead now
    assert await value_of(pair.primary, "select pg_is_in_recovery()", name) is False

    await eventually(lambda: on(pair.primary, name, "= 0"))
    # one that starts now finds the old one first in its address
    await shop.start()
    for _ in range(5):
        await shop.traced(await shop.defer("quick"), "done", seconds=10)
    assert await on(pair.primary, name, "= 0")
    gate.touch()
    await shop.traced(job, "done")
    assert len(await shop.traces(job, "started")) == 1
    assert await shop.fetch("select from queue_deaths") == []
    assert [worker.poll() for worker in workers] == [None, None]


@pytest.fixture
async def connector(pair: Pair, name: str) -> AsyncIterator[WorkerConnector]:
    connector = WorkerConnector(pair.url(name))
    await connector.open_async()
    yield connector
    await connector.close_async()


async def timeline(connector: WorkerConnector) -> object:
    row = await connector.execute_query_one_async("select left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) as t")
    return row["t"]


async def test_pool_and_listener_of_an_older_leader_are_left_as_soon_as_a_newer_one_is_met(
    pair: Pair, name: str, connector: WorkerConnector
) -> None:
    heard: list[str] = []

    async def hear(*, channel: str, payload: str) -> None:
        heard.append(payload)

    async def heard_again() -> bool:
        return len(heard) > 1

    listening = asyncio.create_task(connector.listen_notify(hear, ["any"]))
    try:
        await asyncio.gather(*(connector.execute_query_async("select pg_sleep(0.1)") for _ in range(4)))
        assert await timeline(connector) == "00000001"
        await eventually(lambda: on(pair.primary, name, "> 1"))
        await pair.promote()
        # the old one lives and leads, and nothing has been closed
        assert await timeline(connector) == "00000001"
        (await connect(pair.standby.app_url(name), name="met by chance")).terminate()
        await eventually(lambda: on(pair.primary, name, "= 0"), seconds=5)
        await eventually(partial(is_on, connector, "00000002"))
        await eventually(heard_again)
        assert await on(pair.primary, name, "= 0")
        with pytest.raises(NotLeading, match="another on timeline 2"):
            await connector._admit(await psycopg.AsyncConnection.connect(pair.primary.app_url(name)))
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def is_on(connector: WorkerConnector, expected: str) -> bool:
    try:
        return await timeline(connector) == expected
    except exceptions.ConnectorException:
        return False


async def on(cluster: Cluster, name: str, number: str) -> object:
    """Whether it has so many connections of workers."""
    count = "select count(*) {} from pg_stat_activity where application_name like '%work%' and datname = '{}'"
    return await value_of(cluster, count.format(number, name))


async def test_server_that_refuses_writes_is_left_by_the_whole_pool(
    connector: WorkerConnector, pair: Pair, name: str
) -> None:
    """One query finds it out, and not each connection by a query of its own."""
    await asyncio.gather(*(connector.execute_query_async("select pg_sleep(0.1)") for _ in range(4)))

    async def pids() -> list[int]:
        query = "select array_agg(pid) from pg_stat_activity where application_name = 'erp worker' and datname = $1"
        async with connected(pair.primary.owner_url("postgres")) as owner:
            return await owner.fetchval(query, name) or []

    before = await pids()
    assert before
    async with connector.pool.connection() as connection:
        await connection.execute("set default_transaction_read_only = on")
    with pytest.raises(exceptions.ConnectorException):
        await asyncio.gather(*(connector.execute_query_async("delete from procrastinate_jobs") for _ in range(4)))

    async def left() -> bool:
        return not {*before} & {*await pids()}

    await eventually(left)
    await connector.execute_query_async("delete from procrastinate_jobs")
