"""Making and changing many items by one request: which item each line is, and what becomes of all of them.

The rules, the rows and the audit entries are those of `item_changes`."""

import asyncio
from collections.abc import Mapping
from typing import TypeAlias

import msgspec
from sqlalchemy import select, text

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.db.sessions import WriteSession
from erp_service.db.statements import Prepared, text_array
from erp_service.errors import Fault, Refused
from erp_service.inventory.bulk.schemas import BulkKey, ItemBulk, ItemBulkOut, ItemBulkResult
from erp_service.inventory.edits import ItemPatch
from erp_service.inventory.item_changes import ItemChange, apply
from erp_service.inventory.models import Item
from erp_service.inventory.problems import ItemDeleted
from erp_service.inventory.queries.items import ITEM_COLUMNS, item_of
from erp_service.inventory.schemas import ItemBody, ItemOut
from erp_service.problems import as_problem
from erp_service.validation import MISSING, MOST_FAULTS

_ATTEMPTS = 4
"""Each but the first is for an item that somebody else has made since the one before."""

_MOST_FAULTS = 20
"""Of one line. An item has fewer fields; a hostile line may have thousands."""

Outcome: TypeAlias = ItemBulkResult | Refused


class _Overtaken(Exception):
    """Somebody else has made an item that was not there when the lines were matched with items."""


async def write(db: WriteSession, who: Principal, bulk: ItemBulk) -> ItemBulkOut:
    """Raises what a line is refused with, if `bulk.atomic`: errors.Invalid if one of its faults is of the request
    itself; else the problem of all refused lines, if it is one and the same, or errors.Conflict."""
    for number in range(1, _ATTEMPTS + 1):
        try:
            # undone as a whole, since rows are locked by id before any name is taken
            async with db.savepoint():
                outcomes = await _attempt(db, who, bulk, is_last=number == _ATTEMPTS)
            break
        except _Overtaken:
            continue
    refused = {n: _within(n, outcome) for n, outcome in enumerate(outcomes) if isinstance(outcome, Refused)}
    if refused and bulk.atomic:
        raise _refusal_of_all(refused, len(outcomes))
    return _answer(
        [
            ItemBulkResult("failed", None, as_problem(refused[n], None)) if isinstance(outcome, Refused) else outcome
            for n, outcome in enumerate(outcomes)
        ]
    )


def _answer(results: list[ItemBulkResult]) -> ItemBulkOut:
    statuses = [result.status for result in results]
    return ItemBulkOut(
        created=statuses.count("created"),
        updated=statuses.count("updated"),
        unchanged=statuses.count("unchanged"),
        failed=statuses.count("failed"),
        results=results,
    )


async def _attempt(db: WriteSession, who: Principal, bulk: ItemBulk, *, is_last: bool) -> list[Outcome]:
    present = {} if bulk.mode == "create" else await _locked(db, bulk)
    # in a thread: a thousand lines take the time of a large body, and with faults more
    changes, refusals = await asyncio.to_thread(_matched, bulk, present)
    outcomes: dict[int, Outcome] = {**refusals}
    for (number, change), written in zip(changes.items(), await apply(db, who, [*changes.values()]), strict=True):
        if isinstance(written, Refused):
            if bulk.mode == "upsert" and change.before is None and _is_of(bulk.by, written) and not is_last:
                raise _Overtaken
            outcomes[number] = written
        elif change.before is None:
            outcomes[number] = ItemBulkResult("created", written, None)
        else:
            is_same = written is change.before
            outcomes[number] = ItemBulkResult("unchanged" if is_same else "updated", written, None)
    return [outcomes[number] for number in range(len(bulk.items))]


def _matched(bulk: ItemBulk, present: Mapping[str, ItemOut]) -> tuple[dict[int, ItemChange], dict[int, Refused]]:
    """The change that each line is, or why it is none."""
    changes: dict[int, ItemChange] = {}
    refusals: dict[int, Refused] = {}
    first: dict[str, int] = {}
    for number, line in enumerate(bulk.items):
        try:
            before = None if bulk.mode == "create" else _before(bulk, number, present, first)
            changes[number] = ItemChange(before, _body(line, before))
        except Refused as refusal:
            refusals[number] = refusal
    return changes, refusals


