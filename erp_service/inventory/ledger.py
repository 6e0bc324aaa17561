"""Posting a document to the ledger. Only this module and imports/bulk_posting.py write stock.

The rows are locked first, in the one order of row_locks.py. The ids of the entries are assigned last, while the
balances are locked: so for one item at one location the order of ids is the order of effects. Nothing here reads the
ledger, so a posting costs the same after ten movements and after ten million.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy import text
from uuid_utils.compat import uuid7

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.audit.record import INSERT_ENTRY, entry_parameters
from erp_service.db.sessions import WriteSession
from erp_service.db.statements import Prepared, number_array, text_array
from erp_service.decimals import shortest, trimmed
from erp_service.errors import Fault
from erp_service.inventory.posting_lines import PostingLine, Step, steps
from erp_service.inventory.problems import InsufficientStock
from erp_service.inventory.row_locks import BalanceKey, LockedLocation
from erp_service.inventory.schemas import EntryType, LedgerEntry
from erp_service.inventory.stock_schemas import Document
from erp_service.inventory.valuation import SETTLEMENT, Balance, DoesNotFit, EntryAmounts, NotEnough

_IN_AUDIT = 20
"""Entries of a document that its audit entry shows."""


async def post(
    db: WriteSession,
    who: Principal,
    lines: Sequence[PostingLine],
    balances: Mapping[BalanceKey, Balance],
    *,
    reverses: UUID | None = None,
    reason: str | None = None,
) -> Document:
    """Apply the lines in sequence, all or none, and write them as one document, with its audit entry.

    `balances` are the locked ones of all lines; `reason` is that of the audit entry. Raises InsufficientStock, and
    errors.Invalid for what the ledger cannot hold."""
    state = dict(balances)
    entries = [_new_entry(number, line, *step) for number, line in enumerate(lines, 1) for step in _apply(line, state)]
    header = _Header(uuid7(), who.user_id, reverses)
    audit_entry = entry_parameters(
        who,
        "stock.posted" if reverses is None else "stock.reversed",
        header.transaction_id,
        after=_audit_values(header, entries),
        reason=reason,
    )
    ids, times, recorded_at = await _write(db, header, entries, state, audit_entry)
    return Document(
        transaction_id=header.transaction_id,
        recorded_at=recorded_at,
        user_id=header.user_id,
        reverses=reverses,
        reversed_by=None,
        entries=[_posted(header, *written) for written in zip(entries, ids, times, strict=True)],
    )


def _apply(line: PostingLine, balances: dict[BalanceKey, Balance]) -> list[Step]:
    """Like `steps`, but raises InsufficientStock and errors.Invalid, with pointers into the request's body."""
    pointer = None if line.pointer is None else f"{line.pointer}/quantity"
    try:
        return steps(line, balances)
    except NotEnough as short:
        available = shortest(short.available)
        raise InsufficientStock(
            f"{shortest(abs(line.quantity))} of {line.item.sku} wanted at {line.location.code}, {available} available.",
            *([] if pointer is None else [Fault(f"is more than the {available} available", pointer=pointer)]),
            available=available,
            item_id=line.item.id,
            location_id=line.location.id,
        ) from None
    except DoesNotFit as exc:
        fault = Fault(str(exc), pointer=pointer)
        raise errors.Invalid(f"{shortest(line.quantity)} of {line.item.sku} {exc}.", fault) from None


class _Header(Struct, frozen=True):
    """A document without its entries, before it is written."""

    transaction_id: UUID
    user_id: int | None
    reverses: UUID | None


class _NewEntry(Struct, frozen=True, gc=False):
    """A ledger entry before it is written: the database assigns its id and its time."""

    number: int
    line: PostingLine
    location: LockedLocation
    entry_type: EntryType
    unit_cost: Decimal | None
    reason: str | None
    amounts: EntryAmounts


def _new_entry(
    number: int, line: PostingLine, entry_type: EntryType, location: LockedLocation, amounts: EntryAmounts
) -> _NewEntry:
    if not amounts.quantity:
        return _NewEntry(number, line, location, "ADJUSTMENT", None, SETTLEMENT, amounts)
    return _NewEntry(number, line, location, entry_type, line.unit_cost, line.reason, amounts)


def _posted(header: _Header, new: _NewEntry, id_: int, recorded_at: datetime) -> LedgerEntry:
    line, amounts = new.line, new.amounts
    return LedgerEntry(
        id=id_,
        transaction_id=header.transaction_id,
        line=new.number,
        item_id=line.item.id,
        sku=line.item.sku,
        location_id=new.location.id,
        location=new.location.code,
        transaction_type=new.entry_type,
        quantity=trimmed(amounts.quantity),
        value=trimmed(amounts.value),
        unit_cost=None if new.unit_cost is None else trimmed(new.unit_cost),
        on_hand_after=trimmed(amounts.on_hand_after),
        value_after=trimmed(amounts.value_after),
        occurred_at=line.occurred_at,
        recorded_at=recorded_at,
        reference_no=line.reference_no,
        notes=line.notes,
        reason=new.reason,
        metadata=line.metadata,
        user_id=header.user_id,
    )


def _audit_values(header: _Header, entries: Sequence[_NewEntry]) -> dict[str, object]:
    """Enough to identify the document. The ledger keeps the rest, and nobody can change that either."""
    return {
        "reverses": header.reverses,
        "entries": len(entries),
        "first": [
            {
                "transaction_type": new.entry_type,
                "sku": new.line.item.sku,
                "location": new.location.code,
                "quantity": shortest(new.amounts.quantity),
                "value": shortest(new.amounts.value),
            }
            for new in entries[:_IN_AUDIT]
        ],
    }


