"""A real streaming replica: every user sees their own writes, whatever happens to the replica."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from time import monotonic
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest
from litestar import Litestar
from sqlalchemy import text

from erp_service.db.engine import Database
from erp_service.db.replicas import replica as replicas
from erp_service.db.replicas import state as replica_state
from erp_service.db.replicas.leader_watch import Known
from erp_service.db.sessions import ReadSession
from erp_service.observability import telemetry
from erp_service.settings import Settings
from erp_service.standalone.postgres import Cluster
from tests.chaos import proxy as proxies
from tests.chaos.proxy import Proxy
from tests.exports.jobs import done, reaches, submitted
from tests.support.apps import services_of
from tests.support.databases import as_owner, value_of
from tests.support.replication import Lanes, replica_of, slowed
from tests.support.settings import settings_for
from tests.support.waiting import eventually
from tests.support.workers import Work

SUMMARY = "/api/v1/inventory/reports/summary"
SLOWEST = 20.0
"""Seconds that a read may take while the replica breaks under it. What hangs is found out after one; the fault would be
a read that waits for the replica as long as it sleeps there, for minutes."""


@pytest.fixture(scope="module")
async def replica(cluster: Cluster) -> AsyncIterator[Cluster]:
    # there is no slot, so the WAL that a stopped replica misses must be kept
    await as_owner(cluster, "alter system set wal_keep_size = '1GB'", "select pg_reload_conf()")
    with tempfile.TemporaryDirectory(prefix="erp-replica-") as directory:
        async with replica_of(cluster, Path(directory)) as replica:
            yield replica
    await as_owner(cluster, "alter system reset wal_keep_size", "select pg_reload_conf()")


@pytest.fixture
async def proxy(replica: Cluster) -> AsyncIterator[Proxy]:
    async with proxies.running(replica.socket_dir) as proxy:
        yield proxy


@pytest.fixture
def settings(cluster: Cluster, database_name: str, tmp_path: Path, replica: Cluster, proxy: Proxy) -> Settings:
    there = proxy.url(replica.role_url("erp_reader", database_name))
    return msgspec.structs.replace(settings_for(cluster, database_name, tmp_path), replica_url=there)


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    database = Database(settings, name="erp test")
    await in_use(database)
    yield database
    await database.close()


async def in_use(database: Database) -> None:
    async def used() -> bool:
        return now(database).in_use

    await eventually(used)


async def left(database: Database, why: str) -> None:
    async def gone() -> bool:
        return bool(now(database).fault == why)

    await eventually(gone)


def now(database: Database) -> replicas.ReplicaNow:
    found = database.replica()
    assert found is not None
    return found


async def is_replica(db: ReadSession) -> bool:
    return bool(await db.scalar(text("select pg_is_in_recovery()")))


def sleeping(runs: list[bool]) -> Callable[[ReadSession], Awaitable[bool]]:
    """A read that takes long on the replica only; `runs` gets whether each run was there."""

    async def read(db: ReadSession) -> bool:
        runs.append(await is_replica(db))
        if runs[-1]:
            await db.execute(text("select count(*), pg_sleep(600) from items"))
        return runs[-1]

    return read


@contextlib.asynccontextmanager
async def reading(database: Database, runs: list[bool]) -> AsyncIterator[asyncio.Task[bool]]:
    """While inside, somebody is in the middle of a statement on the replica, with a snapshot of it."""
    task = asyncio.create_task(database.reading(sleeping(runs)))
    asleep = text("select count(*) from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()")

    async def reads() -> bool:
        async with database.on_replica() as db:
            return bool(await db.scalar(asleep))

    await eventually(reads)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# Reading one's own writes


async def test_whoever_writes_reads_it_in_a_report_at_once_while_the_replica_is_slow(
    app: Litestar, admin: httpx.AsyncClient, staff: httpx.AsyncClient, replica: Cluster
) -> None:
    """Four lanes that each receive one piece and read the report, again and again. Ten thousand times: tests/chaos."""
    await in_use(services_of(app).database)
    before = answered()
    lanes = await Lanes.of(4, admin, staff)
    async with slowed(replica):
        await lanes.run(30)
    on_replica, on_primary = (after - earlier for after, earlier in zip(answered(), before, strict=True))
    assert on_replica + on_primary == 120
    assert on_replica > 0
    assert on_primary > 0, "it was never slow"


def answered() -> tuple[int, int]:
    values = [telemetry.repeatable_reads.labels(server)._value.get() for server in ("replica", "primary")]
    return int(values[0]), int(values[1])


async def test_a_commit_that_waited_for_no_flush_is_read_too(
    cluster: Cluster, database_name: str, settings: Settings
) -> None:
    """Such a commit is acknowledged before it is flushed, so the flushed position may lie before it."""
    await as_owner(
        cluster,
        f'alter role erp_app in database "{database_name}" set synchronous_commit = off',
        # soon enough that a reader waits for it
        "alter system set wal_writer_delay = '30ms'",
        "select pg_reload_conf()",
    )
    database = Database(settings, name="erp test")
    try:
        on_replica = 0
        for n in range(12):
            await in_use(database)
            async with database.write() as db:
                await db.execute(_ITEM, {"sku": f"S{n}"})

            async def seen(db: ReadSession) -> tuple[bool, int]:
                row = (await db.execute(text("select pg_is_in_recovery(), (select count(*) from items)"))).one()
                return row[0], row[1]

            there, count = await database.reading(seen)
            on_replica += there
            assert count == n + 1
        assert on_replica
    finally:
        await database.close()
        await as_owner(cluster, "alter system reset wal_writer_delay", "select pg_reload_conf()")


_ITEM = text("insert into items (sku, name, unit) values (:sku, 'N', 'pcs')")


# Not used, and used again


async def waits_in_vain() -> Known:
    """In place of the first thing that a reader of the replica does."""
    raise AssertionError("a reader came to a replica that is known to be behind")


async def test_a_replica_that_lags_is_left_after_a_quarter_second_and_taken_back(
    app: Litestar,
    admin: httpx.AsyncClient,
    staff: httpx.AsyncClient,
    replica: Cluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database: Database = services_of(app).database
    await in_use(database)
    lanes = await Lanes.of(1, admin, staff)
    await value_of(replica, "select pg_wal_replay_pause()")
    try:
        began = monotonic()
        await lanes.run(1)
        assert monotonic() - began >= replicas.WAIT
        # nobody else waits in vain
        with monkeypatch.context() as patch:
            patch.setattr(database._leader, "now", waits_in_vain)
            for _ in range(20):
                assert not await database.reading(is_replica)
        seen = (await admin.get("/health/scaling")).json()["replica"]
        assert (seen["in_use"], seen["fault"]) == (False, replica_state.BEHIND)

        async def lag() -> Any:
            seen = (await admin.get("/health/scaling")).json()["replica"]
            return seen if (seen["lag_seconds"] or 0) > 0.5 else None

        assert (await eventually(lag))["lag_bytes"] > 0
        metrics = (await admin.get("/metrics")).text
        assert 'erp_replica_in_use{host="local"}' in metrics
        assert 'erp_replica_lag_bytes{host="local"} 0.0' not in metrics
    finally:
        await value_of(replica, "select pg_wal_replay_resume()")
    await in_use(database)

    async def caught_up() -> bool:
        seen = (await admin.get("/health/scaling")).json()["replica"]
        return bool(seen == {"host": "local", "in_use": True, "fault": None, "lag_bytes": 0, "lag_seconds": 0.0})

    await eventually(caught_up)
    assert await database.reading(is_replica)


async def test_a_replica_that_is_killed_in_the_middle_of_traffic_costs_nobody_an_error(
    app: Litestar, admin: httpx.AsyncClient, staff: httpx.AsyncClient, replica: Cluster
) -> None:
    await in_use(services_of(app).database)
    lanes = await Lanes.of(4, admin, staff)
    async with lanes.going_on():
        await eventually(lambda: lanes.reports(8))
        await asyncio.to_thread(replica.stop, "immediate")
        try:
            await left(services_of(app).database, replica_state.AWAY)
            assert (await admin.get("/health/ready")).status_code == 200
            assert (await admin.get("/health/scaling")).json()["replica"]["lag_bytes"] is None
        finally:
            await asyncio.to_thread(replica.start)
        await in_use(services_of(app).database)
    assert lanes.slowest < SLOWEST


async def test_a_read_that_is_on_the_replica_when_it_dies_is_answered_by_the_primary(
    database: Database, replica: Cluster
) -> None:
    runs: list[bool] = []
    async with reading(database, runs) as task:
        await asyncio.to_thread(replica.stop, "immediate")
        try:
            assert not await asyncio.wait_for(task, SLOWEST)
        finally:
            await asyncio.to_thread(replica.start)
    assert runs == [True, False]
    await in_use(database)


@pytest.mark.parametrize("new", [True, False], ids=["for good", "for whom it has"])
async def test_a_replica_that_hangs_is_found_out_and_its_reads_are_answered_by_the_primary(
    database: Database, proxy: Proxy, new: bool
) -> None:
    runs: list[bool] = []
    async with reading(database, runs) as task:
        proxy.hang(new=new)
        if new:
            assert not await asyncio.wait_for(task, SLOWEST)
            assert now(database).fault == replica_state.AWAY
            assert not await asyncio.wait_for(database.reading(is_replica), SLOWEST)
        else:
            # new connections work, and those that hang are thrown away
            assert await eventually(lambda: database.reading(is_replica), seconds=SLOWEST)
        proxy.heal()
    await in_use(database)
    assert await eventually(lambda: database.reading(is_replica))


async def test_a_read_that_conflicts_with_the_replay_is_answered_by_the_primary(
    database: Database, owner: asyncpg.Connection
) -> None:
    await owner.execute("insert into items (sku, name, unit) select 'S' || n, 'N', 'pcs' from generate_series(1, 50) n")
    runs: list[bool] = []
    async with reading(database, runs) as task:
        await owner.execute("delete from items where sku <> 'S1'")
        await owner.execute("vacuum items")
        assert not await asyncio.wait_for(task, SLOWEST)
    assert runs == [True, False]
    assert now(database).in_use, "a conflict says nothing against the replica"


async def test_a_read_that_takes_too_long_is_not_repeated(settings: Settings) -> None:
    database = Database(msgspec.structs.replace(settings, statement_seconds=0.5), name="erp test")
    try:
        await in_use(database)
        runs: list[bool] = []
        with pytest.raises(asyncpg.QueryCanceledError, match="statement timeout"):
            await database.reading(sleeping(runs))
        assert runs == [True]
    finally:
        await database.close()


async def test_who_finds_all_places_taken_reads_the_primary(settings: Settings) -> None:
    database = Database(msgspec.structs.replace(settings, pool_size=1), name="erp test")
    try:
        await in_use(database)
        runs: list[bool] = []
        async with reading(database, runs) as task:
            assert not await database.reading(is_replica)
            assert now(database).in_use
            assert not task.done()
        assert await eventually(lambda: database.reading(is_replica))
    finally:
        await database.close()


async def test_a_replica_does_not_say_who_may_read_while_a_primary_can_be_reached(database: Database) -> None:
    """Else whoever fills the pool of the primary could bring it about."""
    with pytest.raises(ConnectionError, match="a primary can be reached"):
        async with database.authority_without_leader():
            raise AssertionError("it did")


async def test_what_a_read_refuses_is_its_answer(app: Litestar, viewer: httpx.AsyncClient) -> None:
    await in_use(services_of(app).database)
    before = answered()
    answer = await viewer.get("/api/v1/inventory/reports/snapshot", params={"cursor": "x"})
    assert answer.status_code == 422
    assert answered() == before


# Not the right server


@pytest.mark.usefixtures("own_leaders")
async def test_a_promoted_replica_is_left_and_so_is_one_that_did_not_follow_the_new_primary(
    cluster: Cluster, replica: Cluster, database_name: str, settings: Settings, owner: asyncpg.Connection
) -> None:
    with tempfile.TemporaryDirectory(prefix="erp-replica-") as directory:
        async with replica_of(cluster, Path(directory)) as second:
            database = Database(
                msgspec.structs.replace(settings, replica_url=second.role_url("erp_reader", database_name))
            )
            try:
                await in_use(database)
                await value_of(second, "select pg_promote()")
                assert not await value_of(second, "select pg_is_in_recovery()")
                await value_of(
                    second, "insert into items (sku, name, unit) values ('PHANTOM', 'N', 'pcs')", database_name
                )

                async def count(db: ReadSession) -> int:
                    return int(await db.scalar(text("select count(*) from items")) or 0)

                assert await database.reading(count) == 0
                assert now(database).fault == replica_state.PROMOTED
            finally:
                await database.close()
            followed = msgspec.structs.replace(settings, database_url=second.role_url("erp_reader", database_name))
            database = Database(followed)
            try:
                await left(database, replica_state.FORKED)
                assert await database.reading(count) == 1
            finally:
                await database.close()


async def test_a_replica_of_another_database_is_never_read(settings: Settings, replica: Cluster) -> None:
    database = Database(msgspec.structs.replace(settings, replica_url=replica.role_url("erp_reader", "postgres")))
    try:
        await left(database, replica_state.ANOTHER)
        assert not await database.reading(is_replica)
    finally:
        await database.close()


async def test_a_replica_that_never_answered_costs_nobody_anything(settings: Settings, tmp_path: Path) -> None:
    database = Database(msgspec.structs.replace(settings, replica_url=f"postgresql://erp@/x?host={tmp_path}"))
    try:
        assert not await database.reading(is_replica)
        await left(database, replica_state.AWAY)
        assert not await database.reading(is_replica)
    finally:
        await database.close()


# Exports


async def test_an_export_gets_a_connection_to_the_replica_as_of_an_instant_of_the_primary(
    database: Database, replica: Cluster, owner: asyncpg.Connection
) -> None:
    await owner.execute("insert into items (sku, name, unit) values ('BOLT', 'N', 'pcs')")
    after = await owner.fetchval("select clock_timestamp()")
    found = await database.connect_to_replica(name="erp export")
    assert found is not None
    try:
        assert found.at > after
        assert await found.connection.fetchval("select pg_is_in_recovery() and exists (select from items)")
        pid = found.connection.get_server_pid()
        async with database.on_replica() as db:
            assert await db.scalar(text("select count(*) from pg_stat_activity where pid = :pid"), {"pid": pid}) == 1
    finally:
        await found.connection.close()
    await value_of(replica, "select pg_wal_replay_pause()")
    try:
        await owner.execute("insert into items (sku, name, unit) values ('NUT', 'N', 'pcs')")
        assert await database.connect_to_replica(name="erp export") is None
    finally:
        await value_of(replica, "select pg_wal_replay_resume()")


# On the replica alone, reading a unit takes ten minutes
HELD_ON_REPLICA = """
create function held(value text) returns text language plpgsql stable as $$
begin
  if pg_is_in_recovery() then perform pg_sleep(600); end if;
  return value;
