"""Backups while things go wrong: two at once, a full disk, a kill, an unavailable server."""

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import asyncpg
import pytest

from erp_service.standalone.postgres import Cluster
from ops.backups.encryption import Keys as BackupKeys
from ops.backups.wal_archive import Archive, archive_received, first_fault
from tests.backup.commands import OPS, Keys, Result, archived_wal, environment
from tests.support.databases import connected
from tests.support.waiting import eventually

Command = Callable[..., Result]
KINDS = ["dump", "base"]


def _names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.name != ".lock")


async def _large(owner: asyncpg.Connection) -> None:
    """Content that does not compress."""
    await owner.execute(
        "insert into items (sku, name, unit, description) select 'S' || n, 'Item', 'PCS',"
        " (select string_agg(md5(random()::text), '') from generate_series(1, 60) where n > 0)"
        " from generate_series(1, 4000) n"
    )


@pytest.mark.parametrize("kind", KINDS)
async def test_second_backup_at_once_is_refused_and_the_first_is_whole(
    kind: str, cluster: Cluster, database_name: str, backup: Command, tmp_path: Path
) -> None:
    command = [sys.executable, str(OPS / "backup"), kind, "--to", str(tmp_path), "--pg-bin", str(cluster.bin)]
    async with connected(cluster.owner_url(database_name)) as db, db.transaction():
        if kind == "dump":
            # it waits in its middle for the lock
            await db.execute("lock table items in access exclusive mode")
        first = subprocess.Popen(command, env=environment(cluster, database_name), stdout=subprocess.PIPE, text=True)
        await eventually(lambda: _started(tmp_path))
        second = await asyncio.to_thread(backup, kind, "--to", tmp_path)
        assert (second.status, second.result["ok"]) == (75, False)
        assert "another backup is being taken" in second.result["error"]
    output, _ = await asyncio.to_thread(first.communicate)
    assert (first.returncode, json.loads(output)["checked"]) == (0, "content")
    assert _names(tmp_path) == [json.loads(output)["backup"]]


async def _started(directory: Path) -> bool:
    return bool(list(directory.glob(".*.part")))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("encrypted", [False, True], ids=["clear", "encrypted"])
async def test_full_disk_is_reported_and_leaves_the_older_backup_alone(
    kind: str, encrypted: bool, owner: asyncpg.Connection, backup: Command, keys: Keys, tmp_path: Path
) -> None:
    to = tmp_path / "backups"
    words = [kind, "--to", to, "--keep", "0/0/0", *(["--recipients", keys.recipients] if encrypted else [])]
    good = await asyncio.to_thread(backup, *words)
    assert good.status == 0, good.log
    await _large(owner)

    failed = await asyncio.to_thread(backup, *words, before=_small_files)

    assert (failed.status, failed.result["ok"]) == (1, False)
    assert "File too large" in failed.result["error"] or "pg_basebackup failed" in failed.result["error"]
    assert _names(to) == [good.result["backup"]]
    checked = await asyncio.to_thread(backup, "check", to / good.result["backup"], "--identity", keys.identity)
    assert checked.result["checked"] == "content"


def _small_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))


async def test_killed_backup_has_no_name_and_the_next_one_clears_it_away(
    cluster: Cluster, database_name: str, owner: asyncpg.Connection, backup: Command, tmp_path: Path
) -> None:
    command = [sys.executable, str(OPS / "backup"), "dump", "--to", str(tmp_path), "--pg-bin", str(cluster.bin)]
    async with owner.transaction():
        await owner.execute("lock table items in access exclusive mode")
        killed = subprocess.Popen(command, env=environment(cluster, database_name), start_new_session=True)
        await eventually(lambda: _started(tmp_path))
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
    (left,) = _names(tmp_path)
    assert left.startswith(".")
    assert (await asyncio.to_thread(backup, "status", "--to", tmp_path)).status == 1

    done = await asyncio.to_thread(backup, "dump", "--to", tmp_path)

    assert done.status == 0, done.log
    assert _names(tmp_path) == [done.result["backup"]]


