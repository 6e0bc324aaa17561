"""Real worker processes on a real Postgres."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from erp_service.db import migrate as schema
from erp_service.db.engine import Database
from erp_service.db.sessions import WriteSession
from erp_service.settings import Settings
from erp_service.standalone.postgres import Cluster
from tests.queue.shop import Shop, keeping_shop
from tests.support.clusters import in_memory, temporary_cluster


@pytest.fixture
async def shop(settings: Settings, database: Database, tmp_path: Path) -> AsyncIterator[Shop]:
    async with keeping_shop(settings, database, tmp_path) as shop:
        yield shop


@pytest.fixture
async def db(database: Database) -> AsyncIterator[WriteSession]:
    async with database.write() as db:
        yield db


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """What `workshop:until` waits for: touch it, and each run ends."""
    return tmp_path / "gate"


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[Cluster]:
    """A server that a test may stop and start, as no other test uses it."""
    with temporary_cluster("queue", max_connections=60, parent=in_memory()) as cluster:
        yield cluster


@pytest.fixture
async def own_shop(own_cluster: Cluster, settings: Settings, tmp_path: Path) -> AsyncIterator[Shop]:
    name = f"shop_{os.getpid()}_{abs(hash(tmp_path))}"
    await asyncio.to_thread(own_cluster.create_database, name)
    await schema.migrate(own_cluster.owner_url(name))
    settings = msgspec.structs.replace(
        settings, database_url=own_cluster.app_url(name), migration_database_url=own_cluster.owner_url(name)
    )
    database = Database(settings, name="erp test")
    async with keeping_shop(settings, database, tmp_path) as shop:
        yield shop
    await database.close()
