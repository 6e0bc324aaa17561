"""Backups that must not be restored, targets that must not be overwritten, and the messages that say so."""

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from erp_service.standalone.postgres import Cluster
from tests.backup.commands import Keys, Result, make_keys
from tests.support.databases import connected

Command = Callable[..., Result]


@pytest.fixture(params=["dump", "base"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def taken(backup: Command, kind: str, keys: Keys, tmp_path: Path) -> Path:
    """A good backup, encrypted, whose content the host that made it could not read."""
    done = backup(kind, "--to", tmp_path / "backups", "--recipients", keys.recipients)
    assert done.status == 0, done.log
    assert done.result["checked"] == "digests"
    return tmp_path / "backups" / str(done.result["backup"])


def _main_file(taken: Path) -> Path:
    return max(taken.iterdir(), key=lambda path: path.stat().st_size)


def _refused(backup: Command, restore: Command, taken: Path, keys: Keys, clusters: Path, url: str) -> str:
    """The error of both commands; neither leaves anything behind."""
    checked = backup("check", taken, "--identity", keys.identity)
    target = ["--database", url] if taken.name.endswith("dump") else ["--data-directory", clusters / "refused"]
    restored = restore(taken.name[-4:], taken, "--identity", keys.identity, *target)
    assert (checked.status, restored.status) == (1, 1)
    assert not [path for path in clusters.iterdir() if "refused" in path.name]
    assert checked.result["error"] == restored.result["error"]
    return str(restored.result["error"])


async def test_truncated_flipped_incomplete_and_wrong_key_backups_are_refused_with_a_clear_sentence(
    backup: Command,
    restore: Command,
    taken: Path,
    keys: Keys,
    clusters: Path,
    cluster: Cluster,
    empty: str,
    tmp_path: Path,
) -> None:
    url = cluster.owner_url(empty)

    def error(with_keys: Keys = keys) -> str:
        return _refused(backup, restore, taken, with_keys, clusters, url)

    def damage_and_check() -> None:
        good = backup("check", taken, "--identity", keys.identity)
        assert (good.status, good.result["checked"]) == (0, "content")
        stranger = make_keys(tmp_path / "stranger")
        assert "is not one that" in error(stranger)
        assert "was encrypted for" in error(stranger)

        file = _main_file(taken)
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) - 100])
        assert f"has {len(whole) - 100} bytes instead of {len(whole)}: it was cut or replaced" in error()
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 1
        file.write_bytes(flipped)
        assert f"{file.name} is not what was written, its SHA-256 differs" in error()
        file.unlink()
        assert f"{file.name} is missing: this backup is not whole" in error()
        file.write_bytes(whole)
        (taken / "SHA256SUMS").unlink()
        assert "this backup is not whole" in error()

    await asyncio.to_thread(damage_and_check)
    async with connected(url) as db:
        assert await db.fetchval("select count(*) from pg_tables where schemaname = 'public'") == 0


async def test_encrypted_backup_without_a_key_is_refused(
    restore: Command, taken: Path, kind: str, clusters: Path, cluster: Cluster, empty: str
) -> None:
    target = ["--database", cluster.owner_url(empty)] if kind == "dump" else ["--data-directory", clusters / "keyless"]
    refused = await asyncio.to_thread(restore, kind, taken, *target)
    assert refused.status == 1
    assert "give the secret key's file with --identity" in refused.result["error"]


async def test_backup_with_right_digests_that_cannot_be_restored_is_refused(
    backup: Command, database_name: str, kind: str, tmp_path: Path
) -> None:
    """Digests prove that nothing was damaged since, not that it was ever good."""
    taken = await asyncio.to_thread(backup, kind, "--to", tmp_path)
    path = tmp_path / str(taken.result["backup"])
    file = _main_file(path)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    subprocess.run(f"cd {path} && sha256sum $(ls | grep -v SUMS) > SHA256SUMS", shell=True, check=True)

    checked = await asyncio.to_thread(backup, "check", path)

    assert checked.status == 1
    # it depends on where the zeros begin: inside compressed data, or between two files
    messages = {"dump": ["pg_restore failed"], "base": ["cannot be unpacked", "is not what the server had"]}
    assert any(message in checked.result["error"] for message in messages[kind])


async def test_database_with_content_is_refused_and_with_replace_moved_aside(
    backup: Command, restore: Command, cluster: Cluster, database_name: str, empty: str, tmp_path: Path
) -> None:
    taken = await asyncio.to_thread(backup, "dump", "--to", tmp_path)
    source, url = tmp_path / str(taken.result["backup"]), cluster.owner_url(empty)
    async with connected(url) as db:
        await db.execute("create table precious (a int); insert into precious values (42)")

    refused = await asyncio.to_thread(restore, "dump", source, "--database", url)
    assert refused.status == 1
    assert "is not empty: name an empty one, or say --replace" in refused.result["error"]

    done = await asyncio.to_thread(restore, "dump", source, "--database", url, "--replace", "--erp", "")
    assert done.status == 0, done.log
    assert "Now run, where the service is: erp migrate, and then erp verify" in done.log
    async with connected(url) as db:
        assert await db.fetchval(f"select a from {done.result['moved_aside']}.precious") == 42
        assert await db.fetchval("select count(*) from alembic_version") == 1


async def test_database_that_the_service_uses_is_not_touched(
    backup: Command, restore: Command, cluster: Cluster, database_name: str, empty: str, tmp_path: Path
) -> None:
    taken = await asyncio.to_thread(backup, "dump", "--to", tmp_path)
    source, url = tmp_path / str(taken.result["backup"]), cluster.owner_url(empty)
    async with connected(url) as db:
        await db.execute("set application_name = 'erp serve'")
        refused = await asyncio.to_thread(restore, "dump", source, "--database", url, "--replace")
    assert "in use (erp serve): stop every instance and worker first" in refused.result["error"]


async def test_directory_of_a_running_cluster_or_with_content_is_not_touched(
    backup: Command, restore: Command, cluster: Cluster, database_name: str, clusters: Path, tmp_path: Path
) -> None:
    taken = await asyncio.to_thread(backup, "base", "--to", tmp_path)
    assert taken.status == 0, taken.log
    words = ["base", tmp_path, "--replace", "--data-directory"]
    refused = await asyncio.to_thread(restore, *words, cluster.directory)
    assert "a server runs in" in refused.result["error"]
    existing = clusters / "existing"
    existing.mkdir()
    (existing / "precious").write_text("42")
    refused = await asyncio.to_thread(restore, "base", tmp_path, "--data-directory", existing)
    assert "is not empty: name another, or say --replace" in refused.result["error"]

    done = await asyncio.to_thread(restore, *words, existing, "--erp", "", "--database-name", database_name)
    assert done.status == 0, done.log
    (aside,) = clusters.glob("existing.before-*")
    assert (aside / "precious").read_text() == "42"
    assert not (existing / "recovery.signal").exists()
    async with connected(cluster.owner_url(database_name)) as db:
        # the original does not have what the restore wrote into its copy
        with pytest.raises(asyncpg.UndefinedTableError):
            await db.execute("select * from no_such_table")
        assert await db.fetchval("select count(*) from audit_log where action = 'database.restored'") == 0
