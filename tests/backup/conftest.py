"""A cluster of its own to copy and destroy, the service's real processes over it, and ops/backup and ops/restore."""

import itertools
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from erp_service.access.roles import Role
from erp_service.db.connections import asyncpg_arguments
from erp_service.db.engine import Database
from erp_service.settings import Settings
from erp_service.standalone import postgres
from erp_service.standalone.postgres import Cluster
from tests.acceptance.instances import instance
from tests.backup.commands import ACCOUNT, Keys, Ran, environment, made_keys, ran
from tests.backup.company import Company
from tests.support.users import make_user, token_of

_numbers = itertools.count()


@pytest.fixture(scope="session")
def place() -> Iterator[Path]:
    """A directory that the server's own user can pass through."""
    with tempfile.TemporaryDirectory(prefix="erp-backup-tests-") as directory:
        Path(directory).chmod(0o711)
        yield Path(directory)


@pytest.fixture(scope="session")
def cluster(place: Path) -> Iterator[Cluster]:
    with postgres.running(place / "original", fsync=False, max_connections=100) as running:
        yield running


@pytest.fixture
def backup(cluster: Cluster, database_name: str) -> Callable[..., Ran]:
    def backup(*arguments: object, before: Callable[[], None] | None = None, given: str | None = None) -> Ran:
        words = [*arguments, "--pg-bin", cluster.bin] if arguments[0] != "status" else arguments
        return ran("backup", *words, env=environment(cluster, database_name), before=before, given=given)

    return backup


@pytest.fixture
def restore(cluster: Cluster) -> Callable[..., Ran]:
    def restore(*arguments: object) -> Ran:
        account = ACCOUNT if arguments[0] == "base" else []
        env = environment(cluster, "postgres")
        del env["ERP_MIGRATION_DATABASE_URL"]
        return ran("restore", *arguments, *account, "--pg-bin", cluster.bin, env=env)

    return restore


@pytest.fixture
async def empty(cluster: Cluster) -> AsyncIterator[str]:
    """A database without tables, to restore into."""
    name = f"restored_{os.getpid()}_{next(_numbers)}"
    connection = await asyncpg.connect(**asyncpg_arguments(cluster.owner_url("postgres")))
    try:
        await connection.execute(f'create database "{name}"')
        yield name
        await connection.execute(f'drop database "{name}" with (force)')
    finally:
        await connection.close()


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return made_keys(tmp_path / "key")


@pytest.fixture
async def company(settings: Settings, database: Database, tmp_path: Path) -> AsyncIterator[Company]:
    """One instance of the API in a process of its own, with items and places to trade with."""
    user_id = await make_user(database, Role.SUPER_ADMIN)
    async with instance(settings, tmp_path / "serve.log") as process:
        company = Company(settings, process.url, token_of(settings, user_id), user_id)
        async with company.client() as client:
            for number in range(5):
                item = {"sku": f"ITEM-{number}", "name": f"Item {number}", "unit": "PCS"}
                assert (await client.post("/inventory/items", json=item)).status_code == 201
            place = {"code": "SHOP", "name": "The shop", "location_type": "WAREHOUSE"}
            assert (await client.post("/inventory/locations", json=place)).status_code == 201
        yield company
