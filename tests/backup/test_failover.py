"""Backups and the WAL while the primary is lost and its standby takes over."""

import asyncio
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from erp_service.db.engine import Database
from erp_service.standalone import postgres
from erp_service.standalone.postgres import Cluster
from ops.backups.programs import query, server_of
from tests.backup.commands import OPS, Result, archived_wal, environment
from tests.backup.company import founded, opened, receive, references
from tests.backup.pairs import DATABASE, SLOT, Pair, running_pair
from tests.support.databases import as_owner, connected, value_of
from tests.support.settings import settings_for
from tests.support.waiting import eventually

Command = Callable[..., Result]
Reader = Callable[[Path, str], Awaitable[list[str]]]


@pytest.fixture
async def pair(clusters: Path, tmp_path: Path) -> AsyncIterator[Pair]:
    directory = clusters / tmp_path.name
    async with running_pair(directory) as pair:
        yield pair
    shutil.rmtree(directory)


class Metrics(NamedTuple):
    """What `ops/backup wal` tells Prometheus."""

    path: Path

    def value(self, name: str) -> float:
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return {key: float(value) for key, _, value in (line.rpartition(" ") for line in lines)}.get(name, -1.0)

    @property
    def healthy(self) -> float:
        return self.value('erp_backup_last_run_ok{kind="wal"}')

    async def is_healthy(self, expected: bool) -> bool:
        return self.healthy == expected

    async def all_archived(self) -> None:
        """Returns when all that was committed until now can be restored."""
        now = time.time()

        async def recoverable() -> bool:
            return self.value("erp_backup_log_kept_until_timestamp_seconds") > now

        await eventually(recoverable, seconds=40)


@pytest.fixture
def metrics(tmp_path: Path) -> Metrics:
    return Metrics(tmp_path / "erp.prom")


async def clock_of(cluster: Cluster) -> str:
    return str(await value_of(cluster, "select clock_timestamp()::text"))


async def add_item(cluster: Cluster, sku: str) -> None:
    await as_owner(cluster, f"insert into items (sku, name, unit) values ('{sku}', 'Item', 'PCS')", database=DATABASE)


async def items(data_dir: Path, database: str) -> list[str]:
    """Those of a cluster that was restored, in order. It keeps its settings, and its standbys are not there."""
    with postgres.running(data_dir, synchronous_standby_names="") as cluster:
        async with connected(cluster.owner_url(database)) as db:
            return [row[0] for row in await db.fetch("select sku from items order by id")]


async def restored(
    restore: Command, backups: Path, clusters: Path, *arguments: object, found: Reader = references
) -> list[str]:
    """What is found in the restored cluster, which `erp verify` has proved: the references of all postings."""
    there = clusters / "restored"
    done = await asyncio.to_thread(restore, "base", backups, "--data-directory", there / "cluster", *arguments)
    assert done.status == 0, done.log
    assert done.result["verified"]
    names = await found(there, DATABASE)
    shutil.rmtree(there)
    return names


async def test_moments_before_and_after_a_failover_are_restored_from_a_base_backup_taken_before_it(
    pair: Pair, backup: Command, restore: Command, clusters: Path, metrics: Metrics, tmp_path: Path
) -> None:
    to, words = tmp_path / "backups", ["--database", pair.address]
    settings = settings_for(pair.primary, DATABASE, tmp_path)
    database = Database(settings, name="erp test")
    with archived_wal(pair.primary, DATABASE, to, *words, "--metrics", metrics.path):
        async with founded(settings, database, tmp_path / "one.log") as company, company.client() as client:
            await receive(client, reference="before the backup")
            taken = await asyncio.to_thread(backup, "base", "--to", to, *words)
            assert taken.status == 0, taken.log
            await receive(client, reference="before")
            before = await clock_of(pair.primary)
            await receive(client, reference="just before")
            await pair.caught_up()
        await database.close()
        # what Patroni does with a permanent slot
        await as_owner(pair.standby, SLOT)
        await pair.fail_over()
        settings = settings_for(pair.standby, DATABASE, tmp_path)
        async with opened(settings, company.user_id, tmp_path / "two.log") as moved, moved.client() as client:
            await receive(client, reference="after")
            after = await clock_of(pair.standby)
            await receive(client, reference="later")
        await metrics.all_archived()
        assert metrics.healthy == 1

    all_of_them = ["before the backup", "before", "just before", "after", "later"]
    assert await restored(restore, to, clusters, "--until", before) == all_of_them[:2]
    assert await restored(restore, to, clusters, "--until", after) == all_of_them[:4]
    assert await restored(restore, to, clusters) == all_of_them


