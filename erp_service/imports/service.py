"""Import of whole files: everything is checked and every bad line named; then all of it is stored, or nothing.

One transaction, and one audit entry a file. The same content is imported once: its digest is kept, and of two imports
of it at the same time the second waits to see what becomes of the first.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import msgspec
from sqlalchemy import select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from erp_service import validation
from erp_service.access.principals import Principal
from erp_service.audit.record import record
from erp_service.db.connections import KEEPALIVE, engine_url
from erp_service.db.sessions import WriteSession
from erp_service.imports import bulk_posting, location_rows, movement_rows
from erp_service.imports.csv_table import Faults, ImportRefused, Layout, Table
from erp_service.imports.models import Import
from erp_service.imports.spool import Spooled, spooled
from erp_service.inventory.schemas import ItemBody

Kind = Literal["items", "locations", "movements"]

Progress = Callable[[int, int, str], None]
"""Told how much is done, of how much (0: nobody knows), and the phase: "reading" counts bytes of the file, "checking"
and "posting" count its lines. Called now and then, in "reading" from another thread."""

ITEMS = Layout(required=("sku", "name", "unit"), optional=("status", "description", "reorder_point"))
_BATCH = 5_000


class Loaded(msgspec.Struct, frozen=True):
    """What was imported: so many lines, the header not counted; the digest is that of the decompressed content."""

    kind: Kind
    rows: int
    sha256: str
    filename: str


def _silent(_done: int, _total: int, _phase: str) -> None:
    pass


async def load(
    url: str,
    kind: Kind,
    path: str | Path,
    *,
    who: Principal,
    progress: Progress = _silent,
    batch: int = bulk_posting.BATCH,
) -> Loaded:
    """Import a CSV file with a header, compressed or not; `-` is standard input. Movements are written `batch` at once.

    Raises ImportRefused with all that is wrong, when nothing has changed; OSError when the file cannot be read."""
    with ExitStack() as stack:
        opening = spooled(path, partial(_reading, progress))
        content = await asyncio.to_thread(stack.enter_context, opening)
        async with importing(url) as db:
            return await load_into(db, kind, content, who=who, progress=progress, batch=batch)


@asynccontextmanager
async def importing(url: str) -> AsyncIterator[WriteSession]:
    """One transaction on a connection of its own, committed at the end."""
    # what very many lines need is time: the limits that requests have are not for this
    limits = {"statement_timeout": "0", "lock_timeout": "0", "idle_in_transaction_session_timeout": "0"}
    settings = {"application_name": "erp import", "timezone": "UTC", **limits, **KEEPALIVE}
    engine = create_async_engine(
        engine_url(url), poolclass=NullPool, connect_args={"timeout": 5, "server_settings": settings}
    )
    try:
        async with engine.begin() as connection:
            yield WriteSession(connection)
    finally:
        await engine.dispose()


def _reading(progress: Progress, done: int, total: int) -> None:
    progress(done, total, "reading")


async def load_into(
    db: WriteSession,
    kind: Kind,
    content: Spooled,
    *,
    who: Principal,
    progress: Progress = _silent,
    batch: int = bulk_posting.BATCH,
) -> Loaded:
    """The same in the caller's transaction, which must roll back when this raises."""
    import_id = await _claim(db, kind, content)

    def done(count: int, phase: str) -> None:
        progress(count, max(count, content.lines - 1), phase)

    faults = Faults()
    if kind == "items":
        rows = await _items(db, Table(content.file, ITEMS, faults), faults, done)
    elif kind == "locations":
        rows = await location_rows.post(db, Table(content.file, location_rows.LAYOUT, faults), faults)
    else:
        rows = await bulk_posting.post(db, who, partial(Table, content.file, movement_rows.LAYOUT), done, batch=batch)
    if not rows:
        raise ImportRefused.because("The file has a header and nothing else.")
    loaded = Loaded(kind, rows, content.sha256, content.name)
    await db.execute(update(Import).where(Import.id == import_id).values(row_count=rows))
    await record(db, who, f"import.{kind}", import_id, after=loaded)
    # Statistics at once, so that no report plans for small tables until autovacuum comes by. Where the role has no
    # right to it, Postgres leaves it at a warning.
    await db.execute(text("analyze items, locations, stock_transactions, stock_ledger, stock_balances"))
    return loaded


async def _claim(db: WriteSession, kind: Kind, content: Spooled) -> int:
    """Waits for another import of the same content. Raises ImportRefused if that, or an earlier one, was done."""
    values = {"kind": kind, "sha256": content.sha256, "filename": content.name[:200], "row_count": 0}
    claimed = await db.scalar(insert(Import).values(values).on_conflict_do_nothing().returning(Import.id))
    if claimed is not None:
        return int(claimed)
    found = select(Import.filename, Import.imported_at, Import.row_count)
    found = found.where(Import.kind == kind, Import.sha256 == content.sha256)
    filename, at, rows = (await db.execute(found)).one()
    raise ImportRefused.because(
        f"This content was imported already: {rows} {kind} from {filename}, on {at:%Y-%m-%d at %H:%M:%S} UTC."
    )


# What others are just making under the same sku is waited for. What is taken gives no row back.
_STORE_ITEMS = text("""
insert into items (sku, name, unit, status, description, reorder_point)
select sku, name, unit, status, description, reorder_point from unnest(
  cast(:skus as text[]), cast(:names as text[]), cast(:units as text[]), cast(:statuses as text[]),
  cast(:descriptions as text[]), cast(:points as numeric[])
) with ordinality i (sku, name, unit, status, description, reorder_point, n)
order by n on conflict (sku) do nothing returning sku
""")


async def _items(db: WriteSession, table: Table, faults: Faults, done: bulk_posting.Done) -> int:
    """Check and store batch by batch: if a later one is refused, the transaction takes all back."""
    count, lines = 0, _item_lines(table, faults)
    while batch := await asyncio.to_thread(lambda: dict(islice(lines, _BATCH))):
        stored = await db.scalars(
            _STORE_ITEMS,
            {
                "skus": list(batch),
                "names": [body.name for _, body in batch.values()],
                "units": [body.unit for _, body in batch.values()],
                "statuses": [body.status for _, body in batch.values()],
                "descriptions": [body.description for _, body in batch.values()],
                "points": [body.reorder_point for _, body in batch.values()],
            },
        )
        for sku in batch.keys() - set(stored):
            faults.add(batch[sku][0], "sku", f"there is an item {sku!r} already, perhaps a deleted one")
        count += len(batch)
        done(count, "posting")
    faults.check()
    return count


def _item_lines(table: Table, faults: Faults) -> Iterator[tuple[str, tuple[int, ItemBody]]]:
    first: dict[str, int] = {}
    for number, known, _ in table:
        value: dict[str, Any] = dict(zip(ITEMS.required, known, strict=False))
        value |= {name: text for name, text in zip(ITEMS.optional, known[3:], strict=True) if text}
        before, sku = faults.total, known[0]
        if sku in first:
            faults.add(number, "sku", f"is the same as on line {first[sku]}")
        first.setdefault(sku, number)
        for fault in validation.faults(ItemBody, value):
            faults.add(number, (fault.pointer or "/").removeprefix("/"), fault.detail)
        if faults.total == before:
            yield sku, (number, msgspec.convert(value, ItemBody, dec_hook=validation.read_hook))
