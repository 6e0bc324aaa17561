"""Import of whole files: everything is checked and every bad line is named; then all of it is stored, or nothing.

What happens to a file of movements, hop by hop:

1. `load` has spool.py decompress it into a temporary file in UTF-8, which nobody else can change, and take its digest.
   A job of the API (jobs/attempt.py) has its file from the store, and goes on in the same way.
2. `importing` opens one transaction, for everything that follows.
3. `load_into` refuses a file whose bytes were imported already.
4. csv_table.py reads records with their line numbers, and movement_rows.py (of our own exports exported_rows.py) makes
   a row of each or names its faults. bulk_posting.py does that for the whole file and collects the items and locations
   that it names. A file with any fault is refused here. Then the content is claimed: `_Claim` inserts the digest of its
   rows, so the same rows are imported once, whatever their bytes. Of two imports of them at the same time, the second
   waits until the first commits or rolls back.
5. bulk_posting.py locks items, locations, values and balances, in the order of inventory/posting/row_locks.py.
6. It reads the file a second time. inventory/posting/lines.py applies each row to the stock in memory, and the entries
   are written by COPY, batch by batch. At the end values and balances are written.
7. `load_into` writes the number of rows and one audit entry, and refreshes the statistics; the transaction commits.

Files of items and of locations go the same way, but item_rows.py and location_rows.py check and store in one reading.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, ExitStack, suppress
from pathlib import Path
from typing import TypeAlias

import msgspec
from sqlalchemy import or_, select, text, update
from sqlalchemy.dialects.postgresql import insert

from erp_service.access.principals import Principal
from erp_service.audit.record import record
from erp_service.db.engine import long_transaction
from erp_service.db.sessions import WriteSession
from erp_service.imports import bulk_posting, exported_rows, item_rows, location_rows, movement_rows
from erp_service.imports.csv_table import AS_OURS, RowProgress, Table
from erp_service.imports.files.dialect import Dialect
from erp_service.imports.files.faults import Faults, ImportRefused
from erp_service.imports.models import Import
from erp_service.imports.spool import Spooled, spooled
from erp_service.imports.stored import Counts, Mode
from erp_service.imports.stored import Kind as Kind

Progress: TypeAlias = Callable[[int, int, str], None]
"""Called now and then with how much is done, of how much (0 if unknown), and the phase.