async def test_what_only_the_lost_primary_had_is_not_restored_unless_its_timeline_is_asked_for(
    pair: Pair, backup: Command, restore: Command, clusters: Path, metrics: Metrics, tmp_path: Path
) -> None:
    to, words = tmp_path / "backups", ["--database", pair.address]
    again = partial(restored, restore, to, clusters, found=items)
    with archived_wal(pair.primary, DATABASE, to, *words, "--metrics", metrics.path):
        taken = await asyncio.to_thread(backup, "base", "--to", to, *words)
        assert taken.status == 0, taken.log
        await add_item(pair.primary, "on both")
        await pair.caught_up()
        await pair.part()
        await add_item(pair.primary, "on the lost one")
        # two segments beyond the point where the new timeline begins
        for _ in range(2):
            await as_owner(pair.primary, "select pg_switch_wal()", "create table t ()", "drop table t")
        await metrics.all_archived()
        elsewhere = tmp_path / "elsewhere"
        late = await asyncio.to_thread(backup, "base", "--to", elsewhere, *words)
        assert late.status == 0, late.log
        # without a slot, as a standby is that was promoted by hand
        await pair.fail_over()
        await add_item(pair.standby, "after")
        await metrics.all_archived()
        assert metrics.healthy == 1

        # it comes back, is met first, and still takes itself for the primary: its WAL is not archived
        await asyncio.to_thread(pair.primary.start)
        await eventually(lambda: metrics.is_healthy(False))
        await asyncio.to_thread(pair.primary.stop)
        await metrics.all_archived()

        # it holds WAL that the new timeline does not have: that is reported, and a restore takes the older one
        name = late.result["backup"]
        (elsewhere / name).rename(to / name)
        await eventually(lambda: metrics.is_healthy(False))

    assert await again() == ["on both", "after"]
    assert await again("--timeline", 1) == ["on both", "on the lost one"]
    refused = await asyncio.to_thread(restore, "base", to / name, "--data-directory", clusters / "refused" / "cluster")
    assert refused.status == 1
    assert "holds WAL that timeline 2 does not have" in refused.result["error"]


async def test_gap_after_a_failover_is_reported_until_there_is_a_new_base_backup(
    pair: Pair, backup: Command, restore: Command, clusters: Path, metrics: Metrics, tmp_path: Path
) -> None:
    to, words = tmp_path / "backups", ["--database", pair.address]
    wal = partial(archived_wal, pair.primary, DATABASE, to, *words, "--metrics", metrics.path)
    taken = await asyncio.to_thread(backup, "base", "--to", to, *words)
    assert taken.status == 0, taken.log
    with wal():
        await metrics.all_archived()
    await pair.caught_up()
    await pair.fail_over()
    # no slot and nobody who receives: the new primary removes WAL that we lack
    for _ in range(2):
        await as_owner(pair.standby, "create table t ()", "drop table t", "select pg_switch_wal()", "checkpoint")
    with wal():
        await eventually(lambda: metrics.is_healthy(False))
        await as_owner(pair.standby, "select pg_switch_wal()")
        refused = await asyncio.to_thread(restore, "base", to, "--data-directory", clusters / "gap" / "cluster")
        assert "the WAL archive has a gap at 00000002" in refused.result["error"]
        again = await asyncio.to_thread(backup, "base", "--to", to, *words)
        assert again.status == 0, again.log
        await eventually(lambda: metrics.is_healthy(True))
        await metrics.all_archived()
    assert await restored(restore, to, clusters) == []


