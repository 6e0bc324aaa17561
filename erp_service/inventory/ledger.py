"""The ledger: the only writer of stock, beside the importer.

No posting can deadlock with another, since all lock in one order: items by id, places by id, balances by (item,
place). Ledger ids are taken while the balances are locked, so for one item at one place their order is the order of
effects; and nothing here reads the ledger, so a posting costs the same after ten movements and ten million.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal
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
from erp_service.inventory.schemas import EntryType, LedgerEntry
from erp_service.inventory.stock_schemas import Document
from erp_service.inventory.valuation import SETTLEMENT, Balance, DoesNotFit, Effect, EntryAmounts, NotEnough


class LockedItem(Struct, frozen=True):
    id: int
    sku: str
    status: str


class LockedLocation(Struct, frozen=True):
    id: int
    code: str
    allows_negative: bool


class LockedRows(Struct, frozen=True):
    """Items and places that stay as they are, and undeleted, until the transaction ends. Unknown ones are absent."""

    items: dict[int | str, LockedItem]
    """By id, and by sku."""
    places: dict[int | str, LockedLocation]
    """By id, and by code."""


class PostingLine(Struct, frozen=True, kw_only=True):
    """One movement to post. `item` and places come from `hold`: what is not held cannot be posted to."""

    kind: Literal["IN", "OUT", "TRANSFER", "ADJUSTMENT"]
    item: LockedItem
    place: LockedLocation
    """Where it comes in or goes out; of a transfer, where it comes from."""
    to: LockedLocation | None = None
    """Of a transfer, where it goes."""
    quantity: Decimal
    """Above zero; of an adjustment signed, and not zero."""
    unit_cost: Decimal | None = None
    worth: Decimal | None = None
    """Of a reversal, the value >= 0 that is taken back, as far as it is still there."""
    occurred_at: datetime
    reference_no: str | None = None
    notes: str | None = None
    reason: str | None = None
    metadata: dict[str, str] = {}
    pointer: str | None = None
    """Where in the body the line stands, for errors."""


# The two sets are read one after the other, so items are locked before places, each by id.
_HOLD = text("""
with held_items as materialized (
  select id, sku, status, deleted_at from items
  where id = any(cast(:item_ids as bigint[])) or sku = any(cast(:skus as text[])) order by id for share
), held_places as materialized (
  select id, code, allow_negative_stock, deleted_at from locations
  where id = any(cast(:place_ids as bigint[])) or code = any(cast(:codes as text[])) order by id for share
)
select id, sku, status, null from held_items where deleted_at is null
union all
select id, code, null, allow_negative_stock from held_places where deleted_at is null
""")


async def lock_for_share(db: WriteSession, items: Iterable[int | str], places: Iterable[int | str]) -> LockedRows:
    """Lock items (by id or sku) and places (by id or code) FOR SHARE: nobody changes or deletes them before we end."""
    item_ids, skus = _parted(items)
    place_ids, codes = _parted(places)
    held = LockedRows({}, {})
    found = await db.execute(_HOLD, {"item_ids": item_ids, "skus": skus, "place_ids": place_ids, "codes": codes})
    for id_, word, status, allows_negative in found:
        if status is not None:
            held.items[id_] = held.items[word] = LockedItem(id_, word, status)
        else:
            held.places[id_] = held.places[word] = LockedLocation(id_, word, allows_negative)
    return held


def _parted(references: Iterable[int | str]) -> tuple[list[int], list[str]]:
    wanted = set(references)
    return [r for r in wanted if isinstance(r, int)], [r for r in wanted if isinstance(r, str)]


async def post(
    db: WriteSession, who: Principal, lines: Sequence[PostingLine], *, reverses: UUID | None = None
) -> Document:
    """Apply the lines in sequence, all or none, and write them down as one document.

    Raises InsufficientStock, AlreadyReversed, and errors.Invalid for what the ledger cannot hold."""
    places = {(line.item.id, place.id): place for line in lines for place in (line.place, line.to) if place}
    balances = await lock_balances(db, places)
    # asked only now: a reversal that ran beside this one had to lock the same balances, and has committed
    if reverses is not None and await db.scalar(select(exists().where(StockTransaction.reverses == reverses))):
        raise AlreadyReversed
    document = Document(
        transaction_id=uuid7(),
        recorded_at=lines[0].occurred_at,  # until the database has said when
        user_id=who.user_id,
        reverses=reverses,
        reversed_by=None,
        entries=[],
    )
    for number, line in enumerate(lines, 1):
        document.entries.extend(_entry(document, number, line, *step) for step in _applied(line, balances))
    await _write(db, document, balances)
    return document


_Key = tuple[int, int]

_MISSING = text("""
insert into stock_balances (item_id, location_id, allows_negative)
select * from unnest(cast(:items as bigint[]), cast(:places as bigint[]), cast(:allows_negative as boolean[]))
order by 1, 2 on conflict do nothing
""")

_LOCK = text("""
select b.item_id, b.location_id, b.on_hand, b.value, b.last_average, b.allows_negative
from stock_balances b
join unnest(cast(:items as bigint[]), cast(:places as bigint[])) k (item_id, location_id) using (item_id, location_id)
order by 1, 2 for update of b
""")


async def lock_balances(db: WriteSession, places: dict[_Key, LockedLocation]) -> dict[_Key, Balance]:
    """Lock the balances of items at places FOR UPDATE, in order; those that are not there yet are made."""
    keys = sorted(places)
    columns: dict[str, Any] = {"items": [item for item, _ in keys], "places": [place for _, place in keys]}
    # Of several rows, those that are missing are made first and in order: a row that is made while others are held
    # deadlocks. One row alone cannot, and mostly it is there.
    rows = (await db.execute(_LOCK, columns)).all() if len(keys) == 1 else []
    if not rows:
        await db.execute(_MISSING, {**columns, "allows_negative": [places[key].allows_negative for key in keys]})
        rows = (await db.execute(_LOCK, columns)).all()
    return {(item_id, location_id): Balance(*state) for item_id, location_id, *state in rows}


_Step = tuple[EntryType, LockedLocation, EntryAmounts]


def _applied(line: PostingLine, balances: dict[_Key, Balance]) -> list[_Step]:
    """The line's steps, in order; `balances` then holds what they come to."""
    pointer = None if line.pointer is None else f"{line.pointer}/quantity"
    try:
        return list(steps(line, balances))
    except NotEnough as short:
        available = shortest(short.available)
        raise InsufficientStock(
            f"{shortest(abs(line.quantity))} of {line.item.sku} wanted at {line.place.code}, {available} available.",
            *([] if pointer is None else [Fault(f"is more than the {available} available", pointer=pointer)]),
            available=available,
            item_id=line.item.id,
            location_id=line.place.id,
        ) from None
    except DoesNotFit as exc:
        fault = Fault(str(exc), pointer=pointer)
        raise errors.Invalid(f"{shortest(line.quantity)} of {line.item.sku} {exc}.", fault) from None


