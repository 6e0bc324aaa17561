"""The one way in which items are made and changed, one or a thousand of them: the rules, the rows, the audit entries.

The number of statements does not grow with the number of items. Rows that are changed are locked by the caller, by id,
as postings lock them. Then names are taken, which are unique: of several changes at once one transaction at a time, so
that no two wait for a name of each other."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import BigInteger, Numeric, SmallInteger, Text, bindparam, cast, column, func, select, text, update
from sqlalchemy.dialects.postgresql import JSON, JSONB, insert
from sqlalchemy.types import TypeEngine

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.audit.record import entry_parameters, record_all
from erp_service.db import locks
from erp_service.db.sessions import WriteSession
from erp_service.db.statements import Prepared, number_array, text_array
from erp_service.errors import Fault, Refused
from erp_service.inventory.models import Item
from erp_service.inventory.problems import BarcodeTaken, DecimalsStay, ExternalIdTaken, SkuTaken, UnitStays
from erp_service.inventory.queries.items import ITEM_COLUMNS, item_of
from erp_service.inventory.schemas import ItemBody, ItemOut


class ItemChange(NamedTuple):
    """What an item is to be. `before` is the locked item; None for a new one."""

    before: ItemOut | None
    body: ItemBody

    @property
    def is_none(self) -> bool:
        before, body = self.before, self.body
        return before is not None and all(getattr(before, n) == getattr(body, n) for n in body.__struct_fields__)

    def names(self) -> Iterator[tuple[str, str]]:
        """Each field that must be unique and gets another value, with this value."""
        for field in _TAKEN:
            value = getattr(self.body, field)
            if value is not None and (self.before is None or value != getattr(self.before, field)):
                yield field, value


_TAKEN: Mapping[str, type[Refused]] = {
    "sku": SkuTaken,
    "barcode": BarcodeTaken,
    "external_id": ExternalIdTaken,
}
_KINDS: Mapping[str, TypeEngine[Any]] = {
    "id": BigInteger(),
    "sku": Text(),
    "name": Text(),
    "unit": Text(),
    "decimals": SmallInteger(),
    "units": JSONB(),
    "barcode": Text(),
    "external_id": Text(),
    "metadata": JSONB(),
    "status": Text(),
    "description": Text(),
    "reorder_point": Numeric(),
}
"""The columns that the statements read."""
_Refusals = dict[int, list[Refused]]
"""By the position of the change."""


async def apply(db: WriteSession, who: Principal, changes: Sequence[ItemChange]) -> list[ItemOut | Refused]:
    """What became of each change, in their order: the item, or why it was refused. What can be written is written, each
    with its audit entry; a change that changes nothing leaves no trace.

    A refusal is errors.Invalid for the packs, UnitStays, DecimalsStay, SkuTaken, BarcodeTaken or ExternalIdTaken; it
    has all faults of the change. A name that another item has is taken, also if another of the changes gives it
    free."""
    pending = {n: change for n, change in enumerate(changes) if not change.is_none}
    refusals: _Refusals = {}
    _refuse_packs(pending, refusals)
    _refuse_twice(pending, refusals)
    await _refuse_units(db, pending, refusals)
    await _refuse_decimals(db, pending, refusals)
    changed = {n: change for n, change in pending.items() if change.before is not None}
    await _refuse_names(db, {n: change for n, change in changed.items() if any(change.names())}, refusals)
    items = await _write(db, {n: change for n, change in pending.items() if n not in refusals})
    # of the new ones, those whose names are taken were not inserted
    lost = {n: change for n, change in pending.items() if n not in items and n not in refusals}
    await _refuse_names(db, lost, refusals)
    for number in lost.keys() - refusals.keys():
        refusals[number] = [errors.Conflict("Another item had the same name for a moment. Try again.")]
    if items:
        await record_all(db, [_audit_entry(who, changes[n].before, item) for n, item in sorted(items.items())])
    return [
        _combined(refusals[n]) if n in refusals else items.get(n) or _present(change)
        for n, change in enumerate(changes)
    ]


def _present(change: ItemChange) -> ItemOut:
    if change.before is None:
        raise ValueError("a new item that was neither inserted nor refused")
    return change.before


def _combined(refusals: Sequence[Refused]) -> Refused:
    """The first, with the faults of all."""
    first, *others = refusals
    first.faults = (*first.faults, *(fault for other in others for fault in other.faults))
    return first


def _audit_entry(who: Principal, before: ItemOut | None, item: ItemOut) -> dict[str, object]:
    if before is None:
        return entry_parameters(who, "item.created", item.id, after=item)
    return entry_parameters(who, "item.updated", item.id, before=before, after=item)


def pack_faults(body: ItemBody) -> Iterator[Fault]:
    """The packs whose name is that of the item's unit, or of an earlier pack."""
    names = {body.unit}
    for index, pack in enumerate(body.units):
        if pack.unit in names:
            same = "is the item's own unit" if pack.unit == body.unit else "is the name of another pack"
            yield Fault(f"{pack.unit} {same}", pointer=f"/units/{index}/unit")
        names.add(pack.unit)


