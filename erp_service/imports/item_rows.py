"""Rows of a file of items: checked by the rules of a request's body, and stored batch by batch."""

import asyncio
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import msgspec
from sqlalchemy import text

from erp_service import validation
from erp_service.db.sessions import WriteSession
from erp_service.imports.csv_table import Faults, Layout, RowProgress, Table
from erp_service.inventory.schemas import ItemBody

LAYOUT = Layout(required=("sku", "name", "unit"), optional=("status", "description", "reorder_point"))
_BATCH = 5_000


class ItemRow(NamedTuple):
    """One item, valid by itself; `number` is its line in the file."""

    number: int
    body: ItemBody


def rows(table: Table, faults: Faults) -> Iterator[ItemRow]:
    """The valid rows in file order; `faults` names all that is wrong with the others."""
    first_lines: dict[str, int] = {}
    for number, texts, _ in table:
        value: dict[str, object] = dict(zip(LAYOUT.required, texts, strict=False))
        optional = texts[len(LAYOUT.required) :]
        value |= {name: text for name, text in zip(LAYOUT.optional, optional, strict=True) if text}
        before, sku = faults.total, texts[0]
        if sku in first_lines:
            faults.add(number, "sku", f"is the same as on line {first_lines[sku]}")
        first_lines.setdefault(sku, number)
        for fault in validation.faults(ItemBody, value):
            faults.add(number, (fault.pointer or "/").removeprefix("/"), fault.detail)
        if faults.total == before:
            yield ItemRow(number, msgspec.convert(value, ItemBody, dec_hook=validation.read_hook))


# The insert waits for a transaction that is just inserting the same sku. A sku that exists already returns no row.
_STORE = text("""
insert into items (sku, name, unit, status, description, reorder_point)
select sku, name, unit, status, description, reorder_point from unnest(
  cast(:skus as text[]), cast(:names as text[]), cast(:units as text[]), cast(:statuses as text[]),
  cast(:descriptions as text[]), cast(:points as numeric[])
) with ordinality i (sku, name, unit, status, description, reorder_point, n)
order by n on conflict (sku) do nothing returning sku
""")


async def store(db: WriteSession, table: Table, faults: Faults, progress: RowProgress) -> int:
    """Check all rows and store them; returns their number. Raises ImportRefused.

    Batches are stored before later ones are checked: if one of those is refused, the transaction is rolled back."""
    count, remaining = 0, rows(table, faults)
    while batch := await asyncio.to_thread(lambda: list(islice(remaining, _BATCH))):
        bodies = [row.body for row in batch]
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
                faults.add(row.number, "sku", f"there is an item {row.body.sku!r} already, perhaps a deleted one")
        count += len(batch)
        progress(count, "posting")
    faults.check()
    return count