async def test_slot_that_the_server_gave_up_is_made_anew_and_what_is_missing_is_reported(
    pair: Pair, backup: Command, metrics: Metrics, tmp_path: Path
) -> None:
    to, primary = tmp_path / "backups", pair.primary
    wal = partial(archived_wal, primary, DATABASE, to, "--metrics", metrics.path)
    assert (await asyncio.to_thread(backup, "base", "--to", to, "--database", pair.address)).status == 0
    with wal():
        await metrics.all_archived()
    await as_owner(primary, "alter system set max_slot_wal_keep_size = '16MB'", "select pg_reload_conf()")
    status = "select wal_status from pg_replication_slots"

    async def lost() -> bool:
        await as_owner(primary, "create table t ()", "drop table t", "select pg_switch_wal()", "checkpoint")
        return await value_of(primary, status) == "lost"

    await eventually(lost)
    with wal():
        await eventually(lambda: metrics.is_healthy(False))
        assert await value_of(primary, status) != "lost"
        assert (await asyncio.to_thread(backup, "base", "--to", to, "--database", pair.address)).status == 0
        await metrics.all_archived()
        assert metrics.healthy == 1


async def test_base_backup_that_a_failover_interrupts_leaves_nothing_and_is_taken_again_from_the_new_primary(
    pair: Pair, backup: Command, tmp_path: Path
) -> None:
    to, scratch = tmp_path / "backups", tmp_path / "scratch"
    scratch.mkdir()
    await as_owner(
        pair.primary, "create table large as select repeat(md5(n::text), 60) from generate_series(1, 100000) n"
    )
    await pair.caught_up()
    arguments = ["base", "--to", to, "--scratch", scratch, "--database", pair.address, "--pg-bin", pair.primary.bin]
    command = [sys.executable, str(OPS / "backup"), *map(str, arguments)]
    env = environment(pair.primary, DATABASE)
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as interrupted:
        streaming = "select phase from pg_stat_progress_basebackup where phase = 'streaming database files'"
        await eventually(lambda: value_of(pair.primary, streaming))
        await asyncio.to_thread(pair.primary.stop, "immediate")
        output, _ = await asyncio.to_thread(interrupted.communicate)
    assert interrupted.returncode == 1, output
    assert "pg_basebackup failed" in output
    assert all(str(cluster.socket_dir) in output for cluster in pair)
    assert [path.name for path in to.iterdir()] == [".lock"]
    assert list(scratch.iterdir()) == []

    # it begins while nobody leads
    waiting = asyncio.create_task(asyncio.to_thread(backup, *arguments[:-2], "--wait", 60))
    await pair.fail_over()
    again = await waiting
    assert (again.status, again.result.get("checked")) == (0, "content"), again.log


async def test_base_backup_and_dump_of_a_standby_are_taken_if_the_address_says_so(
    pair: Pair, backup: Command, restore: Command, clusters: Path, tmp_path: Path
) -> None:
    await add_item(pair.primary, "on both")
    await pair.caught_up()
    for kind in ("base", "dump"):
        words = [kind, "--to", tmp_path, "--database", f"{pair.address}&target_session_attrs=prefer-standby"]
        taken = await asyncio.to_thread(backup, *words)
        assert (taken.status, taken.result.get("checked")) == (0, "content"), taken.log
    assert await value_of(pair.standby, "select pg_is_in_recovery()")
    assert await restored(restore, tmp_path, clusters, found=items) == ["on both"]


async def test_backup_of_a_primary_that_waits_for_standbys_is_restored_without_them(
    pair: Pair, backup: Command, restore: Command, clusters: Path, tmp_path: Path
) -> None:
    await as_owner(pair.primary, "alter system set synchronous_standby_names = '*'", "select pg_reload_conf()")
    await add_item(pair.primary, "confirmed")
    taken = await asyncio.to_thread(backup, "base", "--to", tmp_path, "--database", pair.address)
    assert taken.status == 0, taken.log
    assert await restored(restore, tmp_path, clusters, found=items) == ["confirmed"]


async def test_silent_first_host_is_left_for_the_leader(pair: Pair) -> None:
    """It accepts connections and says nothing, as a host does whose Postgres hangs."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        address = f"postgresql://postgres@/{DATABASE}?host=127.0.0.1,{quoted(pair)}&port={port},5432,5432"
        server = server_of(address, pair.primary.bin)
        began = time.monotonic()
        found = await asyncio.to_thread(query, server, "select pg_is_in_recovery();")
        print(f"the leader was met after {time.monotonic() - began:.1f} s")  # noqa: T201
    assert found == "f"


def quoted(pair: Pair) -> str:
    """The standby comes first: it is passed over too."""
    return f"{pair.standby.socket_dir},{pair.primary.socket_dir}"
