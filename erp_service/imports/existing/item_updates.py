"""Rows of a file of items whose skus exist: updated by the rule of single requests, inventory/items.py."""

from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import select, text

from erp_service.access.principals import Principal
from erp_service.db.base import among
from erp_service.db.sessions import WriteSession
from erp_service.errors import Refused
from erp_service.imports.csv_table import Table
from erp_service.imports.existing.merging import merged
from erp_service.imports.files.faults import Faults
from erp_service.inventory import items
from erp_service.inventory.models import Item
from erp_service.inventory.queries.items import ITEM_COLUMNS, item_of
from erp_service.inventory.schemas import ItemBody, ItemOut


class Change(NamedTuple):
    """A row of the file; `number` is its line."""

    number: int
    body: ItemBody


# postings lock items by id: whoever locked them one by one, in the order of a file, could deadlock with one
_LOCK = text("select id from items where sku = any(cast(:skus as text[])) order by id for update")

_TAKEN = text("""
select sku, barcode, external_id from items where deleted_at is null
  and (barcode = any(cast(:barcodes as text[])) or external_id = any(cast(:external_ids as text[])))
""")


async def lock(db: WriteSession, skus: Collection[str]) -> None:
    """All that exist, until the transaction ends."""
    await db.execute(_LOCK, {"skus": list(skus)})


async def existing(db: WriteSession, skus: Collection[str]) -> dict[str, ItemOut]:
    """By sku, deleted ones too."""
    rows = await db.execute(select(*ITEM_COLUMNS).where(among(Item.sku, skus)))
    return {item.sku: item for item in (item_of(*row) for row in rows)}


async def update(
    db: WriteSession, who: Principal, table: Table, changes: list[tuple[ItemOut, Change]], faults: Faults
) -> int:
    """Returns how many rows have changed something; `faults` names those that are refused.

    Each item that changes has an audit entry of its own, with what it was before."""
    changed = [(before, row.number, merged(before, row.body, table)) for before, row in changes]
    await _name_taken(db, [(number, body) for _, number, body in changed], faults)
    updated = 0
    for before, number, body in changed:
        if before.deleted_at is not None:
            faults.add(number, "sku", f"the item {before.sku!r} is deleted: restore it first")
        elif not faults.total and before != (after := await _replaced(db, who, before, number, body, faults)):
            updated += after is not None
    return updated


async def _replaced(
    db: WriteSession, who: Principal, before: ItemOut, number: int, body: ItemBody, faults: Faults
) -> ItemOut | None:
    try:
        return await items.replace(db, who, before, body)
    except Refused as exc:
        details = [(fault.pointer, fault.detail) for fault in exc.faults] or [(None, exc.detail or exc.title)]
        for pointer, detail in details:
            faults.add(number, (pointer or "").removeprefix("/") or None, detail)
        return None


async def _name_taken(db: WriteSession, rows: list[tuple[int, ItemBody]], faults: Faults) -> None:
    """The barcodes and external ids that another item has, also if the file gives it a new one."""
    columns = {
        "barcodes": [body.barcode for _, body in rows if body.barcode],
        "external_ids": [body.external_id for _, body in rows if body.external_id],
    }
    if not any(columns.values()):
        return
    taken: dict[tuple[str, str], str] = {}
    for sku, barcode, external_id in await db.execute(_TAKEN, columns):
        taken |= {("barcode", barcode): sku, ("external_id", external_id): sku}
    for number, body in rows:
        for field in ("barcode", "external_id"):
            value = getattr(body, field)
            if value and (other := taken.get((field, value), body.sku)) != body.sku:
                faults.add(number, field, f"{value!r} is that of the item {other!r}")
