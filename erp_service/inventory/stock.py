"""The rules of posting and reversing: which rows a request names, which movements an item's status allows, what a
reversal posts. The ledger applies the lines that come out of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby
from typing import Literal, TypeAlias, TypeVar
from uuid import UUID

from msgspec import Struct
from sqlalchemy import text

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.db.sessions import WriteSession
from erp_service.errors import Fault
from erp_service.inventory import ledger
from erp_service.inventory.posting_lines import MovementKind, PostingLine
from erp_service.inventory.problems import AlreadyReversed, ItemNotActive
from erp_service.inventory.queries.ledger import document_by_id
from erp_service.inventory.row_locks import LockedItem, LockedLocation, LockedRows, lock_rows
from erp_service.inventory.schemas import LedgerEntry
from erp_service.inventory.stock_schemas import (
    AHEAD,
    EARLIEST,
    Adjustment,
    AtOneLocation,
    Document,
    Issue,
    Receipt,
    Reversal,
    Transfer,
)
from erp_service.texts import identifier_fault
from erp_service.validation import MOST_FAULTS

Row = TypeVar("Row", LockedItem, LockedLocation)
AnyMovement: TypeAlias = Receipt | Issue | Transfer | Adjustment
PointerAndMovement: TypeAlias = tuple[str, AnyMovement]
"""The JSON pointer to a movement in the request's body, and the movement."""


async def post_one(db: WriteSession, who: Principal, movement: AnyMovement) -> Document:
    """Post one movement as a document of its own. Raises what `post_all` raises."""
    return await _post(db, who, [("", movement)])


async def post_all(db: WriteSession, who: Principal, movements: Sequence[AnyMovement]) -> Document:
    """Post the movements in their order, all or none.

    Raises errors.Invalid, which names every bad line; errors.Forbidden for adjustments if `who` is not an ADMIN;
    ItemNotActive; InsufficientStock, which points to the first line that takes more than there is."""
    with_pointers = [(f"/movements/{index}", movement) for index, movement in enumerate(movements)]
    if not who.role.includes(Role.ADMIN):
        faults = [Fault("needs the role ADMIN", pointer) for pointer, m in with_pointers if isinstance(m, Adjustment)]
        if faults:
            raise errors.Forbidden("Adjustments need the role ADMIN.", *faults[:MOST_FAULTS])
    return await _post(db, who, with_pointers)


async def _post(db: WriteSession, who: Principal, movements: Sequence[PointerAndMovement]) -> Document:
    requests = [_Request(pointer, movement, *_references(movement)) for pointer, movement in movements]
    rows = await lock_rows(db, ((request.item.key, at.key) for request in requests for at in request.locations))
    faults: list[Fault] = []
    now = datetime.now(UTC)
    lines = [line for request in requests if (line := _line(request, rows, now, faults)) is not None]
    if faults:
        raise errors.Invalid(None, *faults[:MOST_FAULTS])
    faults.extend(_status_faults(lines, requests))
    if faults:
        raise ItemNotActive(None, *faults[:MOST_FAULTS])
    return await ledger.post(db, who, lines, rows.balances)


class _Reference(Struct, frozen=True, gc=False):
    """How a body names an item or a location: by its id or by its word (sku, code), exactly one of the two."""

    table: Literal["item", "location"]
    id_field: str
    word_field: str
    id: int | None
    word: str | None

    @property
    def key(self) -> int | str:
        """The key of the row in LockedRows; 0, which no row has, if the body names none."""
        return self.word or self.id or 0

    @property
    def field(self) -> str:
        """The field that the body uses."""
        return self.word_field if self.id is None else self.id_field

    def resolve(self, rows: Mapping[int | str, Row], pointer: str, faults: list[Fault]) -> Row | None:
        """The row; None, and a fault, if there is none or the body does not name exactly one."""
        if self.id is None and self.word is None:
            faults.append(Fault(f"is missing: give {self.id_field} or {self.word_field}", f"{pointer}/{self.id_field}"))
        elif self.id is not None and self.word is not None:
            faults.append(Fault(f"give {self.id_field} or {self.word_field}, not both", f"{pointer}/{self.word_field}"))
        elif (row := rows.get(self.key)) is not None:
            return row
        else:
            # what nobody sees is why a text that was copied finds nothing
            fault = None if self.word is None else identifier_fault(self.word)
            why = "" if fault is None else f": the {self.word_field} {fault}"
            faults.append(Fault(f"there is no such {self.table}{why}", f"{pointer}/{self.field}"))
        return None


class _Request(Struct, frozen=True, gc=False):
    """A movement, where it stands in the body, and what it names."""

    pointer: str
    movement: AnyMovement
    item: _Reference
    locations: Sequence[_Reference]
    """Of a transfer both, the source first."""


def _references(movement: AnyMovement) -> tuple[_Reference, list[_Reference]]:
    """The item, and the location or locations."""
    m = movement
    item = _Reference("item", "item_id", "sku", m.item_id, m.sku)
    if isinstance(m, AtOneLocation):
        return item, [_Reference("location", "location_id", "location", m.location_id, m.location)]
    return item, [
        _Reference("location", "from_location_id", "from_location", m.from_location_id, m.from_location),
        _Reference("location", "to_location_id", "to_location", m.to_location_id, m.to_location),
    ]