end $$;
alter table items rename to items_table;
do $$ begin
  execute (select 'create view items as select '
    || string_agg(case attname when 'unit' then 'held(unit) as unit' else attname end, ', ' order by attnum)
    || ' from items_table' from pg_attribute
    where attrelid = 'items_table'::regclass and attnum > 0 and not attisdropped);
end $$;
grant select on items to public;
"""
COPYING = "select count(*) from pg_stat_activity where application_name = 'erp export' and query ilike 'copy%'"


async def test_an_export_that_dies_with_the_replica_is_made_from_the_primary(
    admin: httpx.AsyncClient, database: Database, replica: Cluster, owner: asyncpg.Connection, work: Work
) -> None:
    body = {"sku": "BOLT", "name": "Bolt", "unit": "pcs"}
    (await admin.post("/api/v1/inventory/items", json=body)).raise_for_status()
    await owner.execute(HELD_ON_REPLICA)
    # the worker's own has not looked at the replica yet, and would read the primary
    async with work(database=database):
        export_id = await submitted(admin)
        assert await eventually(lambda: value_of(replica, COPYING)) == 1
        assert await owner.fetchval(COPYING) == 0
        await asyncio.to_thread(replica.stop, "immediate")
        try:
            job = await reaches(admin, export_id, "succeeded", "failed", seconds=60)
        finally:
            await asyncio.to_thread(replica.start)
    assert (job["status"], job["attempt"], job["result"]["rows"]) == ("succeeded", 2, 1)
    await in_use(database)


async def test_an_export_from_the_replica_is_no_older_than_its_submission(
    admin: httpx.AsyncClient, replica: Cluster, database: Database, work: Work
) -> None:
    before = answered()
    async with work():
        for n in range(4):
            body = {"sku": f"S{n}", "name": "N", "unit": "pcs"}
            (await admin.post("/api/v1/inventory/items", json=body)).raise_for_status()
            job = await done(admin)
            assert job["result"]["rows"] == n + 1
            assert job["snapshot_at"] >= job["created_at"]
    assert answered()[0] > before[0]
