"""Stock to look at, waiting statements to wait for, and the plans of the statements that a page really ran."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
from sqlalchemy import Engine, event

from erp_service.access.principals import system
from erp_service.db.engine import Database
from erp_service.inventory import ledger, row_locks
from tests.inventory.books import assert_books, stocked

NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)

Post = Callable[..., Awaitable[Any]]
"""`await post("IN", "BOLT-M8", "MAIN", "10", unit_cost="2", at=NOON)` in a transaction of its own: the document."""


@pytest.fixture
def post(database: Database) -> Post:
    async def post(
        kind: Any,
        sku: str,
        code: str,
        quantity: str,
        *,
        unit_cost: str | None = None,
        at: datetime = NOON,
        reference_no: str | None = None,
    ) -> Any:
        async with database.write() as db:
            held = await row_locks.lock_for_share(db, [sku], [code])
            line = ledger.PostingLine(
                kind=kind,
                item=held.items[sku],
                location=held.locations[code],
                quantity=Decimal(quantity),
                unit_cost=None if unit_cost is None else Decimal(unit_cost),
                occurred_at=at,
                reference_no=reference_no,
            )
            return await ledger.post(db, system("test"), [line])

    return post


Waiting = Callable[[], Awaitable[int]]
"""How many statements of this database wait for a lock at this moment."""


@pytest.fixture
def waiting(owner: asyncpg.Connection) -> Waiting:
    async def waiting() -> int:
        found: int = await owner.fetchval(
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        )
        return found

    return waiting


Plans = Callable[[], Awaitable[str]]
"""The plans of every SELECT since the last call, as Postgres makes them now."""


@pytest.fixture
async def plans(owner: asyncpg.Connection) -> AsyncIterator[Plans]:
    seen: list[tuple[str, tuple[Any, ...]]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.upper().startswith(("SELECT", "WITH")):
            seen.append((statement, tuple(parameters)))

    async def plans() -> str:
        lines = []
        for statement, parameters in seen:
            lines += [row[0] for row in await owner.fetch(f"explain {statement}", *parameters)]
        seen.clear()
        return "\n".join(lines)

    event.listen(Engine, "before_cursor_execute", note)
    yield plans
    event.remove(Engine, "before_cursor_execute", note)


@pytest.fixture
async def books(owner: asyncpg.Connection) -> AsyncIterator[asyncpg.Connection]:
    """BOLT in MAIN, SHOP, and YARD-, where stock may be negative; the books are checked after the test."""
    await stocked(owner, "BOLT", places=("MAIN", "SHOP", "YARD-"))
    await stocked(owner, "OLD", status="DISCONTINUED")
    await stocked(owner, "IDLE", status="INACTIVE")
    yield owner
    await assert_books(owner)