def _refuse_packs(pending: Mapping[int, ItemChange], refusals: _Refusals) -> None:
    for number, change in pending.items():
        if faults := list(pack_faults(change.body)):
            refusals.setdefault(number, []).append(errors.Invalid(None, *faults))


def _refuse_twice(pending: Mapping[int, ItemChange], refusals: _Refusals) -> None:
    """Of several changes that give one name, the first gives it."""
    first: dict[tuple[str, str], int] = {}
    for number, change in pending.items():
        for name in change.names():
            if first.setdefault(name, number) != number:
                field, value = name
                refusal = _TAKEN[field](
                    f"{value} is given to another item here as well.",
                    Fault("is given to another item here as well", pointer=f"/{field}"),
                )
                refusals.setdefault(number, []).append(refusal)


async def _refuse_units(db: WriteSession, pending: Mapping[int, ItemChange], refusals: _Refusals) -> None:
    """A posting that had the item's row before this transaction has committed, so its entries are seen here."""
    changed = {n: before for n, (before, body) in pending.items() if before is not None and body.unit != before.unit}
    if not changed:
        return
    ids = number_array(before.id for before in changed.values())
    with_entries = set(await db.scalars(_WITH_ENTRIES, {"ids": ids}))
    for number, before in changed.items():
        if before.id in with_entries:
            detail = f"{before.sku} has ledger entries in {before.unit}, so its unit stays."
            fault = Fault(f"must stay {before.unit}, the unit of its ledger entries", pointer="/unit")
            refusals.setdefault(number, []).append(UnitStays(detail, fault, unit=before.unit))


_WITH_ENTRIES = Prepared(
    text("""
select i.id from unnest(cast(cast(:ids as text) as bigint[])) i (id)
where exists (select from stock_ledger l where l.item_id = i.id)
""")
)


async def _refuse_decimals(db: WriteSession, pending: Mapping[int, ItemChange], refusals: _Refusals) -> None:
    """Nobody posts meanwhile: a posting reads `decimals` under the lock of the item's row."""
    changed = {
        n: (before, body.decimals)
        for n, (before, body) in pending.items()
        if before is not None and body.decimals < before.decimals
    }
    if not changed:
        return
    ids = number_array(before.id for before, _ in changed.values())
    finest = {row.id: row.least for row in await db.execute(_FINEST, {"ids": ids})}
    for number, (before, decimals) in changed.items():
        least = finest[before.id]
        if least is not None and least > decimals:
            fault = Fault(f"must be {least} at least", pointer="/decimals")
            refusal = DecimalsStay(f"{before.sku} has quantities with {least} decimals.", fault, least=least)
            refusals.setdefault(number, []).append(refusal)


# of what was posted, of what is held, and of what is counted and not posted yet
_FINEST = Prepared(
    text("""
select i.id, greatest(
  (select max(min_scale(quantity)) from stock_ledger where item_id = i.id),
  (select max(min_scale(quantity)) from stock_reservations where item_id = i.id and status = 'ACTIVE'),
  (select max(min_scale(l.counted)) from stock_count_lines l join stock_counts c on c.id = l.count_id
    where l.item_id = i.id and c.status = 'OPEN')
) as least
from unnest(cast(cast(:ids as text) as bigint[])) i (id)
""")
)


