"""Posting a document to the ledger. Only this module and imports/bulk_posting.py write stock.

The rows are locked first, in the one order of row_locks.py. The ids of the entries are assigned last, while the
balances are locked: so for one item at one location the order of ids is the order of effects. Nothing here reads the
ledger, so a posting costs the same after ten movements and after ten million.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Literal, NamedTuple, TypeAlias
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy import exists, select, text
from uuid_utils.compat import uuid7

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.db.sessions import WriteSession
from erp_service.decimals import shortest, trimmed
from erp_service.errors import Fault
from erp_service.inventory import valuation
from erp_service.inventory.models import StockTransaction
from erp_service.inventory.problems import AlreadyReversed, InsufficientStock
from erp_service.inventory.row_locks import BalanceKey, LockedItem, LockedLocation, lock_balances
from erp_service.inventory.schemas import EntryType, LedgerEntry
from erp_service.inventory.stock_schemas import Document
from erp_service.inventory.valuation import SETTLEMENT, Balance, DoesNotFit, Effect, EntryAmounts, NotEnough

MovementKind: TypeAlias = Literal["IN", "OUT", "TRANSFER", "ADJUSTMENT"]


class PostingLine(Struct, frozen=True, kw_only=True):
    """One movement to post. Item and locations come from `row_locks`: stock is posted to locked rows only."""

    kind: MovementKind
    item: LockedItem
    location: LockedLocation
    """Where the stock comes in or goes out; of a transfer, where it goes out."""
    to_location: LockedLocation | None = None
    """Of a transfer, where the stock comes in."""
    quantity: Decimal
    """Above zero; of an adjustment signed, and not zero."""
    unit_cost: Decimal | None = None
    value: Decimal | None = None
    """Of a reversal, the value >= 0 of the entry that is reversed; None: valued at cost, or at moving average."""
    occurred_at: datetime
    reference_no: str | None = None
    notes: str | None = None
    reason: str | None = None
    metadata: dict[str, str] = {}
    pointer: str | None = None
    """JSON pointer to the line in the request's body, for errors."""


async def post(
    db: WriteSession, who: Principal, lines: Sequence[PostingLine], *, reverses: UUID | None = None
) -> Document:
    """Apply the lines in sequence, all or none, and write them as one document.

    Raises InsufficientStock, AlreadyReversed, and errors.Invalid for what the ledger cannot hold."""
    locations = {
        (line.item.id, location.id): location
        for line in lines
        for location in (line.location, line.to_location)
        if location is not None
    }
    balances = await lock_balances(db, locations)
    # Checked only now: a concurrent reversal of this document locks the same balances, so it has ended by now.
    if reverses is not None and await db.scalar(select(exists().where(StockTransaction.reverses == reverses))):
        raise AlreadyReversed
    header = _Header(uuid7(), who.user_id, reverses)
    entries = [
        _new_entry(header, number, line, *step)
        for number, line in enumerate(lines, 1)
        for step in _apply(line, balances)
    ]
    rows = await _write(db, header, entries, balances)
    return Document(
        transaction_id=header.transaction_id,
        recorded_at=rows[0][2],
        user_id=header.user_id,
        reverses=header.reverses,
        reversed_by=None,
        entries=[
            entry(id=id_, recorded_at=recorded_at) for entry, (id_, recorded_at, _) in zip(entries, rows, strict=True)
        ],
    )


Step: TypeAlias = tuple[EntryType, LockedLocation, EntryAmounts]
"""One entry of a line: its type, its location, its amounts."""


def _apply(line: PostingLine, balances: dict[BalanceKey, Balance]) -> list[Step]:
    """Like `steps`, but raises InsufficientStock and errors.Invalid, with pointers into the request's body."""
    pointer = None if line.pointer is None else f"{line.pointer}/quantity"
    try:
        return list(steps(line, balances))
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


def steps(line: PostingLine, balances: dict[BalanceKey, Balance]) -> Iterator[Step]:
    """The entries of one line, in order; each balance in `balances` is replaced by the balance after them.

    Raises NotEnough, DoesNotFit."""
    key = line.item.id, line.location.id
    if line.kind != "TRANSFER":
        balances[key], parts = _effect(line, balances[key])
        yield from ((line.kind, line.location, part) for part in parts)
        return
    if line.to_location is None:
        raise ValueError("a transfer without a location to go to")
    balances[key], (issued,) = _issue(balances[key], line.quantity, line.value)
    yield "TRANSFER_OUT", line.location, issued
    key = line.item.id, line.to_location.id
    balances[key], parts = valuation.receive_at_value(balances[key], line.quantity, -issued.value)
    yield from (("TRANSFER_IN", line.to_location, part) for part in parts)


