"""A stock to reserve from, and two instances to reserve at."""

from collections.abc import AsyncIterator

import asyncpg
import httpx
import pytest

from erp_service.access.roles import Role
from erp_service.db.engine import Database
from erp_service.settings import Settings
from tests.inventory.books import stocked
from tests.inventory.reservations.reserving import assert_reserved
from tests.support.apps import two_instances
from tests.support.users import make_user, token_of


@pytest.fixture
async def stock(owner: asyncpg.Connection) -> AsyncIterator[asyncpg.Connection]:
    """BOLT and NUT at MAIN, SHOP, and YARD-, where stock may be negative; the books are checked after the test."""
    await stocked(owner, "BOLT", "NUT", places=("MAIN", "SHOP", "YARD-"))
    yield owner
    await assert_reserved(owner)


@pytest.fixture
async def two(settings: Settings, database: Database) -> AsyncIterator[list[httpx.AsyncClient]]:
    """The same ADMIN on two instances."""
    token = token_of(settings, await make_user(database, Role.ADMIN))
    async with two_instances(settings) as instances:
        for client in instances.clients:
            client.headers["Authorization"] = f"Bearer {token}"
        yield instances.clients
