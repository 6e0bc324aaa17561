"""What a backup leaves in the database about itself; and that it is a good backup also where it can leave nothing."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import asyncpg
import pytest

from erp_service.standalone.postgres import Cluster
from tests.backup.commands import Result, environment, run

Command = Callable[..., Result]
KINDS = ["dump", "base"]


async def records(owner: asyncpg.Connection) -> dict[tuple[str, bool], asyncpg.Record]:
    rows = await owner.fetch("select *, now() - ended_at < interval '5 min' as is_new from operation_runs")
    return {(row["kind"], row["ok"]): row for row in rows}


@pytest.mark.parametrize("kind", KINDS)
async def test_the_last_good_backup_and_the_last_failure_are_both_on_record(
    kind: str, owner: asyncpg.Connection, backup: Command, tmp_path: Path
) -> None:
    to, file = tmp_path / "backups", tmp_path / "file"
    file.touch()
    await asyncio.to_thread(backup, kind, "--to", to)
    good = await asyncio.to_thread(backup, kind, "--to", to)
    assert good.status == 0, good.log
    failed = await asyncio.to_thread(backup, kind, "--to", file)
    assert failed.status == 1

    found = await records(owner)

    assert set(found) == {(kind, True), (kind, False)}
    last, failure = found[kind, True], found[kind, False]
    assert (last["bytes"], last["is_new"], failure["bytes"], failure["is_new"]) == (
        good.result["bytes"],
        True,
        None,
        True,
    )
    assert last["place"].endswith(f":{to / good.result['backup']}")
    assert failure["place"].endswith(f":{file}")
    assert 0 < last["seconds"] <= good.result["seconds"] + 1
    assert failure["ended_at"] > last["ended_at"]


@pytest.fixture
async def receiver(cluster: Cluster, owner: asyncpg.Connection, database_name: str) -> AsyncIterator[str]:
    """The address of a role that may take base backups, and read no table."""
    await owner.execute("create role copies login replication password 'copies'")
    yield re.sub("//[^@]*@", "//copies:copies@", cluster.owner_url(database_name))
    await owner.execute("drop owned by copies")
    await owner.execute("drop role copies")


async def test_role_without_rights_takes_its_base_backup_and_says_that_it_left_no_record(
    receiver: str, owner: asyncpg.Connection, cluster: Cluster, database_name: str, backup: Command, tmp_path: Path
) -> None:
    words = ["base", "--to", tmp_path, "--database", receiver]
    done = await asyncio.to_thread(backup, *words)
    assert (done.status, done.result["ok"]) == (0, True), done.log
    assert "no record of this run was left in the database" in done.log
    assert "permission denied" in done.log
    assert await records(owner) == {}
    env = {**environment(cluster, database_name), "ERP_BACKUP_RECORD_URL": cluster.owner_url(database_name)}
    done = await asyncio.to_thread(partial(run, "backup", *words, "--pg-bin", cluster.bin, env=env))
    assert (done.status, "no record" in done.log) == (0, False), done.log
    assert set(await records(owner)) == {("base", True)}


async def test_database_of_an_earlier_release_is_dumped(
    owner: asyncpg.Connection, backup: Command, tmp_path: Path
) -> None:
    await owner.execute("drop table operation_runs")
    done = await asyncio.to_thread(backup, "dump", "--to", tmp_path)
    assert (done.status, done.result["checked"]) == (0, "content"), done.log
    assert "no record of this run" in done.log


async def test_record_waits_for_nobody_for_long(owner: asyncpg.Connection, backup: Command, tmp_path: Path) -> None:
    async with owner.transaction():
        await owner.execute("lock table operation_runs in share mode")
        done = await asyncio.to_thread(backup, "dump", "--to", tmp_path)
    assert done.status == 0
    assert "lock timeout" in done.log