async def test_retention_metrics_and_status(backup: Command, tmp_path: Path) -> None:
    to, metrics = tmp_path / "backups", tmp_path / "erp.prom"
    names: list[str] = []
    # names and metrics have whole seconds
    start = int(time.time())
    for _ in range(3):
        done = await asyncio.to_thread(backup, "dump", "--to", to, "--keep", "1/0/0", "--metrics", metrics)
        assert done.result["removed"] == names[-1:]
        names.append(done.result["backup"])
    assert _names(to) == [names[2]]

    status = await asyncio.to_thread(backup, "status", "--to", to)
    assert status.result["dump"]["backup"] == names[2]
    assert 0 <= status.result["dump"]["age_seconds"] <= time.time() - start
    assert (await asyncio.to_thread(backup, "status", "--to", to, "--max-age-hours", 0)).status == 1
    assert (await asyncio.to_thread(backup, "status", "--to", to, "--kind", "dump")).status == 0
    none = await asyncio.to_thread(backup, "status", "--to", to, "--kind", "base")
    assert (none.status, none.result["error"]) == (1, f"{to} holds no base")
    failed = await asyncio.to_thread(
        backup, "dump", "--to", to, "--metrics", metrics, "--database", "postgresql://nobody@/none?host=/nowhere"
    )
    assert failed.status == 1
    assert "psql failed" in failed.result["error"]
    lines = dict(line.rsplit(" ", 1) for line in metrics.read_text().splitlines())
    assert lines['erp_backup_last_run_ok{kind="dump"}'] == "0"
    # the failed run leaves the metrics of the last good one
    assert start <= float(lines['erp_backup_last_success_timestamp_seconds{kind="dump"}']) <= time.time()


async def test_wal_writes_its_metrics_beside_those_of_other_commands_in_the_same_file(
    cluster: Cluster, database_name: str, owner: asyncpg.Connection, backup: Command, tmp_path: Path
) -> None:
    metrics = tmp_path / "erp.prom"
    metrics.write_text('erp_backup_last_run_ok{kind="dump"} 1\n')

    def values() -> dict[str, float]:
        lines = (line.rsplit(" ", 1) for line in metrics.read_text().splitlines())
        return {name: float(value) for name, value in lines}

    async def recoverable(until: float) -> bool:
        return values().get("erp_backup_log_kept_until_timestamp_seconds", 0.0) > until

    with archived_wal(cluster, database_name, tmp_path / "backups", "--metrics", metrics):
        await owner.execute("create table t (); drop table t")
        await eventually(partial(recoverable, time.time()))
    assert values()['erp_backup_last_run_ok{kind="wal"}'] == 1
    unavailable = ["--metrics", metrics, "--database", "postgresql://nobody@/none?host=/nowhere"]
    assert (await asyncio.to_thread(backup, "wal", "--to", tmp_path / "backups", *unavailable)).status == 1
    assert values()['erp_backup_last_run_ok{kind="wal"}'] == 0
    assert values()['erp_backup_last_run_ok{kind="dump"}'] == 1
    await asyncio.to_thread(backup, "wal", "--to", tmp_path / "backups", "--forget")


async def test_key_is_read_from_standard_input_and_a_left_over_copy_is_removed(
    backup: Command, keys: Keys, tmp_path: Path
) -> None:
    to, scratch = tmp_path / "backups", tmp_path / "scratch"
    (scratch / "erp-backup-killed" / "base").mkdir(parents=True)
    words = ["base", "--to", to, "--scratch", scratch, "--recipients", keys.recipients]
    taken = await asyncio.to_thread(backup, *words, "--identity", "-", stdin=keys.identity.read_text())
    assert (taken.status, taken.result.get("checked")) == (0, "content"), taken.log
    assert list(scratch.iterdir()) == []


