"""The rules of moving stock: what a movement may say, which items take part, and how a document is taken back."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, Literal, NamedTuple, TypeVar
from uuid import UUID

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.audit.record import record
from erp_service.db.sessions import WriteSession
from erp_service.decimals import shortest
from erp_service.errors import Fault
from erp_service.inventory import ledger
from erp_service.inventory.ledger import MovementKind, PostingLine
from erp_service.inventory.problems import ItemNotActive
from erp_service.inventory.queries.ledger import document_by_id
from erp_service.inventory.row_locks import LockedRows, lock_for_share
from erp_service.inventory.schemas import LedgerEntry
from erp_service.inventory.stock_schemas import (
    Adjustment,
    AtOneLocation,
    Document,
    Issue,
    Receipt,
    Reversal,
    Transfer,
)
from erp_service.validation import MOST_FAULTS

T = TypeVar("T")
AnyMovement = Receipt | Issue | Transfer | Adjustment

AHEAD = timedelta(minutes=5)
"""Clocks differ; what lies further ahead is a mistake."""
EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
_IN_AUDIT = 20


async def post_one(db: WriteSession, who: Principal, movement: AnyMovement) -> Document:
    """Post one movement as a document of its own. Raises what `post_all` raises."""
    return await _post(db, who, [("", movement)])


async def post_all(db: WriteSession, who: Principal, movements: Sequence[AnyMovement]) -> Document:
    """Post the movements in their order, all or none.

    Raises errors.Invalid that names every bad line, errors.Forbidden for an adjustment by who is no ADMIN,
    ItemNotActive, and ledger.InsufficientStock, which points to the first line that there is not enough for."""
    placed = [(f"/movements/{index}", movement) for index, movement in enumerate(movements)]
    if not who.role.includes(Role.ADMIN):
        corrections = [Fault("needs the role ADMIN", pointer=at) for at, m in placed if isinstance(m, Adjustment)]
        if corrections:
            raise errors.Forbidden("Adjustments need the role ADMIN.", *corrections[:MOST_FAULTS])
    return await _post(db, who, placed)


async def _post(db: WriteSession, who: Principal, placed: Sequence[tuple[str, AnyMovement]]) -> Document:
    named = [name for _, movement in placed for name in _names(movement)]
    held = await lock_for_share(
        db,
        items=[name.reference for name in named if name.of == "item"],
        locations=[name.reference for name in named if name.of == "location"],
    )
    faults: list[Fault] = []
    now = datetime.now(UTC)
    lines = [_line(movement, at, held, now, faults) for at, movement in placed]
    if faults:
        raise errors.Invalid(None, *faults[:MOST_FAULTS])
    complete = [line for line in lines if line is not None]
    for line, (at, movement) in zip(complete, placed, strict=True):
        if (why := _status_fault(line)) is not None:
            faults.append(Fault(why, f"{at}/{'sku' if movement.item_id is None else 'item_id'}"))
    if faults:
        raise ItemNotActive(None, *faults[:MOST_FAULTS])
    document = await ledger.post(db, who, complete)
    await record(db, who, "stock.posted", document.transaction_id, after=_audited(document))
    return document


class _Name(NamedTuple):
    """How a body names an item or a place: by id or by word, exactly one of the two."""

    of: Literal["item", "location"]
    id_field: str
    word_field: str
    id: int | None
    word: str | None

    @property
    def reference(self) -> int | str:
        return self.word or self.id or 0

    def find(self, known: Mapping[int | str, T], at: str, faults: list[Fault]) -> T | None:
        if self.id is None and self.word is None:
            faults.append(Fault(f"is missing: give {self.id_field} or {self.word_field}", f"{at}/{self.id_field}"))
        elif self.id is not None and self.word is not None:
            faults.append(Fault(f"give {self.id_field} or {self.word_field}, not both", f"{at}/{self.word_field}"))
        elif (found := known.get(self.reference)) is not None:
            return found
        else:
            field = self.word_field if self.id is None else self.id_field
            faults.append(Fault(f"there is no such {self.of}", f"{at}/{field}"))
        return None


def _names(movement: AnyMovement) -> Iterator[_Name]:
    yield _Name("item", "item_id", "sku", movement.item_id, movement.sku)
    if isinstance(movement, AtOneLocation):
        yield _Name("location", "location_id", "location", movement.location_id, movement.location)
    else:
        m = movement
        yield _Name("location", "from_location_id", "from_location", m.from_location_id, m.from_location)
        yield _Name("location", "to_location_id", "to_location", m.to_location_id, m.to_location)


def _line(movement: AnyMovement, at: str, held: LockedRows, now: datetime, faults: list[Fault]) -> PostingLine | None:
    """The movement as the ledger takes it, or None and, in `faults`, why not."""
    item_name, *place_names = _names(movement)
    before = len(faults)
    item = item_name.find(held.items, at, faults)
    places = [name.find(held.locations, at, faults) for name in place_names]
    if isinstance(movement, Transfer) and places[0] is not None and places[0] == places[1]:
        field = "to_location_id" if movement.to_location is None else "to_location"
        faults.append(Fault("must be another place than where it comes from", f"{at}/{field}"))
    if isinstance(movement, Adjustment) and not movement.quantity:
        faults.append(Fault("must not be zero", f"{at}/quantity"))
    occurred_at = now if movement.occurred_at is None else movement.occurred_at
    if not EARLIEST <= occurred_at <= now + AHEAD:
        faults.append(Fault("must lie between 1900 and 5 minutes from now", f"{at}/occurred_at"))
    if len(faults) > before or item is None or places[0] is None:
        return None
    return PostingLine(
        kind=_kind(movement),
        item=item,
        location=places[0],
        to_location=places[1] if len(places) == 2 else None,
        quantity=movement.quantity,
        unit_cost=movement.unit_cost if isinstance(movement, Receipt) else None,
        occurred_at=occurred_at.astimezone(UTC),
        reference_no=movement.reference_no,
        notes=movement.notes,
        reason=movement.reason if isinstance(movement, Adjustment) else None,
        metadata=movement.metadata or {},
        pointer=at,
    )


def _kind(movement: AnyMovement) -> MovementKind:
    match movement:
        case Receipt():
            return "IN"
        case Issue():
            return "OUT"
        case Transfer():
            return "TRANSFER"
        case Adjustment():
            return "ADJUSTMENT"


def _status_fault(line: PostingLine) -> str | None:
    if line.item.status == "INACTIVE" and line.kind != "ADJUSTMENT":
        return f"{line.item.sku} is INACTIVE and takes adjustments only"
    if line.item.status == "DISCONTINUED" and line.kind == "IN":
        return f"{line.item.sku} is DISCONTINUED and takes no more receipts"
    return None


async def reverse(db: WriteSession, who: Principal, transaction_id: UUID, body: Reversal) -> Document:
    """Take a document back by new entries of the opposite kind, in the opposite order.

    What goes out again takes the value that its original brought in, as far as that is still there; what comes in
    again brings the value that went out. Settlements are not mirrored: they stated what was true at the time.
    Raises errors.NotFound, AlreadyReversed, ledger.InsufficientStock, and errors.Conflict for deleted items."""
    original = await document_by_id(db, transaction_id)
    movements = [list(group) for _, group in groupby(original.entries, key=lambda entry: entry.line)]
    held = await lock_for_share(
        db,
        items=[entry.item_id for entry in original.entries],
        locations=[entry.location_id for entry in original.entries],
    )
    now = datetime.now(UTC)
    lines = [_mirrored(movement, held, body.reason, now) for movement in reversed(movements)]
    document = await ledger.post(db, who, lines, reverses=transaction_id)
    await record(db, who, "stock.reversed", document.transaction_id, after=_audited(document), reason=body.reason)
    return document


_OPPOSITE: dict[str, MovementKind] = {
    "IN": "OUT",
    "OUT": "IN",
    "TRANSFER_OUT": "TRANSFER",
    "ADJUSTMENT": "ADJUSTMENT",
}


def _mirrored(movement: Sequence[LedgerEntry], held: LockedRows, reason: str, now: datetime) -> PostingLine:
    """`movement`: the entries of one line, its own first (of a transfer: what went out, then what came in)."""
    entry = movement[0]
    quantity = -entry.quantity
    place, to = _still_there(held.locations, entry.location_id, entry.location), None
    if entry.transaction_type == "TRANSFER_OUT":
        arrived = movement[1]
        place, to = _still_there(held.locations, arrived.location_id, arrived.location), place
    elif entry.transaction_type != "ADJUSTMENT":
        quantity = abs(quantity)
    return PostingLine(
        kind=_OPPOSITE[entry.transaction_type],
        item=_still_there(held.items, entry.item_id, entry.sku),
        location=place,
        to_location=to,
        quantity=quantity,
        value=abs(entry.value),
        occurred_at=now,
        reference_no=entry.reference_no,
        reason=reason,
    )


def _still_there(known: Mapping[int | str, T], id_: int, word: str) -> T:
    if (found := known.get(id_)) is None:
        raise errors.Conflict(f"{word} was deleted after this was posted.")
    return found


def _audited(document: Document) -> dict[str, Any]:
    """Enough to know it by; the ledger keeps the rest, and nobody can change that either."""
    return {
        "reverses": document.reverses,
        "entries": len(document.entries),
        "first": [
            {
                "transaction_type": entry.transaction_type,
                "sku": entry.sku,
                "location": entry.location,
                "quantity": shortest(entry.quantity),
                "value": shortest(entry.value),
            }
            for entry in document.entries[:_IN_AUDIT]
        ],
    }
