"""Stock movements posted without the API."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from erp_service.access.principals import system
from erp_service.db.engine import Database
from erp_service.inventory.posting import ledger, row_locks
from erp_service.inventory.posting.lines import PostingLine
from erp_service.inventory.posting.row_locks import Wanted
from erp_service.inventory.posting.valuation import cost_of

NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)

Post = Callable[..., Awaitable[Any]]
"""`await post("IN", "BOLT-M8", "MAIN", "10", unit_cost="2", at=NOON)` in a transaction of its own: the document."""


def posting(database: Database) -> Post:
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
            rows = await row_locks.lock_rows(db, [Wanted(sku, code)])
            line = PostingLine(
                kind=kind,
                item=rows.items[sku],
                location=rows.locations[code],
                quantity=Decimal(quantity),
                cost=None if unit_cost is None else cost_of(Decimal(quantity), Decimal(unit_cost)),
                unit_cost=None if unit_cost is None else Decimal(unit_cost),
                occurred_at=at,
                reference_no=reference_no,
            )
            return await ledger.post(db, system("test"), [line], rows)

    return post
