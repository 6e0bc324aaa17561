"""A PostgreSQL 15 in use and an empty newer one."""

import itertools
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from erp_service.access.roles import Role
from erp_service.db import migrate as schema
from erp_service.db.engine import Database
from erp_service.settings import Settings
from tests.support.clusters import in_memory
from tests.support.company import as_of_tests
from tests.support.databases import as_owner
from tests.support.settings import settings_for
from tests.support.users import make_user, token_of
from tests.upgrade.servers import STORE, Servers, owner_of, two_servers

_numbers = itertools.count()


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    with tempfile.TemporaryDirectory(prefix="erp-upgrade-tests-", dir=in_memory()) as directory:
        Path(directory).chmod(0o711)
        with two_servers(Path(directory)) as servers:
            yield servers


@pytest.fixture
async def name(servers: Servers) -> AsyncIterator[str]:
    """A migrated database of the old server, whose owner is no superuser; the new one has none of this name."""
    name = f"erp_{os.getpid()}_{next(_numbers)}"
    await as_owner(
        servers.old, f"create role {owner_of(name)} login", f'create database "{name}" owner {owner_of(name)}'
    )
    await schema.migrate(servers.of_owner(servers.old, name))
    await as_of_tests(servers.old.owner_url(name))
    yield name
    # either is refused if the other is needed, and both if nothing is left to do
    for command in ("cancel", "finish"):
        servers.upgrade(command, name)
    for cluster in servers:
        await as_owner(
            cluster, f'drop database if exists "{name}" with (force)', f"drop role if exists {owner_of(name)}"
        )


@pytest.fixture
def old(servers: Servers, name: str, tmp_path: Path) -> Settings:
    """The service's settings with the old server's address."""
    return replace(settings_for(servers.old, name, tmp_path), export_store=STORE)


@pytest.fixture
def new(servers: Servers, name: str, tmp_path: Path) -> Settings:
    """The same with the new server's."""
    return replace(settings_for(servers.new, name, tmp_path), export_store=STORE)


@pytest.fixture
async def token(old: Settings) -> str:
    """Of an administrator, to whom items and a location belong."""
    database = Database(old, name="erp test")
    user_id = await make_user(database, Role.ADMIN)
    await database.close()
    return token_of(old, user_id)
