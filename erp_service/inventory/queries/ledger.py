"""Reads of the ledger: its entries, and documents with theirs."""

import unicodedata
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, ColumnElement, Select, Uuid, any_, bindparam, func, or_, select
from sqlalchemy.orm import aliased

from erp_service import errors
from erp_service.db.pagination import Listing, SortKey, SortOrder
from erp_service.db.sessions import Session
from erp_service.db.statements import Prepared
from erp_service.inventory.models import Item, Location, StockEntry, StockTransaction
from erp_service.inventory.posting.schemas import Document
from erp_service.inventory.problems import TooManyEntries
from erp_service.inventory.queries.items import item_id_of
from erp_service.inventory.queries.location_filter import location_ids
from erp_service.inventory.schemas import EntryOrigin, EntryType, LedgerEntry, LedgerPage, LedgerSort

_MOST_ENTRIES = 10_000
"""Of a document in one answer, which then has 6 MB. A count posts the most: 5,000 lines, each with a settlement."""


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
            Item.unit,
            e.value,
            e.unit_cost,
            e.on_hand_after,
            e.item_on_hand_after,
            e.value_after,
            e.origin,
            e.reverses_id,
            e.not_covered,
            e.occurred_at,
            e.recorded_at,
            e.reference_no,
            e.notes,
            e.reason,
            e.extra,
            e.user_id,
        )
        .join(Item, Item.id == e.item_id)
        .outerjoin(Location, Location.id == e.location_id)
    )


_FILTERS: dict[str, ColumnElement[bool]] = {
    "item_id": StockEntry.item_id == bindparam("item_id"),
    "item_id_of_sku": StockEntry.item_id == bindparam("item_id_of_sku"),
    "location_id": StockEntry.location_id == bindparam("location_id"),
    "location_ids": StockEntry.location_id == any_(bindparam("location_ids", type_=ARRAY(BigInteger))),
    "entry_type": StockEntry.entry_type == bindparam("entry_type"),
    "origin": StockEntry.origin == bindparam("origin"),
    "reference_no": StockEntry.reference_no == bindparam("reference_no"),
    # entries are never rewritten: those from before texts were normalised may hold it decomposed
    "decomposed": or_(
        StockEntry.reference_no == bindparam("composed"), StockEntry.reference_no == bindparam("decomposed")
    ),
    "since": StockEntry.occurred_at >= bindparam("since"),
    "until": StockEntry.occurred_at < bindparam("until"),
    "recorded_since": StockEntry.recorded_at >= bindparam("recorded_since"),
    "recorded_until": StockEntry.recorded_at < bindparam("recorded_until"),
}
_ID = SortKey(StockEntry.id, "id", int)
_RECORDED_AT = SortKey(StockEntry.recorded_at, "recorded_at", datetime)


def _ledger(*keys: SortKey) -> Listing[LedgerEntry, LedgerPage]:
    return Listing(
        _entries(),
        LedgerEntry,
        LedgerPage,
        {"-id": SortOrder(keys, descending=True), "id": SortOrder(keys)},
        _FILTERS,
    )


_LEDGER = _ledger(_ID)
# A page in the order of ids would search for the times from one end of the ledger. Of one item it is the same order.
_RECORDED = _ledger(_RECORDED_AT, _ID)
_ENTRIES_OF = Prepared(
    _entries().where(StockEntry.transaction_id == bindparam("transaction_id")).order_by(StockEntry.line, StockEntry.id)
)


async def ledger_page(
    db: Session,
    *,
    item_id: int | None = None,
    sku: str | None = None,
    location_id: int | None = None,
    location: str | None = None,
    descendants: bool = False,
    transaction_type: EntryType | None = None,
    origin: EntryOrigin | None = None,
    reference_no: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    recorded_since: datetime | None = None,
    recorded_until: datetime | None = None,
    sort: LedgerSort | None = None,
    limit: int,
    cursor: str | None = None,
) -> LedgerPage:
    """One page of entries with `since` <= occurred_at < `until`, and likewise `recorded_at`, newest first unless `sort`
    says otherwise. With a time of recording they are in the order of these times.

    Raises errors.Invalid for the cursor and the location."""
    decomposed = None if reference_no is None else unicodedata.normalize("NFD", reference_no)
    has_two_forms = decomposed != reference_no
    places = await location_ids(db, location_id=location_id, location=location, descendants=descendants)
    one = None if places is None or len(places) != 1 else places[0]
    parameters = {
        "item_id": item_id,
        "item_id_of_sku": None if sku is None else await item_id_of(db, sku),
        # one location has an index that gives its entries in order
        "location_id": one,
        "location_ids": places if one is None else None,
        "entry_type": transaction_type,
        "origin": origin,
        "reference_no": None if has_two_forms else reference_no,
        "decomposed": decomposed if has_two_forms else None,
        "composed": reference_no,
        "since": since,
        "until": until,
        "recorded_since": recorded_since,
        "recorded_until": recorded_until,
    }
    ledger = _LEDGER if recorded_since is recorded_until is None else _RECORDED
    return await ledger.page(db, parameters, sort=sort, limit=limit, cursor=cursor)


def _document() -> Select[*tuple[Any, ...]]:
    """Selects a document's own fields, what reverses it, and how many entries it has, up to one more than an answer
    may hold."""
    document, reversal, id_ = StockTransaction, aliased(StockTransaction), bindparam("transaction_id", type_=Uuid)
    first_entries = select(StockEntry.id).where(StockEntry.transaction_id == id_).limit(_MOST_ENTRIES + 1).subquery()
    size = select(func.count()).select_from(first_entries).scalar_subquery()
    reversals = select(reversal.id).where(reversal.reverses == id_).order_by(reversal.id)
    return select(
        document.recorded_at, document.user_id, document.reverses, func.array(reversals.scalar_subquery()), size
    ).where(document.id == id_)


_DOCUMENT = Prepared(_document())


async def document_by_id(db: Session, transaction_id: UUID) -> Document:
    """A document with its entries, in the order of their effects. Raises errors.NotFound, TooManyEntries."""
    result = await db.execute(_DOCUMENT, {"transaction_id": transaction_id})
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
    return [LedgerEntry(*row) for row in await db.execute(_ENTRIES_OF, {"transaction_id": transaction_id})]
