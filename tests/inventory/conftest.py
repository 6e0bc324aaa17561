"""A stock to post to, and what its statements do in Postgres."""

from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from erp_service.db.engine import Database
from tests.inventory.books import assert_books, stocked
from tests.inventory.posting import Post, posting
from tests.support.statements import Plans, Waiting, count_of_waiting, plans_of_statements


@pytest.fixture
def post(database: Database) -> Post:
    return posting(database)


@pytest.fixture
def waiting(owner: asyncpg.Connection) -> Waiting:
    return count_of_waiting(owner)


@pytest.fixture
def plans(owner: asyncpg.Connection) -> Iterator[Plans]:
    with plans_of_statements(owner) as plans:
        yield plans


@pytest.fixture
async def books(owner: asyncpg.Connection) -> AsyncIterator[asyncpg.Connection]:
    """BOLT in MAIN, SHOP, and YARD-, where stock may be negative; the books are checked after the test."""
    await stocked(owner, "BOLT", places=("MAIN", "SHOP", "YARD-"))
    await stocked(owner, "OLD", status="DISCONTINUED")
    await stocked(owner, "IDLE", status="INACTIVE")
    yield owner
    await assert_books(owner)