async def _refuse_names(db: WriteSession, changes: Mapping[int, ItemChange], refusals: _Refusals) -> None:
    """What other items have at this moment. What is taken after that, the database refuses, with the same problems."""
    if not changes:
        return
    wanted = {name for change in changes.values() for name in change.names()}
    parameters = {field: text_array(value for name, value in wanted if name == field) for field in _TAKEN}
    holders: dict[tuple[str, str], tuple[int, str]] = {}
    for id_, deleted, *values in await db.execute(_HOLDERS, parameters):
        for field, value in zip(_TAKEN, values, strict=True):
            # a deleted item keeps its sku alone
            if field == "sku" or not deleted:
                holders[field, value] = id_, values[0]
    for number, change in changes.items():
        for field, value in change.names():
            id_, sku = holders.get((field, value), (None, ""))
            if id_ is not None and (change.before is None or id_ != change.before.id):
                fault = Fault(f"is that of item {id_}, {sku}", pointer=f"/{field}")
                refusal = _TAKEN[field](f"Item {id_}, {sku}, has this {field.replace('_', ' ')}.", fault)
                refusals.setdefault(number, []).append(refusal)


_HOLDERS = Prepared(
    text("""
select id, deleted_at is not null, sku, barcode, external_id from items
where sku in (select k from unnest(cast(cast(:sku as text) as text[])) k)
union
select id, false, sku, barcode, external_id from items
where deleted_at is null and barcode in (select k from unnest(cast(cast(:barcode as text) as text[])) k)
union
select id, false, sku, barcode, external_id from items
where deleted_at is null and external_id in (select k from unnest(cast(cast(:external_id as text) as text[])) k)
""")
)


async def _write(db: WriteSession, changes: Mapping[int, ItemChange]) -> dict[int, ItemOut]:
    """The items that were written. A new one is missing if another item has one of its names: the insert waits for a
    transaction that is just taking it.

    Raises UniqueViolationError for a change of an item whose new name was taken after `_refuse_names` had looked."""
    new = {change.body.sku: n for n, change in changes.items() if change.before is None}
    changed = {change.before.id: n for n, change in changes.items() if change.before is not None}
    if len(changes) > 1 and any(True for change in changes.values() for _ in change.names()):
        await locks.take(db, locks.ITEM_NAMES)
    written: dict[int, ItemOut] = {}
    if changed:
        rows = await db.execute(_UPDATE, {"rows": _rows(changes[n] for n in changed.values())})
        written |= {changed[row.id]: item_of(*row) for row in rows}
    if new:
        rows = await db.execute(_INSERT, {"rows": _rows(changes[n] for n in new.values())})
        written |= {new[row.sku]: item_of(*row) for row in rows}
    return written


def _rows(changes: Iterable[ItemChange]) -> str:
    """What the statements read: an array of objects, whose numbers are exact texts."""
    rows = [{"id": before and before.id, **msgspec.structs.asdict(body)} for before, body in changes]
    return msgspec.json.encode(rows, enc_hook=str).decode()


# one parameter: an array for each column would be encoded one by one
_NEW = (
    func.json_to_recordset(cast(bindparam("rows", type_=Text), JSON))
    .table_valued(*(column(name, kind) for name, kind in _KINDS.items()))
    .render_derived(name="new", with_types=True)
)
_VALUES = {"extra" if name == "metadata" else name: _NEW.c[name] for name in ItemBody.__struct_fields__}
_UPDATE = Prepared(
    update(Item)
    .values(**_VALUES, version=Item.version + 1, updated_at=func.now())
    .where(Item.id == _NEW.c.id)
    .returning(*ITEM_COLUMNS)
)
# in one order, whatever the order of the request is
_INSERT = Prepared(
    insert(Item)
    .from_select([getattr(Item, name) for name in _VALUES], select(*_VALUES.values()).order_by(_NEW.c.sku))
    .on_conflict_do_nothing()
    .returning(*ITEM_COLUMNS)
)