"reading" counts bytes of the file, and is called from another thread; "checking" and "posting" count rows."""


def counted(rows: int, kind: Kind) -> str:
    """`1 item`, `2,000 items`."""
    return f"{rows:,} {kind if rows != 1 else kind.removesuffix('s')}"


class Loaded(msgspec.Struct, frozen=True):
    """What was imported: the number of rows, without the header, and the digest of the decompressed content."""

    kind: Kind
    rows: int
    sha256: str
    filename: str
    blank_rows: int = 0
    """Rows without any value, which are passed over."""
    warnings: tuple[str, ...] = ()
    """What was taken although it looks wrong: the first hundred, with their lines."""
    mode: Mode = "create"
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    import_id: int = 0


def _silent(_done: int, _total: int, _phase: str) -> None:
    pass


class _RollBack(Exception):
    """Ends the transaction of an import that would have been complete."""


async def load(
    url: str,
    kind: Kind,
    path: str | Path,
    *,
    who: Principal,
    dialect: Dialect = AS_OURS,
    mode: Mode = "create",
    dry_run: bool = False,
    progress: Progress = _silent,
    committing: Callable[[], object] = lambda: None,
    batch_size: int = bulk_posting.BATCH,
) -> Loaded:
    """Import a file of CSV or JSON Lines, compressed or not; `-` is standard input; movements are written in batches.

    With `dry_run` everything is done and rolled back. `committing` is called when only the commit is left, after which
    nobody can say that nothing was imported. Raises ImportRefused with all that is wrong, and then nothing has
    changed; CannotRead."""
    with ExitStack() as stack:
        opening = spooled(path, lambda done, total: progress(done, total, "reading"), dialect.encoding)
        content = await asyncio.to_thread(stack.enter_context, opening)
        with suppress(_RollBack):
            async with importing(url) as db:
                loaded = await load_into(
                    db, kind, content, who=who, dialect=dialect, mode=mode, progress=progress, batch_size=batch_size
                )
                if dry_run:
                    raise _RollBack
                committing()
        return loaded


def importing(url: str, name: str = "erp import") -> AbstractAsyncContextManager[WriteSession]:
    """The transaction of an import."""
    return long_transaction(url, name=name)


async def load_into(
    db: WriteSession,
    kind: Kind,
    content: Spooled,
    *,
    who: Principal,
    dialect: Dialect = AS_OURS,
    mode: Mode = "create",
    progress: Progress = _silent,
    batch_size: int = bulk_posting.BATCH,
    faults: Faults | None = None,
) -> Loaded:
    """Import in the caller's transaction, which must be rolled back if this raises.

    `faults` collects what is wrong, for a caller that wants more than the first hundred."""
    if kind == "movements" and mode != "create":
        raise ImportRefused.because("Movements are only created: what happened is not updated.")
    claim, faults = _Claim(db, kind, mode, content), faults or Faults()
    await claim.refuse_known()

    def row_progress(count: int, phase: str) -> None:
        progress(count, max(count, content.lines - 1), phase)

    counts = await _store(db, kind, content, who, dialect, mode, row_progress, claim, batch_size, faults)
    if not counts.rows:
        raise ImportRefused.because("The file has a header and nothing else.")
    loaded = Loaded(
        kind,
        counts.rows,
        content.sha256,
        content.name,
        counts.blank_rows,
        tuple(map(str, faults.warnings)),
        mode,
        counts.created,
        counts.updated,
        counts.unchanged,
        claim.import_id,
    )
    await db.execute(update(Import).where(Import.id == claim.import_id).values(row_count=counts.rows))
    await record(db, who, f"import.{kind}", claim.import_id, after=loaded)
    # Refreshed at once, so that no report is planned for small tables until autovacuum runs. Where the role has no
    # right to it, Postgres only warns.
    await db.execute(text("analyze items, locations, stock_transactions, stock_ledger, stock_balances"))
    return loaded


async def _store(
    db: WriteSession,
    kind: Kind,
    content: Spooled,
    who: Principal,
    dialect: Dialect,
    mode: Mode,
    progress: RowProgress,
    claim: "_Claim",
    batch_size: int,
    faults: Faults,
) -> Counts:
    """Raises ImportRefused."""
    file = content.file
    match kind:
        case "items":
            # in a thread: of JSON Lines all is read to know the columns
            table = await asyncio.to_thread(Table, file, item_rows.LAYOUT, faults, dialect)
            return await item_rows.store(db, who, table, faults, progress, claim, mode)
        case "locations":
            table = await asyncio.to_thread(Table, file, location_rows.LAYOUT, faults, dialect)
            return await location_rows.store(db, who, table, faults, claim, mode)
        case "movements":
            layouts = (exported_rows.EXPORTED, movement_rows.LAYOUT)
            return await bulk_posting.post(
                *(db, who, lambda faults: Table(file, layouts, faults, dialect), progress, claim, faults),
                batch_size=batch_size,
            )


class _Claim:
    """Makes a content the first of its kind, and takes the place of all later ones; called with the rows' digest.

    A file that also updates takes nobody's place: to send it again sets again what somebody has changed meanwhile."""

    def __init__(self, db: WriteSession, kind: Kind, mode: Mode, content: Spooled) -> None:
        self._db, self._kind, self._mode, self._content = db, kind, mode, content
        self.import_id = 0
        """Of the new import, once it is claimed."""

    async def __call__(self, content_sha256: str) -> int:
        """Waits for another import of the same content; raises ImportRefused if one was done."""
        values = {
            "kind": self._kind,
            "sha256": self._content.sha256,
            "content_sha256": content_sha256,
            "filename": self._content.name[:200],
            "row_count": 0,
            "mode": self._mode,
        }
        import_id = await self._db.scalar(insert(Import).values(values).on_conflict_do_nothing().returning(Import.id))
        if import_id is None:
            await self.refuse_known(content_sha256)
        self.import_id = int(import_id or 0)
        return self.import_id

    async def refuse_known(self, content_sha256: str | None = None) -> None:
        """Raises ImportRefused if these bytes, or these rows, were imported."""
        if self._mode != "create":
            return
        # without a digest of the rows: imports of an earlier version, and a quick answer
        same = or_(Import.sha256 == self._content.sha256, Import.content_sha256 == content_sha256)
        known = (Import.kind == self._kind, Import.mode == "create", Import.undone_at.is_(None), same)
        earlier = select(Import.sha256, Import.filename, Import.imported_at, Import.row_count)
        row = (await self._db.execute(earlier.where(*known).limit(1))).one_or_none()
        if row is None:
            return
        sha256, filename, imported_at, row_count = row
        saved_again = "" if sha256 == self._content.sha256 else " The rows are the same, though the bytes are not."
        raise ImportRefused.because(
            f"This content was imported already: {counted(row_count, self._kind)} from {filename},"
            f" on {imported_at:%Y-%m-%d at %H:%M:%S} UTC.{saved_again}"
        )