async def test_no_password_is_in_a_command_line(
    cluster: Cluster, database_name: str, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    url = cluster.owner_url(database_name).replace("postgres@", "postgres:not-for-ps@")
    env = {**environment(cluster, database_name), "ERP_MIGRATION_DATABASE_URL": url}
    command = [sys.executable, str(OPS / "backup"), "dump", "--to", str(tmp_path), "--pg-bin", str(cluster.bin)]
    async with owner.transaction():
        await owner.execute("lock table idempotency in access exclusive mode")
        process = subprocess.Popen(command, env=env, start_new_session=True, stdout=subprocess.DEVNULL)
        await eventually(lambda: _waits_for_lock(owner))
        processes = subprocess.run(["ps", "-ewwo", "args"], capture_output=True, text=True, check=True).stdout
    await asyncio.to_thread(process.wait)
    assert "pg_dump" in processes
    assert "not-for-ps" not in processes
    assert process.returncode == 0


async def _waits_for_lock(owner: asyncpg.Connection) -> bool:
    return bool(await owner.fetchval("select count(*) from pg_locks where not granted"))


async def test_wal_is_archived_without_a_gap_across_a_restart_and_a_gap_is_reported(
    cluster: Cluster,
    database_name: str,
    owner: asyncpg.Connection,
    backup: Command,
    restore: Command,
    clusters: Path,
    tmp_path: Path,
) -> None:
    def segments() -> list[str]:
        # the segment numbers of this cluster are small: their names count up as hexadecimal numbers
        return sorted(path.name[:24] for path in tmp_path.glob("wal-*/*.gz") if ".partial" not in path.name)

    async def switch(expected: int) -> None:
        await owner.execute("create table if not exists t (); drop table t; select pg_switch_wal()")
        await eventually(lambda: _many(segments, expected))

    with archived_wal(cluster, database_name, tmp_path):
        await switch(1)
        await switch(2)
    await owner.execute("create table t (); drop table t; select pg_switch_wal()")
    with archived_wal(cluster, database_name, tmp_path):
        await eventually(lambda: _many(segments, 3))
        second = await asyncio.to_thread(backup, "wal", "--to", tmp_path)
        assert second.status == 75
    first, *_, last = segments()
    assert [int(name, 16) for name in segments()] == list(range(int(first, 16), int(last, 16) + 1))

    # a base backup removes the segments that none needs; of the rest none may be missing
    base = await asyncio.to_thread(backup, "base", "--to", tmp_path)
    assert base.result["log_removed"] >= 1
    with archived_wal(cluster, database_name, tmp_path):
        start = int(json.loads((tmp_path / base.result["backup"] / "manifest.json").read_text())["wal_start"], 16)
        # beyond the segments inside the base backup
        while int(max(segments(), default="0"), 16) < start + 4:
            await switch(len(segments()) + 1)
        middle = f"{start + 3:024X}"
        for path in tmp_path.glob(f"wal-*/{middle}*"):
            path.unlink()
        directory = next(tmp_path.glob("wal-*"))
        assert first_fault(Archive(directory, directory / ".spool", BackupKeys(), 16 * 1024 * 1024)) == (
            f"the WAL archive has a gap at {middle}"
        )
    refused = await asyncio.to_thread(restore, "base", tmp_path, "--data-directory", clusters / "gap")
    assert f"the WAL archive has a gap at {middle}" in refused.result["error"]
    assert not (clusters / "gap").exists()
    forgotten = await asyncio.to_thread(backup, "wal", "--to", tmp_path, "--forget")
    assert forgotten.status == 0, forgotten.log
    assert await owner.fetchval("select count(*) from pg_replication_slots") == 0


def test_segment_that_becomes_complete_while_the_spool_is_read_is_archived_in_the_next_round(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive", tmp_path / "spool", BackupKeys(), 16 * 1024 * 1024)
    for directory in (archive.directory, archive.spool):
        directory.mkdir()
    complete, growing = (archive.spool / f"00000001000000000000000{number}" for number in (1, 2))
    partial_path = growing.with_name(f"{growing.name}.partial")
    for path in (complete, partial_path):
        path.write_bytes(path.name.encode())
    archived = archive_received(archive)
    assert next(archived) == complete.name
    # as pg_receivewal does, after the spool was listed
    partial_path.rename(growing)
    assert list(archived) == []
    assert list(archive_received(archive)) == [growing.name]


async def _many(segments: Callable[[], list[str]], number: int) -> bool:
    return len(segments()) >= number
