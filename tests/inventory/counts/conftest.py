"""A stock to count."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from erp_service.inventory.counts.proofs import PROOFS
from tests.inventory.books import assert_books, stocked


@pytest.fixture
async def shelves(owner: asyncpg.Connection) -> AsyncIterator[asyncpg.Connection]:
    """BOLT and NUT in BIN-1, BIN-2, MAIN, SHOP, and YARD-, where stock may be negative; books and counts are checked
    after the test."""
    await stocked(owner, "BOLT", "NUT", places=("BIN-1", "BIN-2", "MAIN", "SHOP", "YARD-"))
    yield owner
    await assert_books(owner)
    for proof in PROOFS:
        assert [dict(row) for row in await owner.fetch(proof.rows)] == [], proof.holds