def _body(line: ItemPatch, before: ItemOut | None) -> ItemBody:
    """Raises errors.Invalid."""
    try:
        return line.over(before)
    except errors.Invalid as refusal:
        if before is not None:
            raise
        # who has mistaken the name of an item that is there is told that it is taken for a new one
        faults = [
            msgspec.structs.replace(fault, detail="is missing, and the item is new")
            if fault.detail == MISSING
            else fault
            for fault in refusal.faults
        ]
        raise errors.Invalid(refusal.detail, *faults) from None


def _is_of(key: BulkKey, refusal: Refused) -> bool:
    return any(fault.pointer == f"/{key}" for fault in refusal.faults)


def _before(bulk: ItemBulk, number: int, present: Mapping[str, ItemOut], first: dict[str, int]) -> ItemOut | None:
    """The locked item of the line; None if it is a new one. Raises errors.Invalid, ItemDeleted."""
    pointer = f"/{bulk.by}"
    if (key := bulk.items[number].text(bulk.by)) is None:
        raise errors.Invalid(None, Fault("must be a string: it says which item the line is", pointer))
    if (earlier := first.setdefault(key, number)) != number:
        raise errors.Invalid(None, Fault(f"is that of /items/{earlier}, too", pointer))
    if (item := present.get(key)) is None:
        if bulk.mode == "update":
            raise errors.Invalid(None, Fault("there is no such item", pointer))
        return None
    if item.deleted_at is not None:
        fault = Fault(f"is that of the deleted item {item.id}: restore it first", pointer)
        raise ItemDeleted(f"Item {item.id}, {item.sku}, is deleted. Restore it first.", fault, item_id=item.id)
    return item


async def _locked(db: WriteSession, bulk: ItemBulk) -> dict[str, ItemOut]:
    """The items that lines name, by what names them; by sku also deleted ones. Nobody else changes them or posts stock
    of them before the transaction ends."""
    keys = {key for line in bulk.items if (key := line.text(bulk.by)) is not None}
    rows = await db.execute(_LOCK[bulk.by], {"keys": text_array(keys)})
    return {row[bulk.by]: item_of(*row) for row in rows}


# By id, as postings lock them. Not `= any (array)`: while a table has no statistics, Postgres may read all of it, and
# compares each row with each element.
_KEYS = text("select k from unnest(cast(cast(:keys as text) as text[])) k")
_LOCKED = select(*ITEM_COLUMNS).order_by(Item.id).with_for_update(of=Item)
_LOCK: Mapping[BulkKey, Prepared] = {
    "sku": Prepared(_LOCKED.where(Item.sku.in_(_KEYS))),
    "external_id": Prepared(_LOCKED.where(Item.deleted_at.is_(None), Item.external_id.in_(_KEYS))),
}


def _within(number: int, refusal: Refused) -> Refused:
    """The refusal of a line, with pointers into the body of the request."""
    at = f"/items/{number}"
    faults = [msgspec.structs.replace(fault, pointer=f"{at}{fault.pointer}") for fault in refusal.faults[:_MOST_FAULTS]]
    refusal.faults = tuple(faults) or (Fault(refusal.detail or refusal.title, at),)
    return refusal


def _refusal_of_all(refused: Mapping[int, Refused], count: int) -> Refused:
    """One for all lines, since none is written. A line can have several faults, and each is named."""
    faults = [fault for refusal in refused.values() for fault in refusal.faults][:MOST_FAULTS]
    lines = "1 line is" if len(refused) == 1 else f"{len(refused)} lines are"
    detail = f"{lines} refused, so none of the {count} was written."
    kinds = {type(refusal) for refusal in refused.values()}
    if any(refusal.status == errors.Invalid.status for refusal in refused.values()):
        return errors.Invalid(detail, *faults)
    return (kinds.pop() if len(kinds) == 1 else errors.Conflict)(detail, *faults)