def _effect(line: PostingLine, balance: Balance) -> Effect:
    """What a line other than a transfer does to its balance."""
    if line.kind == "OUT":
        return _issue(balance, line.quantity, line.value)
    if line.value is not None:
        if line.quantity < 0:
            return valuation.issue_at_value(balance, -line.quantity, line.value)
        return valuation.receive_at_value(balance, line.quantity, line.value)
    if line.kind == "IN":
        return valuation.receive(balance, line.quantity, line.unit_cost)
    return valuation.adjust(balance, line.quantity)


def _issue(balance: Balance, quantity: Decimal, value: Decimal | None) -> Effect:
    if value is None:
        return valuation.issue(balance, quantity)
    return valuation.issue_at_value(balance, quantity, value)


class _Header(NamedTuple):
    """A document without its entries, before it is written."""

    transaction_id: UUID
    user_id: int | None
    reverses: UUID | None


def _new_entry(
    header: _Header, number: int, line: PostingLine, kind: EntryType, location: LockedLocation, amounts: EntryAmounts
) -> partial[LedgerEntry]:
    """A ledger entry without the two arguments that the database assigns: `id` and `recorded_at`."""
    is_settlement = not amounts.quantity
    return partial(
        LedgerEntry,
        transaction_id=header.transaction_id,
        line=number,
        item_id=line.item.id,
        sku=line.item.sku,
        location_id=location.id,
        location=location.code,
        transaction_type="ADJUSTMENT" if is_settlement else kind,
        quantity=trimmed(amounts.quantity),
        value=trimmed(amounts.value),
        unit_cost=None if is_settlement or line.unit_cost is None else trimmed(line.unit_cost),
        on_hand_after=trimmed(amounts.on_hand_after),
        value_after=trimmed(amounts.value_after),
        occurred_at=line.occurred_at,
        reference_no=line.reference_no,
        notes=line.notes,
        reason=SETTLEMENT if is_settlement else line.reason,
        metadata=line.metadata,
        user_id=header.user_id,
    )


# One statement writes everything. The balances are locked by now, so the order in which it touches them is free.
# An INSERT that selects with ORDER BY assigns its ids in that order.
_WRITE = text("""
with document as (
  insert into stock_transactions (id, user_id, reverses)
  values (cast(:id as uuid), cast(:user_id as bigint), cast(:reverses as uuid)) returning recorded_at
), written as (
  update stock_balances b set on_hand = n.on_hand, value = n.value, last_average = n.last_average
  from unnest(
    cast(:items as bigint[]), cast(:locations as bigint[]),
    cast(:on_hand as numeric[]), cast(:values as numeric[]), cast(:averages as numeric[])
  ) n (item_id, location_id, on_hand, value, last_average)
  where b.item_id = n.item_id and b.location_id = n.location_id
)
insert into stock_ledger (
  transaction_id, line, item_id, location_id, entry_type, quantity, value, unit_cost, on_hand_after, value_after,
  occurred_at, reference_no, notes, reason, metadata, user_id
)
select
  e.transaction_id, e.line, e.item_id, e.location_id, e.transaction_type, e.quantity, e.value, e.unit_cost,
  e.on_hand_after, e.value_after, e.occurred_at, e.reference_no, e.notes, e.reason, e.metadata, e.user_id
from rows from (json_to_recordset(cast(:entries as json)) as (
  transaction_id uuid, line integer, item_id bigint, location_id bigint, transaction_type text, quantity numeric,
  value numeric, unit_cost numeric, on_hand_after numeric, value_after numeric, occurred_at timestamptz,
  reference_no text, notes text, reason text, metadata jsonb, user_id bigint
)) with ordinality e
order by e.ordinality
returning id, recorded_at, (select recorded_at from document)
""")


async def _write(
    db: WriteSession, header: _Header, entries: Sequence[partial[LedgerEntry]], balances: Mapping[BalanceKey, Balance]
) -> Sequence[tuple[int, datetime, datetime]]:
    """For each entry, in order: its id, its `recorded_at`, and the `recorded_at` of the document."""
    parameters = {
        "id": header.transaction_id,
        "user_id": header.user_id,
        "reverses": header.reverses,
        "items": [item_id for item_id, _ in balances],
        "locations": [location_id for _, location_id in balances],
        "on_hand": [balance.on_hand for balance in balances.values()],
        "values": [balance.value for balance in balances.values()],
        "averages": [balance.last_average for balance in balances.values()],
        "entries": msgspec.json.encode([entry.keywords for entry in entries]).decode(),
    }
    return await db.execute(_WRITE, parameters)
