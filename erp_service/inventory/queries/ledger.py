"""Reads of the ledger: its entries, and documents with theirs."""

import unicodedata
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, func, or_, select
from sqlalchemy.orm import aliased

from erp_service import errors
from erp_service.db.pagination import SortKey, SortOrder, page
from erp_service.db.sessions import Session
from erp_service.inventory.models import Item, Location, StockEntry, StockTransaction
from erp_service.inventory.problems import TooManyEntries
from erp_service.inventory.queries.filters import equal
from erp_service.inventory.queries.items import item_id_of
from erp_service.inventory.schemas import EntryType, LedgerEntry, LedgerPage
from erp_service.inventory.stock_schemas import MOST_MOVEMENTS, Document

_NEWEST_FIRST = SortOrder([SortKey(StockEntry.id, "id", int)], descending=True)
_MOST_ENTRIES = 3 * MOST_MOVEMENTS  # of a document posted over the API: transfers that each need a settlement


async def ledger_page(
    db: Session,
    *,
    item_id: int | None = None,
    sku: str | None = None,
    location_id: int | None = None,
    transaction_type: EntryType | None = None,
    reference_no: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int,
    cursor: str | None = None,
) -> LedgerPage:
    """One page of entries with `since` <= occurred_at < `until`, newest first. Raises errors.Invalid for the cursor."""
    statement = _entries().where(
        *equal(
            (StockEntry.item_id, item_id),
            (StockEntry.location_id, location_id),
            (StockEntry.entry_type, transaction_type),
        )
    )
    if reference_no is not None:
        # entries are never rewritten: those from before texts were normalised may hold it decomposed
        forms = {reference_no, unicodedata.normalize("NFD", reference_no)}
        statement = statement.where(or_(*(StockEntry.reference_no == form for form in forms)))
    if sku is not None:
        statement = statement.where(StockEntry.item_id == await item_id_of(db, sku))
    if since is not None:
        statement = statement.where(StockEntry.occurred_at >= since)
    if until is not None:
        statement = statement.where(StockEntry.occurred_at < until)
    return await page(db, statement, LedgerEntry, _NEWEST_FIRST, limit=limit, cursor=cursor, into=LedgerPage)


async def document_by_id(db: Session, transaction_id: UUID) -> Document:
    """A document with its entries, in the order of their effects. Raises errors.NotFound, TooManyEntries."""
    document, reversal = StockTransaction, aliased(StockTransaction)
    first_entries = (
        select(StockEntry.id).where(StockEntry.transaction_id == transaction_id).limit(_MOST_ENTRIES + 1).subquery()
    )
    size = select(func.count()).select_from(first_entries).scalar_subquery()
    result = await db.execute(
        select(document.recorded_at, document.user_id, document.reverses, reversal.id, size)
        .outerjoin(reversal, reversal.reverses == document.id)
        .where(document.id == transaction_id)
    )
    if (row := result.one_or_none()) is None:
        raise errors.NotFound(f"There is no document {transaction_id}.")
    recorded_at, user_id, reverses, reversed_by, entry_count = row
    if entry_count > _MOST_ENTRIES:
        raise TooManyEntries
    return Document(
        transaction_id=transaction_id,
        recorded_at=recorded_at,
        user_id=user_id,
        reverses=reverses,
        reversed_by=reversed_by,
        entries=await document_entries(db, transaction_id),
    )


async def document_entries(db: Session, transaction_id: UUID) -> list[LedgerEntry]:
    """The entries of a document in the order of their effects; none if there is no such document."""
    statement = _entries().where(StockEntry.transaction_id == transaction_id)
    return [LedgerEntry(*row) for row in await db.execute(statement.order_by(StockEntry.line, StockEntry.id))]


def _entries() -> Select[*tuple[Any, ...]]:
    """Selects the fields of LedgerEntry, in their order."""
    e = StockEntry
    return (
        select(
            e.id,
            e.transaction_id,
            e.line,
            e.item_id,
            Item.sku,
            e.location_id,
            Location.code,
            e.entry_type,
            e.quantity,
            e.value,
            e.unit_cost,
            e.on_hand_after,
            e.value_after,
            e.occurred_at,
            e.recorded_at,
            e.reference_no,
            e.notes,
            e.reason,
            e.extra,
            e.user_id,
        )
        .join(Item, Item.id == e.item_id)
        .join(Location, Location.id == e.location_id)
    )
