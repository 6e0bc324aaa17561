"""Taking backups while things go wrong: two at once, a full disk, a kill, a server that is away."""

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
from ops.backups.sealed import Keys as Encryption
from ops.backups.wal import Archive, keep_received
from tests.backup.conftest import OPS, Keys, Ran, connected, environment, kept_log
from tests.conftest import eventually

Command = Callable[..., Ran]
KINDS = ["dump", "base"]


def _names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.name != ".lock")


async def _large(owner: asyncpg.Connection) -> None:
    """What no compression makes small."""
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
            # which then waits in its middle
            await db.execute("lock table items in access exclusive mode")
        first = subprocess.Popen(command, env=environment(cluster, database_name), stdout=subprocess.PIPE, text=True)
        await eventually(lambda: _working(tmp_path))
        second = await asyncio.to_thread(backup, kind, "--to", tmp_path)
        assert (second.status, second.result["ok"]) == (75, False)
        assert "another backup is being taken" in second.result["error"]
    said, _ = await asyncio.to_thread(first.communicate)
    assert (first.returncode, json.loads(said)["checked"]) == (0, "content")
    assert _names(tmp_path) == [json.loads(said)["backup"]]


async def _working(directory: Path) -> bool:
    return bool(list(directory.glob(".*.part")))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("encrypted", [False, True], ids=["clear", "encrypted"])
async def test_full_disk_is_said_and_leaves_the_older_backup_alone(
    kind: str, encrypted: bool, owner: asyncpg.Connection, backup: Command, keys: Keys, tmp_path: Path
) -> None:
    to = tmp_path / "backups"
    words = [kind, "--to", to, "--keep", "0/0/0", *(["--recipients", keys.recipients] if encrypted else [])]
    good = await asyncio.to_thread(backup, *words)
    assert good.status == 0, good.said
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
        await eventually(lambda: _working(tmp_path))
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
    (left,) = _names(tmp_path)
    assert left.startswith(".")
    assert (await asyncio.to_thread(backup, "status", "--to", tmp_path)).status == 1

    done = await asyncio.to_thread(backup, "dump", "--to", tmp_path)

    assert done.status == 0, done.said
    assert _names(tmp_path) == [done.result["backup"]]


async def test_rotation_and_metrics_and_status_say_what_is_there(backup: Command, tmp_path: Path) -> None:
    to, metrics = tmp_path / "backups", tmp_path / "erp.prom"
    names: list[str] = []
    for _ in range(3):
        done = await asyncio.to_thread(backup, "dump", "--to", to, "--keep", "1/0/0", "--metrics", metrics)
        assert done.result["removed"] == names[-1:]
        names.append(done.result["backup"])
    assert _names(to) == [names[2]]

    status = await asyncio.to_thread(backup, "status", "--to", to)
    assert status.result["dump"]["backup"] == names[2]
    assert 0 <= status.result["dump"]["age_seconds"] < 600
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
    # the failed run leaves what is known of the last good one
    assert abs(time.time() - float(lines['erp_backup_last_success_timestamp_seconds{kind="dump"}'])) < 600


async def test_log_says_up_to_when_it_is_kept_beside_what_others_say_in_the_same_file(
    cluster: Cluster, database_name: str, owner: asyncpg.Connection, backup: Command, tmp_path: Path
) -> None:
    metrics = tmp_path / "erp.prom"
    metrics.write_text('erp_backup_last_run_ok{kind="dump"} 1\n')

    def told() -> dict[str, float]:
        lines = (line.rsplit(" ", 1) for line in metrics.read_text().splitlines())
        return {name: float(value) for name, value in lines}

    async def kept(until: float) -> bool:
        return told().get("erp_backup_log_kept_until_timestamp_seconds", 0.0) > until

    with kept_log(cluster, database_name, tmp_path / "backups", "--metrics", metrics):
        await owner.execute("create table t (); drop table t")
        await eventually(partial(kept, time.time()))
    assert told()['erp_backup_last_run_ok{kind="wal"}'] == 1
    away = ["--metrics", metrics, "--database", "postgresql://nobody@/none?host=/nowhere"]
    assert (await asyncio.to_thread(backup, "wal", "--to", tmp_path / "backups", *away)).status == 1
    assert told()['erp_backup_last_run_ok{kind="wal"}'] == 0
    assert told()['erp_backup_last_run_ok{kind="dump"}'] == 1
    await asyncio.to_thread(backup, "wal", "--to", tmp_path / "backups", "--forget")


async def test_key_comes_by_standard_input_and_a_copy_that_was_cut_short_goes(
    backup: Command, keys: Keys, tmp_path: Path
) -> None:
    to, scratch = tmp_path / "backups", tmp_path / "scratch"
    (scratch / "erp-backup-killed" / "base").mkdir(parents=True)
    words = ["base", "--to", to, "--scratch", scratch, "--recipients", keys.recipients]
    taken = await asyncio.to_thread(backup, *words, "--identity", "-", given=keys.identity.read_text())
    assert (taken.status, taken.result.get("checked")) == (0, "content"), taken.said
    assert list(scratch.iterdir()) == []