def _line(request: _Request, rows: LockedRows, now: datetime, faults: list[Fault]) -> PostingLine | None:
    """The movement as the ledger takes it. None if it has faults; they are added to `faults`."""
    fault_count = len(faults)
    pointer, movement = request.pointer, request.movement
    item = request.item.resolve(rows.items, pointer, faults)
    locations = [reference.resolve(rows.locations, pointer, faults) for reference in request.locations]
    location, to_location = (*locations, None)[:2]
    occurred_at = movement.occurred_at or now
    if location is not None and location == to_location:
        detail = "must be another location than the one that the stock comes from"
        faults.append(Fault(detail, f"{pointer}/{request.locations[1].field}"))
    if isinstance(movement, Adjustment) and not movement.quantity:
        faults.append(Fault("must not be zero", f"{pointer}/quantity"))
    if not EARLIEST <= occurred_at <= now + AHEAD:
        faults.append(Fault("must lie between 1900 and 5 minutes from now", f"{pointer}/occurred_at"))
    if len(faults) > fault_count or item is None or location is None:
        return None
    kind, unit_cost, reason = _kind_and_details(movement)
    return PostingLine(
        kind=kind,
        item=item,
        location=location,
        to_location=to_location,
        quantity=movement.quantity,
        unit_cost=unit_cost,
        occurred_at=occurred_at.astimezone(UTC),
        reference_no=movement.reference_no,
        notes=movement.notes,
        reason=reason,
        metadata=movement.metadata or {},
        pointer=pointer,
    )


def _kind_and_details(movement: AnyMovement) -> tuple[MovementKind, Decimal | None, str | None]:
    """The kind, the unit cost and the reason."""
    match movement:
        case Receipt():
            return "IN", movement.unit_cost, None
        case Issue():
            return "OUT", None, None
        case Transfer():
            return "TRANSFER", None, None
        case Adjustment():
            return "ADJUSTMENT", None, movement.reason


def _status_faults(lines: Sequence[PostingLine], requests: Sequence[_Request]) -> Iterator[Fault]:
    for line, request in zip(lines, requests, strict=True):
        if (detail := status_fault(line)) is not None:
            yield Fault(detail, f"{request.pointer}/{request.item.field}")


def status_fault(line: PostingLine) -> str | None:
    """Why the item's status does not allow the movement; None if it does."""
    if line.item.status == "INACTIVE" and line.kind != "ADJUSTMENT":
        return f"{line.item.sku} is INACTIVE and takes adjustments only"
    if line.item.status == "DISCONTINUED" and line.kind == "IN":
        return f"{line.item.sku} is DISCONTINUED and takes no more receipts"
    return None


async def reverse(db: WriteSession, who: Principal, transaction_id: UUID, body: Reversal) -> Document:
    """Reverse a document by new entries of the opposite kind, in the opposite order.

    A receipt is reversed by an issue at the value of the receipt, as far as that value is still on hand; an issue by
    a receipt at the value of the issue. Settlements are not reversed: they stated what was true at the time.
    Raises errors.NotFound, AlreadyReversed, InsufficientStock, and errors.Conflict for a deleted item or location."""
    original = await document_by_id(db, transaction_id)
    entries_by_line = [list(entries) for _, entries in groupby(original.entries, key=lambda entry: entry.line)]
    rows = await lock_rows(db, ((entry.item_id, entry.location_id) for entry in original.entries))
    now = datetime.now(UTC)
    lines = [_reversal_line(entries, rows, body.reason, now) for entries in reversed(entries_by_line)]
    # Checked only now: a concurrent reversal of this document locks the same balances, so it has ended by now.
    if await db.scalar(_REVERSAL_EXISTS, {"transaction_id": transaction_id}):
        raise AlreadyReversed
    return await ledger.post(db, who, lines, rows.balances, reverses=transaction_id, reason=body.reason)


_REVERSAL_EXISTS = text("select exists (select from stock_transactions where reverses = cast(:transaction_id as uuid))")

_OPPOSITE: dict[str, MovementKind] = {
    "IN": "OUT",
    "OUT": "IN",
    "TRANSFER_OUT": "TRANSFER",
    "ADJUSTMENT": "ADJUSTMENT",
}


def _reversal_line(entries: Sequence[LedgerEntry], rows: LockedRows, reason: str, now: datetime) -> PostingLine:
    """`entries` are those of one line: its own first (of a transfer: TRANSFER_OUT, TRANSFER_IN), then a settlement."""
    entry = entries[0]
    quantity = -entry.quantity
    location, to_location = _undeleted(rows.locations, entry.location_id, entry.location), None
    if entry.transaction_type == "TRANSFER_OUT":
        arrival = entries[1]
        location, to_location = _undeleted(rows.locations, arrival.location_id, arrival.location), location
    elif entry.transaction_type != "ADJUSTMENT":
        quantity = abs(quantity)
    return PostingLine(
        kind=_OPPOSITE[entry.transaction_type],
        item=_undeleted(rows.items, entry.item_id, entry.sku),
        location=location,
        to_location=to_location,
        quantity=quantity,
        value=abs(entry.value),
        occurred_at=now,
        reference_no=entry.reference_no,
        reason=reason,
    )


def _undeleted(rows: Mapping[int | str, Row], id_: int, word: str) -> Row:
    if (row := rows.get(id_)) is None:
        raise errors.Conflict(f"{word} was deleted after this was posted.")
    return row
