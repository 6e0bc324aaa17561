"""The entries of a document before they are written, and what is said of them: to the database, the audit log, the
caller."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from msgspec import Struct

from erp_service.decimals import shortest, trimmed
from erp_service.inventory.posting.lines import PostingLine, Step
from erp_service.inventory.posting.row_locks import BalanceKey
from erp_service.inventory.schemas import EntryOrigin, LedgerEntry

_IN_AUDIT = 20
"""Entries of a document that its audit entry shows."""


class Header(Struct, frozen=True):
    """A document without its entries."""

    transaction_id: UUID
    user_id: int | None
    reverses: UUID | None


class NewEntry(Struct, frozen=True, gc=False):
    """A ledger entry. The database assigns its id and its time."""

    number: int
    line: PostingLine
    step: Step
    reverses_id: int | None

    @property
    def key(self) -> BalanceKey:
        """The balance that it changes; that of no location if it changes none."""
        return self.line.item.id, 0 if self.step.location is None else self.step.location.id

    @property
    def is_plain(self) -> bool:
        """Whether it says nothing but what every movement says."""
        line, step = self.line, self.step
        return not (
            line.origin
            or line.reason
            or line.notes
            or line.metadata
            or step.settles
            or self.reverses_id
            or step.not_covered is not None
        )

    @property
    def unit_cost(self) -> Decimal | None:
        return None if self.step.settles else self.line.unit_cost

    @property
    def reason(self) -> str | None:
        return self.step.settles or self.line.reason

    @property
    def origin(self) -> EntryOrigin | None:
        return "SETTLEMENT" if self.step.settles else self.line.origin


def new_entry(number: int, line: PostingLine, position: int, step: Step) -> NewEntry:
    reverses = line.reverses_ids
    return NewEntry(number, line, step, reverses[position] if position < len(reverses) else None)


def posted(header: Header, new: NewEntry, id_: int, recorded_at: datetime) -> LedgerEntry:
    line, step = new.line, new.step
    return LedgerEntry(
        id=id_,
        transaction_id=header.transaction_id,
        line=new.number,
        item_id=line.item.id,
        sku=line.item.sku,
        location_id=None if step.location is None else step.location.id,
        location=None if step.location is None else step.location.code,
        transaction_type=step.entry_type,
        quantity=trimmed(step.quantity),
        unit=line.item.unit,
        value=trimmed(step.value),
        unit_cost=_trimmed(new.unit_cost),
        on_hand_after=_trimmed(step.on_hand_after),
        item_on_hand_after=_trimmed(step.item_on_hand_after),
        value_after=_trimmed(step.value_after),
        origin=new.origin,
        reverses_id=new.reverses_id,
        not_covered=_trimmed(step.not_covered),
        occurred_at=line.occurred_at,
        recorded_at=recorded_at,
        reference_no=line.reference_no,
        notes=line.notes,
        reason=new.reason,
        metadata=line.metadata,
        user_id=header.user_id,
    )


def _trimmed(number: Decimal | None) -> Decimal | None:
    return None if number is None else trimmed(number)


def audit_values(header: Header, entries: Sequence[NewEntry]) -> dict[str, object]:
    """Enough to identify the document. The ledger keeps the rest, and nobody can change that either."""
    return {
        "reverses": header.reverses,
        "entries": len(entries),
        "first": [
            {
                "transaction_type": new.step.entry_type,
                "sku": new.line.item.sku,
                "location": None if new.step.location is None else new.step.location.code,
                "quantity": shortest(new.step.quantity),
                "value": shortest(new.step.value),
            }
            for new in entries[:_IN_AUDIT]
        ],
    }
