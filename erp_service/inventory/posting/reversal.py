"""What a reversal posts: the opposite of a document, whole or in parts, each line up to what it was."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby
from typing import TypeVar
from uuid import UUID

from msgspec import Struct
from sqlalchemy import text

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.db.sessions import WriteSession
from erp_service.db.statements import Prepared, number_array
from erp_service.decimals import shortest
from erp_service.errors import Fault
from erp_service.inventory.posting import ledger
from erp_service.inventory.posting.lines import LineKind, PostingLine, Revalue
from erp_service.inventory.posting.periods import refuse_closed
from erp_service.inventory.posting.row_locks import LockedItem, LockedLocation, LockedRows, Wanted, lock_rows
from erp_service.inventory.posting.schemas import AHEAD, Document, Reversal
from erp_service.inventory.posting.valuation import ZERO, share_so_far
from erp_service.inventory.problems import AlreadyReversed
from erp_service.inventory.queries.ledger import document_by_id
from erp_service.inventory.schemas import LedgerEntry
from erp_service.inventory.units import UnitFault, in_item_unit
from erp_service.timestamps import text_of
from erp_service.validation import MOST_FAULTS

Row = TypeVar("Row", LockedItem, LockedLocation)


async def reverse(db: WriteSession, who: Principal, transaction_id: UUID, body: Reversal) -> Document:
    """Reverse a document, or lines of it up to what they were, by entries of the opposite kind in the opposite order.

    What came in goes out with the share of the value that it brought, what went out comes in with the share that it
    took. Settlements are not reversed: they stated what was true at the time. Raises errors.NotFound, AlreadyReversed,
    InsufficientStock, PeriodClosed, errors.Invalid, and errors.Conflict for a deleted item or location."""
    original = await document_by_id(db, transaction_id)
    parts = _parts(original, body)
    occurred_at = _moment(original, body)
    rows = await lock_rows(db, [wanted for part in parts for wanted in part.wanted()])
    # Read only now: a concurrent reversal of this document locks the same rows, so it has ended by now.
    done = await _reversed_so_far(db, transaction_id, parts)
    chosen = _chosen(parts, done, rows, whole=body.lines is None)
    await refuse_closed(db, [(body.occurred_at, "/occurred_at")])
    lines = [_posting_line(part, done, rows, body.reason, occurred_at) for part in reversed(chosen)]
    return await ledger.post(db, who, lines, rows, reverses=transaction_id, reason=body.reason)


class _Part(Struct, frozen=True):
    """A line of the document and how much of it is reversed; None for all that is left of it."""

    entries: Sequence[LedgerEntry]
    """Its own: one, or both ends of a transfer, TRANSFER_OUT first."""
    quantity: Decimal | None
    pointer: str

    @property
    def first(self) -> LedgerEntry:
        return self.entries[0]

    @property
    def is_transfer(self) -> bool:
        return self.first.transaction_type == "TRANSFER_OUT"

    @property
    def whole(self) -> Decimal:
        return abs(self.first.quantity)

    def wanted(self) -> list[Wanted]:
        return [Wanted(entry.item_id, entry.location_id, valued=not self.is_transfer) for entry in self.entries]


def _parts(document: Document, body: Reversal) -> list[_Part]:
    """In the order of the lines. Raises errors.Invalid."""
    by_line = {
        number: [entry for entry in entries if not _is_settlement(entry)]
        for number, entries in groupby(document.entries, key=lambda entry: entry.line)
    }
    if body.lines is None:
        return [_Part(entries, None, "") for entries in by_line.values() if entries]
    faults, parts = [], {}
    for index, asked in enumerate(body.lines):
        pointer = f"/lines/{index}"
        entries = by_line.get(asked.line)
        if not entries:
            faults.append(Fault("the document has no such line", f"{pointer}/line"))
        elif asked.line in parts:
            faults.append(Fault("the line stands here twice", f"{pointer}/line"))
        elif asked.quantity is not None and not entries[0].quantity:
            faults.append(Fault("a change of value has no quantity: leave it out", f"{pointer}/quantity"))
        else:
            parts[asked.line] = _Part(entries, asked.quantity, pointer)
    if faults:
        raise errors.Invalid(None, *faults[:MOST_FAULTS])
    return [part for _, part in sorted(parts.items())]


def _is_settlement(entry: LedgerEntry) -> bool:
    # before entries told their origin, an adjustment of zero was nothing else
    return entry.origin == "SETTLEMENT" or (not entry.quantity and entry.origin is None)


def _moment(document: Document, body: Reversal) -> datetime:
    now = datetime.now(UTC)
    if (stated := body.occurred_at) is None:
        return now
    happened = max(entry.occurred_at for entry in document.entries)
    if not happened <= stated <= now + AHEAD:
        detail = f"must lie between {text_of(happened)}, when the document happened, and 5 minutes from now"
        raise errors.Invalid(None, Fault(detail, "/occurred_at"))
    return stated.astimezone(UTC)


# abs: the reversal of an entry is of the opposite sign. Reversals from before entries told their origin were of whole
# documents, and their entries do not say which ones they reverse.
_REVERSED = Prepared(
    text("""