# One statement writes everything. The balances are locked by now, so the order in which it touches them is free.
# An INSERT that selects with ORDER BY assigns its ids in that order. The arrays are in a CTE for the reason that
# row_locks.py gives: one plan, whatever their length.
_WRITE = Prepared(
    text(f"""
with arguments as materialized (
  select
    cast(:transaction_id as uuid) as transaction_id, cast(:user_id as bigint) as user_id,
    cast(:reverses as uuid) as reverses,
    cast(cast(:balance_items as text) as bigint[]) as balance_items,
    cast(cast(:balance_locations as text) as bigint[]) as balance_locations,
    cast(cast(:on_hand as text) as numeric[]) as on_hand,
    cast(cast(:balance_values as text) as numeric[]) as balance_values,
    cast(cast(:averages as text) as numeric[]) as averages,
    cast(cast(:lines as text) as integer[]) as lines,
    cast(cast(:items as text) as bigint[]) as items,
    cast(cast(:locations as text) as bigint[]) as locations,
    cast(cast(:types as text) as text[]) as types,
    cast(cast(:quantities as text) as numeric[]) as quantities,
    cast(cast(:values as text) as numeric[]) as values,
    cast(cast(:unit_costs as text) as numeric[]) as unit_costs,
    cast(cast(:on_hand_after as text) as numeric[]) as on_hand_after,
    cast(cast(:value_after as text) as numeric[]) as value_after,
    cast(cast(:occurred_at as text) as timestamptz[]) as occurred_at,
    cast(cast(:reference_nos as text) as text[]) as reference_nos,
    cast(cast(:notes as text) as text[]) as notes,
    cast(cast(:reasons as text) as text[]) as reasons,
    cast(cast(:metadata as text) as jsonb[]) as metadata
), document as (
  insert into stock_transactions (id, user_id, reverses)
  select transaction_id, user_id, reverses from arguments returning recorded_at
), new_balances as (
  update stock_balances b set on_hand = n.on_hand, value = n.value, last_average = n.last_average
  from arguments a cross join unnest(a.balance_items, a.balance_locations, a.on_hand, a.balance_values, a.averages)
    n (item_id, location_id, on_hand, value, last_average)
  where b.item_id = n.item_id and b.location_id = n.location_id
), audit_entry as ({INSERT_ENTRY}), entries as (
  insert into stock_ledger (
    transaction_id, line, item_id, location_id, entry_type, quantity, value, unit_cost, on_hand_after, value_after,
    occurred_at, reference_no, notes, reason, metadata, user_id
  )
  select
    a.transaction_id, e.line, e.item_id, e.location_id, e.entry_type, e.quantity, e.value, e.unit_cost,
    e.on_hand_after, e.value_after, e.occurred_at, e.reference_no, e.notes, e.reason, e.metadata, a.user_id
  from arguments a cross join unnest(
    a.lines, a.items, a.locations, a.types, a.quantities, a.values, a.unit_costs, a.on_hand_after, a.value_after,
    a.occurred_at, a.reference_nos, a.notes, a.reasons, a.metadata
  ) with ordinality e (
    line, item_id, location_id, entry_type, quantity, value, unit_cost, on_hand_after, value_after,
    occurred_at, reference_no, notes, reason, metadata, ordinality
  )
  order by e.ordinality
  returning id, recorded_at
)
select array_agg(id order by id), array_agg(recorded_at order by id), (select recorded_at from document) from entries
""")  # noqa: S608 a constant of audit/record.py
)


async def _write(
    db: WriteSession,
    header: _Header,
    entries: Sequence[_NewEntry],
    balances: Mapping[BalanceKey, Balance],
    audit_entry: Mapping[str, object],
) -> tuple[list[int], list[datetime], datetime]:
    """The ids of the entries and their `recorded_at`, in their order, and the `recorded_at` of the document."""
    amounts = [new.amounts for new in entries]
    lines = [new.line for new in entries]
    parameters: dict[str, object] = {
        "transaction_id": header.transaction_id,
        "user_id": header.user_id,
        "reverses": header.reverses,
        "balance_items": number_array([item_id for item_id, _ in balances]),
        "balance_locations": number_array([location_id for _, location_id in balances]),
        "on_hand": number_array([balance.on_hand for balance in balances.values()]),
        "balance_values": number_array([balance.value for balance in balances.values()]),
        "averages": number_array([balance.last_average for balance in balances.values()]),
        "lines": number_array([new.number for new in entries]),
        "items": number_array([line.item.id for line in lines]),
        "locations": number_array([new.location.id for new in entries]),
        "types": text_array([new.entry_type for new in entries]),
        "quantities": number_array([part.quantity for part in amounts]),
        "values": number_array([part.value for part in amounts]),
        "unit_costs": number_array([new.unit_cost for new in entries]),
        "on_hand_after": number_array([part.on_hand_after for part in amounts]),
        "value_after": number_array([part.value_after for part in amounts]),
        "occurred_at": text_array([line.occurred_at.isoformat() for line in lines]),
        "reference_nos": text_array([line.reference_no for line in lines]),
        "notes": text_array([line.notes for line in lines]),
        "reasons": text_array([new.reason for new in entries]),
        "metadata": text_array([msgspec.json.encode(line.metadata).decode() for line in lines]),
        **audit_entry,
    }
    ids, times, recorded_at = (await db.execute(_WRITE, parameters)).one()
    return ids, times, recorded_at
