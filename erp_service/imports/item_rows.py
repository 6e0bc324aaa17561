"""Rows of a file of items: checked by the rules of a request's body, and stored batch by batch."""

import asyncio
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple, get_args

import msgspec
from sqlalchemy import text

from erp_service import validation
from erp_service.access.principals import Principal
from erp_service.db.sessions import WriteSession
from erp_service.imports.csv_table import RowProgress, Table
from erp_service.imports.existing import item_updates
from erp_service.imports.existing.item_updates import Change
from erp_service.imports.files.dialect import Dialect, number_text, word
from erp_service.imports.files.faults import Faults
from erp_service.imports.files.header import Layout, name_misspelt
from erp_service.imports.files.members import json_cell, metadata
from erp_service.imports.fingerprint import Claim, Fingerprint
from erp_service.imports.identifiers import CHANGED_MEANWHILE, Identifiers
from erp_service.imports.stored import Counts, Mode
from erp_service.inventory.item_changes import pack_faults
from erp_service.inventory.schemas import ItemBody, ItemStatus

LAYOUT = Layout(
    required=("sku", "name", "unit"),
    optional=(*("status", "description", "reorder_point", "decimals", "units", "barcode", "external_id", "metadata"),),
    keeps_extras=True,
    checked=("deleted_at",),
    read_only=("id", "created_at", "updated_at"),
)
_OPTIONAL = LAYOUT.known[len(LAYOUT.required) :]
_STATUSES: tuple[str, ...] = get_args(ItemStatus)
_NEW_BATCH = 5_000
_CHANGE_BATCH = 1_000
"""Fewer, since for each item the one before and its audit entry are in memory as well."""


class ItemRow(NamedTuple):
    """One item, valid by itself; `number` is its line in the file."""

    number: int
    body: ItemBody


def rows(table: Table, faults: Faults) -> Iterator[ItemRow]:
    """The valid rows in file order; `faults` names all that is wrong with the others."""
    name_misspelt(table.extras, LAYOUT, faults)
    unique = {
        LAYOUT.known.index(column): Identifiers(column, faults, keep_damaged=table.dialect.keep_codes)
        for column in ("sku", "barcode", "external_id")
    }
    for number, texts, record in table:
        before = faults.total
        value = dict(_values(number, texts, record, table, faults))
        for index, identifiers in unique.items():
            if texts[index]:
                identifiers.add(number, texts[index])
        for fault in validation.faults(ItemBody, value):
            faults.add(number, table.column_of(fault.pointer), fault.detail)
        if faults.total > before:
            continue
        body = msgspec.convert(value, ItemBody, dec_hook=validation.read_hook)
        for fault in pack_faults(body):
            faults.add(number, table.column_of(fault.pointer), fault.detail)
        if faults.total == before:
            yield ItemRow(number, body)


def _values(
    number: int, texts: tuple[str, ...], record: list[str], table: Table, faults: Faults
) -> Iterator[tuple[str, object]]:
    """The fields of the body; one that cannot be read is left out, and named."""
    yield from zip(LAYOUT.required, texts, strict=False)
    for column, cell in zip(_OPTIONAL, texts[len(LAYOUT.required) :], strict=True):
        try:
            if column == "metadata" and (cell or table.extras):
                yield column, metadata(cell, table.extras, record)
            elif cell:
                yield column, _read(column, cell, table.dialect)
        except ValueError as error:
            faults.add(number, column, str(error))


def _read(column: str, cell: str, dialect: Dialect) -> object:
    match column:
        case "status":
            return word(cell, _STATUSES)
        case "reorder_point":
            return number_text(cell, dialect)
        case "decimals":
            if not (cell.isascii() and cell.isdigit() and len(cell) == 1):
                raise ValueError("is not a whole number from 0 to 6")
            return int(cell)
        case "units":
            return json_cell(cell)
        case "deleted_at":
            raise ValueError("the item is deleted: leave its row out")
        case _:
            return cell


# The insert waits for a transaction that is just inserting the same sku, barcode or external id. A row whose sku,
# barcode or external id exists already returns nothing.
_STORE = text("""
insert into items
  (sku, name, unit, decimals, units, barcode, external_id, metadata, status, description, reorder_point)
select sku, name, unit, decimals, cast(units as jsonb), barcode, external_id, cast(metadata as jsonb), status,
  description, reorder_point
from unnest(
  cast(:skus as text[]), cast(:names as text[]), cast(:units as text[]), cast(:decimals as smallint[]),
  cast(:packs as text[]), cast(:barcodes as text[]), cast(:external_ids as text[]), cast(:metadata as text[]),
  cast(:statuses as text[]), cast(:descriptions as text[]), cast(:points as numeric[])
) with ordinality i
  (sku, name, unit, decimals, units, barcode, external_id, metadata, status, description, reorder_point, n)
order by n on conflict do nothing returning sku
""")

