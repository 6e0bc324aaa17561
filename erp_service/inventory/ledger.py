"""The ledger: the only writer of stock, beside the importer.

No posting can deadlock with another, since all lock in one order: items by id, places by id, balances by (item,
place). Ledger ids are taken while the balances are locked, so for one item at one place their order is the order of
effects; and nothing here reads the ledger, so a posting costs the same after ten movements and ten million.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple, NoReturn
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy import exists, select, text
from uuid_utils.compat import uuid7

from erp_service import errors
from erp_service.db import WriteSession
from erp_service.errors import Fault
from erp_service.inventory import average
from erp_service.inventory.average import Balance, DoesNotFit, Effect, NotEnough, Part
from erp_service.inventory.models import AlreadyReversed, StockTransaction
from erp_service.inventory.schemas import EntryType, LedgerEntry
from erp_service.inventory.stock_schemas import Document
from erp_service.numbers import shortest, trimmed
from erp_service.principals import Principal


class InsufficientStock(errors.Conflict):
    """More would go out than is on hand, at a place that does not allow negative stock. Nothing was posted.

    `available` is what could go out at this point: within a document, after the lines before it. `item_id` and
    `location_id` say of what and where."""

    slug, title = "insufficient-stock", "Not enough stock"


class HeldItem(Struct, frozen=True):
    id: int
    sku: str
    status: str


class HeldPlace(Struct, frozen=True):
    id: int
    code: str
    allows_negative: bool


class Held(Struct, frozen=True):
    """Items and places that stay as they are, and undeleted, until the transaction ends. Unknown ones are absent."""

    items: dict[int | str, HeldItem]
    """By id, and by sku."""
    places: dict[int | str, HeldPlace]
    """By id, and by code."""


class Line(Struct, frozen=True, kw_only=True):
    """One movement to post. `item` and places come from `hold`: what is not held cannot be posted to."""

    kind: Literal["IN", "OUT", "TRANSFER", "ADJUSTMENT"]
    item: HeldItem
    place: HeldPlace
    """Where it comes in or goes out; of a transfer, where it comes from."""
    to: HeldPlace | None = None
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


async def hold(db: WriteSession, items: Iterable[int | str], places: Iterable[int | str]) -> Held:
    """Lock items (by id or sku) and places (by id or code) FOR SHARE: nobody can change or delete them before we end."""
    item_ids, skus = _parted(items)
    place_ids, codes = _parted(places)
    held = Held({}, {})
    found = await db.execute(_HOLD, {"item_ids": item_ids, "skus": skus, "place_ids": place_ids, "codes": codes})
    for id_, word, status, allows_negative in found:
        if status is not None:
            held.items[id_] = held.items[word] = HeldItem(id_, word, status)
        else:
            held.places[id_] = held.places[word] = HeldPlace(id_, word, allows_negative)
    return held


def _parted(references: Iterable[int | str]) -> tuple[list[int], list[str]]:
    wanted = set(references)
    return [r for r in wanted if isinstance(r, int)], [r for r in wanted if isinstance(r, str)]


async def post(db: WriteSession, who: Principal, lines: Sequence[Line], *, reverses: UUID | None = None) -> Document:
    """Apply the lines in sequence, all or none, and write them down as one document.

    Raises InsufficientStock, AlreadyReversed, and errors.Invalid for what the ledger cannot hold."""
    balances = await _locked(db, lines)
    # asked only now: a reversal that ran beside this one had to lock the same balances, and has committed
    reversal = exists().where(StockTransaction.reverses == reverses)
    if reverses is not None and await db.scalar(select(reversal)):
        raise AlreadyReversed
    entries = list(_applied(lines, balances))
    return await _written(db, who, entries, balances, reverses)


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


async def _locked(db: WriteSession, lines: Sequence[Line]) -> dict[_Key, Balance]:
    places = {(line.item.id, place.id): place for line in lines for place in (line.place, line.to) if place}
    keys = sorted(places)
    columns: dict[str, Any] = {"items": [item for item, _ in keys], "places": [place for _, place in keys]}
    # Of several rows, those that are missing are made first and in order: a row that is made while others are held
    # deadlocks. One row alone cannot, and mostly it is there.
    rows = (await db.execute(_LOCK, columns)).all() if len(keys) == 1 else []
    if not rows:
        await db.execute(_MISSING, {**columns, "allows_negative": [places[key].allows_negative for key in keys]})
        rows = (await db.execute(_LOCK, columns)).all()
    return {(item_id, location_id): Balance(*state) for item_id, location_id, *state in rows}


class _Entry(NamedTuple):
    number: int
    line: Line
    kind: EntryType
    place: HeldPlace
    part: Part


def _applied(lines: Sequence[Line], balances: dict[_Key, Balance]) -> Iterator[_Entry]:
    """The entries of the lines, in order; `balances` then says what they come to."""
    for number, line in enumerate(lines, 1):
        key = line.item.id, line.place.id
        try:
            balances[key], parts = _effect(line, balances[key])
            if line.to is None:
                steps: list[tuple[EntryType, HeldPlace, Part]] = [(line.kind, line.place, part) for part in parts]  # type: ignore[misc]
            else:
                pass
        except NotEnough as short:
            _refuse(line, short.available)
        except DoesNotFit as exc:
            raise errors.Invalid(None, Fault(str(exc), pointer=f"{line.pointer or ''}/quantity")) from None
