"""Where exports are stored, and what they are compared with."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from erp_service.access.roles import Role
from erp_service.db.engine import Database
from erp_service.exports.context import ExportContext
from erp_service.exports.storage.base import Store
from erp_service.exports.storage.registry import open_store
from erp_service.settings import Settings
from erp_service.standalone.postgres import Cluster
from erp_service.worker_services import WorkerServices
from tests.exports.storage.stores import ObjectServer, serving
from tests.support.psql import Psql, psql_of
from tests.support.users import make_user


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Store]:
    store = open_store(settings)
    yield store
    await store.close()


@pytest.fixture(scope="session")
def object_server() -> Iterator[ObjectServer]:
    with serving() as server:
        yield server


@pytest.fixture
def resources(worker_services: WorkerServices) -> ExportContext:
    """What a worker has for exports."""
    return worker_services.exports


@pytest.fixture
async def user(database: Database) -> int:
    return await make_user(database, Role.VIEWER)


@pytest.fixture
def psql(cluster: Cluster, database_name: str, tmp_path: Path) -> Psql:
    return psql_of(cluster, database_name, tmp_path)
