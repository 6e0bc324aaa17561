"""A stock to reserve from."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.inventory.books import stocked
from tests.inventory.reservations.reserving import assert_reserved


@pytest.fixture
async def stock(owner: asyncpg.Connection) -> AsyncIterator[asyncpg.Connection]:
    """BOLT and NUT at MAIN, SHOP, and YARD-, where stock may be negative; the books are checked after the test."""
    await stocked(owner, "BOLT", "NUT", places=("MAIN", "SHOP", "YARD-"))
    yield owner
    await assert_reserved(owner)
