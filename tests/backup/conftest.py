"""A cluster to copy and destroy, real processes of the service over it, and the commands ops/backup and ops/restore."""

import itertools
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from erp_service.db.engine import Database
from erp_service.settings import Settings
from erp_service.standalone import postgres
from erp_service.standalone.postgres import Cluster
from tests.backup.commands import ACCOUNT, Keys, Result, environment, make_keys, run
from tests.backup.company import Company, founded

_numbers = itertools.count()


@pytest.fixture(scope="session")
def clusters() -> Iterator[Path]:
    """The directory of clusters, which the server's own account can enter."""
    with tempfile.TemporaryDirectory(prefix="erp-backup-tests-") as directory:
        Path(directory).chmod(0o711)
        yield Path(directory)


@pytest.fixture(scope="session")
def cluster(clusters: Path) -> Iterator[Cluster]:
    with postgres.running(clusters / "original", fsync=False, max_connections=100) as original:
        yield original


@pytest.fixture
def backup(cluster: Cluster, database_name: str) -> Callable[..., Result]:
    def backup(*arguments: object, before: Callable[[], None] | None = None, stdin: str | None = None) -> Result:
        words = [*arguments, "--pg-bin", cluster.bin] if arguments[0] != "status" else arguments
        return run("backup", *words, env=environment(cluster, database_name), before=before, stdin=stdin)

    return backup


@pytest.fixture
def restore(cluster: Cluster) -> Callable[..., Result]:
    def restore(*arguments: object) -> Result:
        account = ACCOUNT if arguments[0] == "base" else []
        env = environment(cluster, "postgres")
        del env["ERP_MIGRATION_DATABASE_URL"]
        return run("restore", *arguments, *account, "--pg-bin", cluster.bin, env=env)

    return restore


@pytest.fixture
async def empty(cluster: Cluster) -> AsyncIterator[str]:
    """A database without tables, to restore into."""
    name = f"restored_{os.getpid()}_{next(_numbers)}"
    connection = await asyncpg.connect(cluster.owner_url("postgres"))
    try:
        await connection.execute(f'create database "{name}"')
        yield name
        await connection.execute(f'drop database "{name}" with (force)')
    finally:
        await connection.close()


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return make_keys(tmp_path / "key")


@pytest.fixture
async def company(settings: Settings, database: Database, tmp_path: Path) -> AsyncIterator[Company]:
    """One instance of the API in a process of its own, with items and a location to trade with."""
    async with founded(settings, database, tmp_path / "serve.log") as company:
        yield company