def steps(line: PostingLine, balances: dict[_Key, Balance]) -> Iterator[_Step]:
    """What one line does, entry by entry; `balances` then holds what it comes to. Raises NotEnough, DoesNotFit."""
    here = line.item.id, line.place.id
    if line.kind == "TRANSFER":
        if line.to is None:
            raise ValueError("a transfer without a place to go to")
        balances[here], (taken,) = _outward(balances[here], line.quantity, line.worth)
        yield "TRANSFER_OUT", line.place, taken
        there = line.item.id, line.to.id
        balances[there], parts = valuation.bring_in(balances[there], line.quantity, -taken.value)
        yield from (("TRANSFER_IN", line.to, part) for part in parts)
        return
    if line.kind == "OUT" or line.quantity < 0:
        balances[here], parts = _outward(balances[here], abs(line.quantity), line.worth)
    elif line.worth is None:
        balances[here], parts = valuation.receive(balances[here], line.quantity, line.unit_cost)
    else:
        balances[here], parts = valuation.bring_in(balances[here], line.quantity, line.worth)
    yield from ((line.kind, line.place, part) for part in parts)


def _outward(balance: Balance, quantity: Decimal, worth: Decimal | None) -> Effect:
    return valuation.issue(balance, quantity) if worth is None else valuation.take_back(balance, quantity, worth)


def _entry(
    document: Document, number: int, line: PostingLine, kind: EntryType, place: LockedLocation, part: EntryAmounts
) -> LedgerEntry:
    settles = not part.quantity
    return LedgerEntry(
        id=0,  # until the database has given one
        transaction_id=document.transaction_id,
        line=number,
        item_id=line.item.id,
        sku=line.item.sku,
        location_id=place.id,
        location=place.code,
        transaction_type="ADJUSTMENT" if settles else kind,
        quantity=trimmed(part.quantity),
        value=trimmed(part.value),
        unit_cost=None if settles or line.unit_cost is None else trimmed(line.unit_cost),
        on_hand_after=trimmed(part.on_hand_after),
        value_after=trimmed(part.value_after),
        occurred_at=line.occurred_at,
        recorded_at=document.recorded_at,
        reference_no=line.reference_no,
        notes=line.notes,
        reason=SETTLEMENT if settles else line.reason,
        metadata=line.metadata,
        user_id=document.user_id,
    )


# One statement writes all: the balances are locked by now, so the order in which this touches them is free.
# An INSERT that selects with ORDER BY gives out its ids in that order.
_WRITE = text("""
with document as (
  insert into stock_transactions (id, user_id, reverses)
  values (cast(:id as uuid), cast(:user_id as bigint), cast(:reverses as uuid)) returning recorded_at
), written as (
  update stock_balances b set on_hand = n.on_hand, value = n.value, last_average = n.last_average
  from unnest(
    cast(:items as bigint[]), cast(:places as bigint[]),
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


async def _write(db: WriteSession, document: Document, balances: dict[_Key, Balance]) -> None:
    parameters = {
        "id": document.transaction_id,
        "user_id": document.user_id,
        "reverses": document.reverses,
        "items": [item_id for item_id, _ in balances],
        "places": [place_id for _, place_id in balances],
        "on_hand": [balance.on_hand for balance in balances.values()],
        "values": [balance.value for balance in balances.values()],
        "averages": [balance.last_average for balance in balances.values()],
        "entries": msgspec.json.encode(document.entries).decode(),
    }
    rows = await db.execute(_WRITE, parameters)
    for entry, (id_, recorded_at, posted_at) in zip(document.entries, rows, strict=True):
        entry.id, entry.recorded_at, document.recorded_at = id_, recorded_at, posted_at
