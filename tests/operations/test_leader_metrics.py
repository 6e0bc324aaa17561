"""What a process tells of the server that leads: as it finds it, changes it, or misses it."""

import tempfile
from pathlib import Path

import asyncpg
import pytest

from erp_service.db.connections import connect
from erp_service.db.engine import Database
from erp_service.db.servers import leaders
from erp_service.db.servers.addresses import parse
from erp_service.db.servers.leaders import TRIED_SECONDS, Leaders
from erp_service.observability.telemetry import REGISTRY
from erp_service.standalone.postgres import Cluster
from tests.acceptance.instances import free_port
from tests.support.clusters import in_memory, temporary_cluster
from tests.support.databases import value_of
from tests.support.replication import replica_of


def told(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_new_leader_is_told_and_what_was_left_for_it() -> None:
    # a cluster of its own: this process never uses a server again that leads on an older timeline
    with (
        temporary_cluster("leader", parent=in_memory()) as old,
        tempfile.TemporaryDirectory(prefix="erp-next-leader-") as directory,
    ):
        async with replica_of(old, Path(directory)) as new:
            one, two = (parse(server.owner_url("postgres")) for server in (old, new))
            both = one.url(*one.hosts, *two.hosts)
            first, second = (str(address.hosts[0]) for address in (one, two))
            connection = await connect(both, name="test")
            timeline, changes = told("erp_leader_timeline"), told("erp_leader_changes_total")
            left = told("erp_connections_left_total", reason="older")
            refused = told("erp_older_leaders_refused_total")
            assert (told("erp_leader", host=first), told("erp_leader", host=second)) == (1, 0)

            assert await value_of(new, "select pg_promote()")
            await (await connect(two.url(*two.hosts), name="test")).close()
            assert told("erp_leader_timeline") == timeline + 1
            assert told("erp_leader_changes_total") == changes + 1
            assert told("erp_connections_left_total", reason="older") == left + 1
            assert connection.is_closed()

            # the old one still leads, as one that comes back with writes of its own
            await (await connect(both, name="test")).close()
            assert told("erp_older_leaders_refused_total") == refused + 1
            assert (told("erp_leader", host=first), told("erp_leader", host=second)) == (0, 1)


async def test_leader_is_missed_until_one_is_found(cluster: Cluster) -> None:
    with pytest.raises(ConnectionError):
        await connect(f"postgresql://erp@127.0.0.1:{free_port()}/erp", name="test")
    assert told("erp_leader_missing_seconds") > 0
    await (await connect(cluster.owner_url("postgres"), name="test")).close()
    assert told("erp_leader_missing_seconds") == 0


def test_leader_is_not_missed_for_ever_if_none_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    now, found = 1000.0, Leaders()
    monkeypatch.setattr(leaders, "monotonic", lambda: now)
    found.note_missing()
    now += TRIED_SECONDS / 2
    found.note_missing()
    now += TRIED_SECONDS / 2 + 1
    assert found.missing_seconds() == TRIED_SECONDS + 1
    now += TRIED_SECONDS
    assert found.missing_seconds() == 0


async def test_connections_to_a_demoted_server_are_counted(database: Database) -> None:
    async def write() -> None:
        async with database.write() as db:
            await db.run("set transaction read only")
            await db.run("create table written (n int)")

    before = told("erp_connections_left_total", reason="demoted")
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await write()
    assert told("erp_connections_left_total", reason="demoted") == before + 1
