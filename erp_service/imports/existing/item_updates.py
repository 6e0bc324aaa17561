"""Rows of a file of items whose skus exist: updated by the rules of all items, inventory/item_changes.py."""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import select, text

from erp_service.access.principals import Principal
from erp_service.db.base import among
from erp_service.db.sessions import WriteSession
from erp_service.errors import Refused
from erp_service.imports.csv_table import Table
from erp_service.imports.existing.merging import merged, too_many_members
from erp_service.imports.files.faults import Faults
from erp_service.inventory.item_changes import ItemChange, apply
from erp_service.inventory.models import Item
from erp_service.inventory.queries.items import ITEM_COLUMNS, item_of
from erp_service.inventory.schemas import ItemBody, ItemOut


class Change(NamedTuple):
    """A row of the file; `number` is its line."""

    number: int
    body: ItemBody


# postings lock items by id: whoever locked them one by one, in the order of a file, could deadlock with one
_LOCK = text("select id from items where sku = any(cast(:skus as text[])) order by id for update")


async def lock(db: WriteSession, skus: Collection[str]) -> None:
    """All that exist, until the transaction ends."""
    await db.execute(_LOCK, {"skus": list(skus)})


async def existing(db: WriteSession, skus: Collection[str]) -> dict[str, ItemOut]:
    """By sku, deleted ones too."""
    rows = await db.execute(select(*ITEM_COLUMNS).where(among(Item.sku, skus)))
    return {item.sku: item for item in (item_of(*row) for row in rows)}


async def update(
    db: WriteSession, who: Principal, table: Table, rows: Sequence[tuple[ItemOut, Change]], faults: Faults
) -> int:
    """Returns how many rows have changed something; `faults` names all that is wrong with the others.

    Each item that changes has an audit entry of its own, with what it was before. The number of statements does not
    grow with the number of rows."""
    changes = dict(_changes(table, rows, faults))
    outcomes = await apply(db, who, [*changes.values()])
    updated = 0
    for (number, change), outcome in zip(changes.items(), outcomes, strict=True):
        if isinstance(outcome, Refused):
            _name(number, change.body, table, outcome, faults)
        else:
            # what changes nothing is the same object
            updated += outcome is not change.before
    return updated


def _changes(table: Table, rows: Sequence[tuple[ItemOut, Change]], faults: Faults) -> Iterator[tuple[int, ItemChange]]:
    """By line."""
    for before, row in rows:
        body = merged(before, row.body, table)
        if before.deleted_at is not None:
            faults.add(row.number, "sku", f"the item {before.sku!r} is deleted: restore it first")
        elif fault := too_many_members(body.metadata):
            faults.add(row.number, "metadata", fault)
        else:
            yield row.number, ItemChange(before, body)


def _name(number: int, body: ItemBody, table: Table, refusal: Refused, faults: Faults) -> None:
    for fault in refusal.faults:
        column = table.column_of(fault.pointer) or None
        value = getattr(body, column or "", None)
        faults.add(number, column, fault.detail, value if isinstance(value, str) else None)
    if not refusal.faults:
        faults.add(number, None, refusal.detail or refusal.title)