async def test_no_password_stands_in_a_command_line(
    cluster: Cluster, database_name: str, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    url = cluster.owner_url(database_name).replace("postgres@", "postgres:not-for-ps@")
    env = {**environment(cluster, database_name), "ERP_MIGRATION_DATABASE_URL": url}
    command = [sys.executable, str(OPS / "backup"), "dump", "--to", str(tmp_path), "--pg-bin", str(cluster.bin)]
    async with owner.transaction():
        await owner.execute("lock table idempotency in access exclusive mode")
        working = subprocess.Popen(command, env=env, start_new_session=True, stdout=subprocess.DEVNULL)
        await eventually(lambda: _dumps(owner))
        shown = subprocess.run(["ps", "-ewwo", "args"], capture_output=True, text=True, check=True).stdout
    await asyncio.to_thread(working.wait)
    assert "pg_dump" in shown
    assert "not-for-ps" not in shown
    assert working.returncode == 0


async def _dumps(owner: asyncpg.Connection) -> bool:
    return bool(await owner.fetchval("select count(*) from pg_locks where not granted"))


async def test_log_is_kept_whole_across_a_restart_and_a_hole_in_it_is_said(
    cluster: Cluster,
    database_name: str,
    owner: asyncpg.Connection,
    backup: Command,
    restore: Command,
    place: Path,
    tmp_path: Path,
) -> None:
    def segments() -> list[str]:
        # numbers of this cluster are small: as hexadecimals they are one after another
        return sorted(path.name[:24] for path in tmp_path.glob("wal-*/*.gz") if ".partial" not in path.name)

    async def switch(expected: int) -> None:
        await owner.execute("create table if not exists t (); drop table t; select pg_switch_wal()")
        await eventually(lambda: _many(segments, expected))

    with kept_log(cluster, database_name, tmp_path):
        await switch(1)
        await switch(2)
    await owner.execute("create table t (); drop table t; select pg_switch_wal()")
    with kept_log(cluster, database_name, tmp_path):
        await eventually(lambda: _many(segments, 3))
        second = await asyncio.to_thread(backup, "wal", "--to", tmp_path)
        assert second.status == 75
    first, *_, last = segments()
    assert [int(name, 16) for name in segments()] == list(range(int(first, 16), int(last, 16) + 1))

    # what no base backup needs goes with the next one; of the rest nothing may be missing
    base = await asyncio.to_thread(backup, "base", "--to", tmp_path)
    assert base.result["log_removed"] >= 1
    with kept_log(cluster, database_name, tmp_path):
        start = int(json.loads((tmp_path / base.result["backup"] / "manifest.json").read_text())["wal_start"], 16)
        # further than the base backup's own segments reach
        while int(max(segments(), default="0"), 16) < start + 4:
            await switch(len(segments()) + 1)
        middle = f"{start + 3:024X}"
        for path in tmp_path.glob(f"wal-*/{middle}*"):
            path.unlink()
        command = [sys.executable, "-c", _HOLE, str(OPS), str(next(tmp_path.glob("wal-*")))]
        assert subprocess.run(command, capture_output=True, text=True).stdout.strip() == middle
    refused = await asyncio.to_thread(restore, "base", tmp_path, "--data-directory", place / "holed")
    assert f"the log has a hole at {middle}" in refused.result["error"]
    assert not (place / "holed").exists()
    forgotten = await asyncio.to_thread(backup, "wal", "--to", tmp_path, "--forget")
    assert forgotten.status == 0, forgotten.said
    assert await owner.fetchval("select count(*) from pg_replication_slots") == 0


def test_segment_that_becomes_whole_while_the_spool_is_read_is_stored_in_the_next_round(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "kept", tmp_path / "spool", Encryption(), 16 * 1024 * 1024)
    for directory in (archive.kept, archive.spool):
        directory.mkdir()
    whole, growing = (archive.spool / f"00000001000000000000000{number}" for number in (1, 2))
    partial_path = growing.with_name(f"{growing.name}.partial")
    for path in (whole, partial_path):
        path.write_bytes(path.name.encode())
    stored = keep_received(archive)
    assert next(stored) == whole.name
    # as pg_receivewal does, after we looked for what has come
    partial_path.rename(growing)
    assert list(stored) == []
    assert list(keep_received(archive)) == [growing.name]


_HOLE = """
import sys; sys.path.insert(0, sys.argv[1])
from pathlib import Path
from backups.wal import first_hole
print(first_hole(Path(sys.argv[2]), 16 * 1024 * 1024))
"""


async def _many(segments: Callable[[], list[str]], number: int) -> bool:
    return len(segments()) >= number