_PRESENT = text("""
select sku, barcode, external_id, deleted_at from items
where sku = any(cast(:skus as text[])) or deleted_at is null
  and (barcode = any(cast(:barcodes as text[])) or external_id = any(cast(:external_ids as text[])))
""")


async def store(
    db: WriteSession, who: Principal, table: Table, faults: Faults, progress: RowProgress, claim: Claim, mode: Mode
) -> Counts:
    """Check all rows and store them. Raises ImportRefused.

    Batches are stored before later ones are checked: if one of those is refused, the transaction is rolled back."""
    if mode != "create":
        await _lock_existing(db, table, progress)
        table = await asyncio.to_thread(table.again, faults)
    fingerprint, refusals, total = Fingerprint(), faults.apart(), Counts(0, 0)
    remaining, size = rows(table, faults), _NEW_BATCH if mode == "create" else _CHANGE_BATCH
    while batch := await asyncio.to_thread(lambda: list(islice(remaining, size))):
        for row in batch:
            fingerprint.add_struct(row.body)
        if mode == "create":
            counts = await _create(db, batch, refusals)
        else:
            counts = await _create_or_update(db, who, table, batch, refusals, mode)
        total = total.plus(counts)
        progress(total.rows, "posting")
    if not faults.total:
        # Only now: of two imports of one content at once, the second has waited above for the first's items.
        await claim(fingerprint.hex())
    faults.extend(refusals)
    faults.check()
    return total._replace(blank_rows=table.blank_rows)


async def _create(db: WriteSession, batch: list[ItemRow], faults: Faults) -> Counts:
    new_skus = set(await db.scalars(_STORE, _columns([row.body for row in batch])))
    await _name_present([row for row in batch if row.body.sku not in new_skus], db, faults)
    return Counts(len(batch), 0, created=len(new_skus))


async def _create_or_update(
    db: WriteSession, who: Principal, table: Table, batch: list[ItemRow], faults: Faults, mode: Mode
) -> Counts:
    present = await item_updates.existing(db, [row.body.sku for row in batch])
    new = [row for row in batch if row.body.sku not in present]
    changes = [(present[row.body.sku], Change(*row)) for row in batch if row.body.sku in present]
    updated = await item_updates.update(db, who, table, changes, faults)
    if mode == "update":
        for row in new:
            faults.add(row.number, "sku", f"there is no item {row.body.sku!r}, and the mode update creates none")
        new = []
    created = (await _create(db, new, faults)).created if new else 0
    return Counts(len(batch), 0, created, updated, len(changes) - updated)


async def _lock_existing(db: WriteSession, table: Table, progress: RowProgress) -> None:
    """All items of the file at once, which takes a reading of its own."""

    def skus() -> set[str]:
        return {row.body.sku for row in rows(table.again(Faults()), Faults())}

    names = await asyncio.to_thread(skus)
    progress(len(names), "checking")
    await item_updates.lock(db, names)


def _columns(bodies: list[ItemBody]) -> dict[str, list[object]]:
    return {
        "skus": [body.sku for body in bodies],
        "names": [body.name for body in bodies],
        "units": [body.unit for body in bodies],
        "decimals": [body.decimals for body in bodies],
        "packs": [msgspec.json.encode(body.units).decode() for body in bodies],
        "barcodes": [body.barcode for body in bodies],
        "external_ids": [body.external_id for body in bodies],
        "metadata": [msgspec.json.encode(body.metadata).decode() for body in bodies],
        "statuses": [body.status for body in bodies],
        "descriptions": [body.description for body in bodies],
        "points": [body.reorder_point for body in bodies],
    }


async def _name_present(refused: list[ItemRow], db: WriteSession, faults: Faults) -> None:
    """What of each row that was not stored an item has already."""
    if not refused:
        return
    items = await db.execute(_PRESENT, _columns([row.body for row in refused]))
    skus = {item.sku for item in items}
    barcodes = {item.barcode: item.sku for item in items if item.deleted_at is None}
    external_ids = {item.external_id: item.sku for item in items if item.deleted_at is None}
    for number, body in refused:
        before = faults.total
        if body.sku in skus:
            faults.add(number, "sku", f"there is an item {body.sku!r} already, perhaps a deleted one")
        if body.barcode is not None and body.barcode in barcodes:
            faults.add(number, "barcode", f"{body.barcode!r} is that of the item {barcodes[body.barcode]!r}")
        if body.external_id is not None and body.external_id in external_ids:
            other = external_ids[body.external_id]
            faults.add(number, "external_id", f"{body.external_id!r} is that of the item {other!r}")
        if faults.total == before:
            faults.add(number, None, CHANGED_MEANWHILE)
