"""Import of whole files: everything is checked and every bad line is named; then all of it is stored, or nothing.

What happens to a file of movements, hop by hop:

1. `load` has spool.py decompress it into a temporary file, which nobody else can change, and take its digest.
2. `importing` opens one transaction, for everything that follows.
3. `load_into` claims the content: `_claim` inserts its digest, so the same content is imported once. Of two imports of
   it at the same time, the second waits until the first commits or rolls back.
4. csv_table.py reads records with their line numbers, and movement_rows.py makes a row of each or names its faults.
   bulk_posting.py does that for the whole file and collects the items and locations that it names. A file with any
   fault is refused here.
5. bulk_posting.py locks items, locations and balances, in the order of inventory/row_locks.py.
6. It reads the file a second time. inventory/ledger.py applies each row to the balances in memory, and the entries are
   written by COPY, batch by batch. At the end the balances are written.
7. `load_into` writes the number of rows and one audit entry, and refreshes the statistics; the transaction commits.

Files of items and of locations go the same way, but item_rows.py and location_rows.py check and store in one reading.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, ExitStack
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

import msgspec
from sqlalchemy import select, text, update
from sqlalchemy.dialects.postgresql import insert

from erp_service.access.principals import Principal
from erp_service.audit.record import record
from erp_service.db.engine import long_transaction
from erp_service.db.sessions import WriteSession
from erp_service.imports import bulk_posting, item_rows, location_rows, movement_rows
from erp_service.imports.csv_table import Faults, ImportRefused, RowProgress, Table
from erp_service.imports.models import Import
from erp_service.imports.spool import Spooled, spooled

Kind: TypeAlias = Literal["items", "locations", "movements"]

Progress: TypeAlias = Callable[[int, int, str], None]
"""Called now and then with how much is done, of how much (0 if unknown), and the phase.

"reading" counts bytes of the file, and is called from another thread; "checking" and "posting" count rows."""


class Loaded(msgspec.Struct, frozen=True):
    """What was imported: the number of rows, without the header, and the digest of the decompressed content."""

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
    batch_size: int = bulk_posting.BATCH,
) -> Loaded:
    """Import a CSV file with a header, compressed or not; `-` is standard input; movements are written in batches.

    Raises ImportRefused with all that is wrong, and then nothing has changed; OSError if the file cannot be read."""
    with ExitStack() as stack:
        opening = spooled(path, lambda done, total: progress(done, total, "reading"))
        content = await asyncio.to_thread(stack.enter_context, opening)
        async with importing(url) as db:
            return await load_into(db, kind, content, who=who, progress=progress, batch_size=batch_size)


def importing(url: str) -> AbstractAsyncContextManager[WriteSession]:
    """The transaction of an import."""
    return long_transaction(url, name="erp import")


async def load_into(
    db: WriteSession,
    kind: Kind,
    content: Spooled,
    *,
    who: Principal,
    progress: Progress = _silent,
    batch_size: int = bulk_posting.BATCH,
) -> Loaded:
    """Import in the caller's transaction, which must be rolled back if this raises."""
    import_id = await _claim(db, kind, content)

    def row_progress(count: int, phase: str) -> None:
        progress(count, max(count, content.lines - 1), phase)

    count = await _store(db, kind, content.file, who, row_progress, batch_size)
    if not count:
        raise ImportRefused.because("The file has a header and nothing else.")
    loaded = Loaded(kind, count, content.sha256, content.name)
    await db.execute(update(Import).where(Import.id == import_id).values(row_count=count))
    await record(db, who, f"import.{kind}", import_id, after=loaded)
    # Refreshed at once, so that no report is planned for small tables until autovacuum runs. Where the role has no
    # right to it, Postgres only warns.
    await db.execute(text("analyze items, locations, stock_transactions, stock_ledger, stock_balances"))
    return loaded


async def _store(
    db: WriteSession, kind: Kind, file: BinaryIO, who: Principal, progress: RowProgress, batch_size: int
) -> int:
    """The number of rows. Raises ImportRefused."""
    faults = Faults()
    match kind:
        case "items":
            return await item_rows.store(db, Table(file, item_rows.LAYOUT, faults), faults, progress)
        case "locations":
            return await location_rows.store(db, Table(file, location_rows.LAYOUT, faults), faults)
        case "movements":
            table = partial(Table, file, movement_rows.LAYOUT)
            return await bulk_posting.post(db, who, table, progress, batch_size=batch_size)


async def _claim(db: WriteSession, kind: Kind, content: Spooled) -> int:
    """The id of the new import. Waits for another import of the same content; raises ImportRefused if one was done."""
    values = {"kind": kind, "sha256": content.sha256, "filename": content.name[:200], "row_count": 0}
    import_id = await db.scalar(insert(Import).values(values).on_conflict_do_nothing().returning(Import.id))
    if import_id is not None:
        return int(import_id)
    earlier = select(Import.filename, Import.imported_at, Import.row_count)
    earlier = earlier.where(Import.kind == kind, Import.sha256 == content.sha256)
    filename, imported_at, row_count = (await db.execute(earlier)).one()
    raise ImportRefused.because(
        f"This content was imported already: {row_count} {kind} from {filename},"
        f" on {imported_at:%Y-%m-%d at %H:%M:%S} UTC."
    )
