"""What operators see of the servers of the database: on a real standby, and as a role that may not see everything."""

import asyncio
import contextlib
import math
import os
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from erp_service.db.connections import connect_for_sessions
from erp_service.db.sessions import Row, Session
from erp_service.operations.standbys import BACKUP_SLOT, FIGURES, ClusterNow, Standby, cluster_now, synchronous_names
from erp_service.standalone.postgres import Cluster
from tests.operations.scrapes import scraped
from tests.support.databases import as_owner, value_of
from tests.support.replication import replica_of
from tests.support.waiting import eventually

NAME, SLOT = "db-2", "db_2"


@pytest.fixture(scope="module")
async def standby(cluster: Cluster) -> AsyncIterator[Cluster]:
    """With a slot and a name, as Patroni sets it up."""
    await as_owner(cluster, f"select pg_create_physical_replication_slot('{SLOT}')")
    with tempfile.TemporaryDirectory(prefix="erp-standby-") as directory:
        async with replica_of(cluster, Path(directory)) as standby:
            await as_owner(
                standby,
                f"alter system set primary_slot_name = '{SLOT}'",
                f"alter system set primary_conninfo = 'host={cluster.socket_dir} port=5432 user=postgres"
                f" application_name={NAME}'",
                "select pg_reload_conf()",
            )
            yield standby
    await as_owner(cluster, f"select pg_drop_replication_slot('{SLOT}')")


@pytest.fixture(params=["erp_api", "postgres"])
async def db(request: pytest.FixtureRequest, cluster: Cluster, database_name: str) -> AsyncIterator[Session]:
    """Of a role that sees names alone in pg_stat_replication, and of one that sees everything."""
    url = cluster.owner_url(database_name)
    if request.param != "postgres":
        url = cluster.role_url(request.param, database_name)
    connection = await connect_for_sessions(url, record_class=Row)
    yield Session(connection)
    await connection.close()


@contextlib.asynccontextmanager
async def synchronous(cluster: Cluster, names: str) -> AsyncIterator[None]:
    """While inside, commits wait for the standbys of these names."""
    reload = "select pg_reload_conf()"
    await as_owner(cluster, f"alter system set synchronous_standby_names = '{names}'", reload)
    try:
        yield
    finally:
        await as_owner(cluster, "alter system reset synchronous_standby_names", reload)


@pytest.mark.parametrize(
    ("setting", "names"),
    [
        ("", set()),
        ("*", {"*"}),
        ('"db-2"', {"db-2"}),
        ("db2, DB3", {"db2", "db3"}),
        ('ANY 1 (db2,"db-3")', {"db2", "db-3"}),
        ("FIRST 2 (db1, db2)", {"db1", "db2"}),
        ("2 (*)", {"*"}),
    ],
)
def test_names_of_synchronous_standbys_are_read_as_postgres_reads_them(setting: str, names: set[str]) -> None:
    assert synchronous_names(setting) == names


async def test_standby_is_shown_to_every_role_with_its_lag(db: Session, cluster: Cluster, standby: Cluster) -> None:
    async def shown(*standbys: Standby) -> bool:
        return (await cluster_now(db)).standbys == list(standbys)

    await eventually(lambda: shown(Standby(NAME, synchronous=False, lag_bytes=0)))
    async with synchronous(cluster, f'ANY 1 ("{NAME.upper()}", db3)'):
        await eventually(lambda: shown(Standby(NAME, synchronous=True, lag_bytes=0)))
    async with synchronous(cluster, "db3"):
        await eventually(lambda: shown(Standby(NAME, synchronous=False, lag_bytes=0)))
    receiver = await value_of(standby, "select pid from pg_stat_wal_receiver")
    assert isinstance(receiver, int)
    os.kill(receiver, signal.SIGSTOP)
    try:
        await as_owner(cluster, "select pg_logical_emit_message(false, 'erp', repeat('x', 100000))", "checkpoint")
        (behind,) = (await cluster_now(db)).standbys
        assert behind.lag_bytes is not None
        assert behind.lag_bytes > 100_000
    finally:
        os.kill(receiver, signal.SIGCONT)
    await eventually(lambda: shown(Standby(NAME, synchronous=False, lag_bytes=0)))


def names_of(cluster: ClusterNow) -> list[str]:
    return [standby.name for standby in cluster.standbys]


async def test_slot_of_backups_is_watched_where_there_is_one(db: Session, cluster: Cluster, tmp_path: Path) -> None:
    assert (await cluster_now(db)).backup_slot_in_use is None
    (reader,) = FIGURES
    assert math.isnan((await reader.read(db))["erp_backup_slot_in_use"])
    await as_owner(cluster, f"select pg_create_physical_replication_slot('{BACKUP_SLOT}', true)")
    try:
        before = await cluster_now(db)
        assert before.backup_slot_in_use is False
        receiver = await asyncio.create_subprocess_exec(
            *(cluster.bin / "pg_receivewal", "-D", tmp_path, "--slot", BACKUP_SLOT),
            env={"PGHOST": str(cluster.socket_dir), "PGPORT": "5432", "PGUSER": "postgres"},
        )

        async def in_use() -> bool:
            return (await reader.read(db))["erp_backup_slot_in_use"] == 1

        try:
            await eventually(in_use)
            assert names_of(await cluster_now(db)) == names_of(before), "it is no standby"
        finally:
            receiver.kill()
            await receiver.wait()
    finally:
        await as_owner(
            cluster,
            "select pg_terminate_backend(active_pid, 10000) from pg_replication_slots"
            f" where slot_name = '{BACKUP_SLOT}' and active",
            f"select pg_drop_replication_slot('{BACKUP_SLOT}')",
        )


async def test_operators_see_the_leader_and_what_would_take_over(
    admin: httpx.AsyncClient, client: httpx.AsyncClient, cluster: Cluster, standby: Cluster
) -> None:
    timeline = await value_of(cluster, "select timeline_id from pg_control_checkpoint()")
    leader = f"{cluster.socket_dir}:5432"

    async def shown() -> bool:
        database = (await admin.get("/health/scaling")).json()["database"]
        standbys = [{"name": NAME, "synchronous": True, "lag_bytes": 0}]
        return bool(database == {"leader": leader, "timeline": timeline, "standbys": standbys})

    async def scraped_too() -> bool:
        found = await scraped(client)
        return (found["erp_standbys"], found["erp_standbys_synchronous"], found["erp_standby_lag_bytes"]) == (1, 1, 0)

    async with synchronous(cluster, f'"{NAME}"'):
        await eventually(shown)
        await eventually(scraped_too)