select reverses_id, sum(abs(quantity)) from stock_ledger
where reverses_id = any (cast(cast(:ids as text) as bigint[])) group by reverses_id
union all
select null, null where exists (
  select from stock_transactions t join stock_ledger e on e.transaction_id = t.id
  where t.reverses = cast(:transaction_id as uuid) and e.origin is null
)
""")
)


async def _reversed_so_far(db: WriteSession, transaction_id: UUID, parts: Sequence[_Part]) -> dict[int, Decimal]:
    """How much of each entry is reversed already, by its id; those that are not reversed at all are absent.

    Raises AlreadyReversed if all of the document is."""
    ids = number_array([part.first.id for part in parts])
    rows = await db.execute(_REVERSED, {"ids": ids, "transaction_id": transaction_id})
    done = dict(tuple(row) for row in rows)
    if None in done:
        raise AlreadyReversed
    return done


def _chosen(parts: Sequence[_Part], done: Mapping[int, Decimal], rows: LockedRows, *, whole: bool) -> list[_Part]:
    """The parts with their quantities. Raises AlreadyReversed, errors.Invalid."""
    chosen, gone, faults = [], [], []
    for part in parts:
        first = part.first
        left = part.whole - done.get(first.id, ZERO)
        item = _undeleted(rows.items, first.item_id, first.sku)
        quantity = left if part.quantity is None else part.quantity
        if not left and (first.quantity or first.id in done):
            gone.append(Fault("nothing is left of this line", f"{part.pointer}/line"))
        elif quantity > left:
            gone.append(Fault(f"is more than the {shortest(left)} left of this line", f"{part.pointer}/quantity"))
        else:
            try:
                in_item_unit(item, quantity, None)
            except UnitFault as fault:
                # what is left of an old line may be finer than the item is now
                if part.quantity is not None:
                    faults.append(Fault(str(fault), f"{part.pointer}/quantity"))
            chosen.append(_Part(part.entries, quantity, part.pointer))
    if faults:
        raise errors.Invalid(None, *faults[:MOST_FAULTS])
    if not chosen or (gone and not whole):
        raise AlreadyReversed(None, *([] if whole else gone[:MOST_FAULTS]))
    return chosen


_OPPOSITE: dict[str, LineKind] = {
    "IN": "OUT",
    "OUT": "IN",
    "TRANSFER_OUT": "TRANSFER",
    "ADJUSTMENT": "ADJUSTMENT",
}


def _posting_line(
    part: _Part, done: Mapping[int, Decimal], rows: LockedRows, reason: str, occurred_at: datetime
) -> PostingLine:
    first, quantity = part.first, part.quantity or ZERO
    places = [
        None if entry.location_id is None else _undeleted(rows.locations, entry.location_id, entry.location)
        for entry in reversed(part.entries)
    ]
    kind: LineKind = _OPPOSITE[first.transaction_type] if first.quantity else "REVALUATION"
    before = done.get(first.id, ZERO)
    share = share_so_far(abs(first.value), before + quantity, part.whole) if quantity else ZERO
    given = share - share_so_far(abs(first.value), before, part.whole) if quantity else None
    return PostingLine(
        kind=kind,
        item=_undeleted(rows.items, first.item_id, first.sku),
        location=places[0],
        to_location=places[1] if part.is_transfer else None,
        quantity=-quantity if kind == "ADJUSTMENT" and first.quantity > 0 else quantity,
        given_value=None if part.is_transfer else given,
        revaluation=Revalue(difference=first.value, undo=True) if kind == "REVALUATION" else None,
        occurred_at=occurred_at,
        reference_no=first.reference_no,
        reason=reason,
        origin="REVERSAL",
        reverses_ids=tuple(entry.id for entry in reversed(part.entries)),
        pointer=part.pointer or None,
    )


def _undeleted(rows: Mapping[int | str, Row], id_: int, word: str | None) -> Row:
    if (row := rows.get(id_)) is None:
        raise errors.Conflict(f"{word} was deleted after this was posted. Restore it first.")
    return row
