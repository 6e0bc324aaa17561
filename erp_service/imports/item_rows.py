"""Rows of a file of items: checked by the rules of a request's body, and stored batch by batch."""

import asyncio
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple, get_args

import msgspec
from sqlalchemy import text

from erp_service import validation
from erp_service.db.sessions import WriteSession
from erp_service.imports.csv_table import RowProgress, Table
from erp_service.imports.files.dialect import Dialect, number_text, word
from erp_service.imports.files.faults import Faults
from erp_service.imports.files.header import Layout
from erp_service.imports.fingerprint import Claim, Fingerprint
from erp_service.imports.identifiers import Identifiers
from erp_service.inventory.schemas import ItemBody, ItemStatus

LAYOUT = Layout(
    required=("sku", "name", "unit"),
    optional=("status", "description", "reorder_point"),
    checked=("deleted_at",),
    read_only=("id", "created_at", "updated_at"),
)
_STATUSES: tuple[str, ...] = get_args(ItemStatus)
_BATCH = 5_000


class ItemRow(NamedTuple):
    """One item, valid by itself; `number` is its line in the file."""

    number: int
    body: ItemBody


def rows(table: Table, faults: Faults) -> Iterator[ItemRow]:
    """The valid rows in file order; `faults` names all that is wrong with the others."""
    skus = Identifiers("sku", faults, keep_damaged=table.dialect.keep_codes)
    for number, texts, _ in table:
        before = faults.total
        value = dict(_values(number, texts, table.dialect, faults))
        skus.add(number, texts[0])
        for fault in validation.faults(ItemBody, value):
            faults.add(number, (fault.pointer or "/").removeprefix("/"), fault.detail)
        if faults.total == before:
            yield ItemRow(number, msgspec.convert(value, ItemBody, dec_hook=validation.read_hook))


def _values(number: int, texts: tuple[str, ...], dialect: Dialect, faults: Faults) -> Iterator[tuple[str, str]]:
    """The fields of the body; one that cannot be read is left out, and named."""
    yield from zip(LAYOUT.required, texts, strict=False)
    for column, cell in zip(LAYOUT.known[len(LAYOUT.required) :], texts[len(LAYOUT.required) :], strict=True):
        if not cell:
            continue
        try:
            yield column, _read(column, cell, dialect)
        except ValueError as error:
            faults.add(number, column, str(error))


def _read(column: str, cell: str, dialect: Dialect) -> str:
    match column:
        case "status":
            return word(cell, _STATUSES)
        case "reorder_point":
            return number_text(cell, dialect)
        case "deleted_at":
            raise ValueError("the item is deleted: leave its row out")
        case _:
            return cell


# The insert waits for a transaction that is just inserting the same sku. A sku that exists already returns no row.
_STORE = text("""
insert into items (sku, name, unit, status, description, reorder_point)
select sku, name, unit, status, description, reorder_point from unnest(
  cast(:skus as text[]), cast(:names as text[]), cast(:units as text[]), cast(:statuses as text[]),
  cast(:descriptions as text[]), cast(:points as numeric[])
) with ordinality i (sku, name, unit, status, description, reorder_point, n)
order by n on conflict (sku) do nothing returning sku
""")


async def store(db: WriteSession, table: Table, faults: Faults, progress: RowProgress, claim: Claim) -> int:
    """Check all rows and store them; returns their number. Raises ImportRefused.

    Batches are stored before later ones are checked: if one of those is refused, the transaction is rolled back."""
    count, remaining = 0, rows(table, faults)
    fingerprint, present = Fingerprint(), Faults()
    while batch := await asyncio.to_thread(lambda: list(islice(remaining, _BATCH))):
        bodies = [row.body for row in batch]
        for body in bodies:
            fingerprint.add_struct(body)
        stored = await db.scalars(
            _STORE,
            {
                "skus": [body.sku for body in bodies],
                "names": [body.name for body in bodies],
                "units": [body.unit for body in bodies],
                "statuses": [body.status for body in bodies],
                "descriptions": [body.description for body in bodies],
                "points": [body.reorder_point for body in bodies],
            },
        )
        new_skus = set(stored)
        for row in batch:
            if row.body.sku not in new_skus:
                present.add(row.number, "sku", f"there is an item {row.body.sku!r} already, perhaps a deleted one")
        count += len(batch)
        progress(count, "posting")
    if not faults.total:
        # Only now: of two imports of one content at once, the second has waited above for the first's items.
        await claim(fingerprint.hex())
    faults.extend(present)
    faults.check()
    return count
