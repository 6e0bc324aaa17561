"""Posting a file of movements: the ledger's second writer. Its locks, their order and its arithmetic are the ledger's.

Everything happens in the caller's transaction. The balances are locked first, the entries are copied, and the balances
are written once at the end. So here, too, the order of ids is the order of effects for one item at one location. In
memory are two batches, and one entry for each item, location and balance that the file names; not its rows.
"""

import asyncio
import io
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import asyncpg
from sqlalchemy import text
from uuid_utils.compat import uuid7

from erp_service.access.principals import Principal
from erp_service.db.sessions import WriteSession
from erp_service.decimals import shortest
from erp_service.imports import movement_rows
from erp_service.imports.csv_table import Faults, RowProgress, Table
from erp_service.imports.movement_rows import MovementRow
from erp_service.inventory import ledger
from erp_service.inventory.row_locks import BalanceKey, LockedRows, lock_balances, lock_for_share
from erp_service.inventory.stock_schemas import MOST_MOVEMENTS
from erp_service.inventory.valuation import SETTLEMENT, Balance, DoesNotFit, NotEnough

BATCH = 10_000
"""Rows whose entries are copied at once: about 2 MB of text."""

_DOCUMENT = ("id", "user_id")
_ENTRY = (
    *("transaction_id", "line", "occurred_at", "reference_no", "user_id"),
    *("item_id", "notes", "metadata", "entry_type", "unit_cost", "reason", "location_id"),
    *("quantity", "value", "on_hand_after", "value_after"),
)
_NULL = "\\N"
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


class Batch(NamedTuple):
    """Documents and entries in the text format of COPY; `row_count` is that of the file up to the end of the batch."""

    documents: str
    entries: str
    row_count: int


class Names(NamedTuple):
    """What the file names, with the line that names it first."""

    skus: dict[str, int]
    codes: dict[str, tuple[int, str]]
    """With the column, too: location or to_location."""
    balances: dict[tuple[str, str], None]
    """The (sku, code) of each balance that the file changes, in order."""


async def post(
    db: WriteSession,
    who: Principal,
    table: Callable[[Faults], Table],
    progress: RowProgress,
    *,
    batch_size: int = BATCH,
) -> int:
    """Check every row, then post all of them; returns their number. `table` reads the file from its beginning.

    Consecutive rows with the same time and reference form one document, of at most 1,000 lines; a row without a
    reference is a document by itself. Raises ImportRefused."""
    now, faults, names = datetime.now(UTC), Faults(), Names({}, {}, {})
    counts = _check(movement_rows.rows(table(faults), faults, now), names, batch_size)
    while (count := await asyncio.to_thread(next, counts, None)) is not None:
        progress(count, "checking")
    faults.check()
    locked_rows, balances = await _lock(db, names, faults)
    faults.check()
    rows = movement_rows.rows(table(faults), faults, now)
    batches = _batches(rows, locked_rows, balances, who.user_id, faults, batch_size)
    count = await _copy_all(db, batches, faults, progress)
    faults.check()
    await _write_balances(db, balances, batch_size)
    return count


def _check(rows: Iterator[MovementRow | None], names: Names, batch_size: int) -> Iterator[int]:
    """Fills `names`; yields from time to time the number of rows so far."""
    count = 0
    for count, row in enumerate(rows, 1):
        if row is not None:
            names.skus.setdefault(row.sku, row.number)
            names.codes.setdefault(row.location, (row.number, "location"))
            names.balances[row.sku, row.location] = None
            if row.to_location:
                names.codes.setdefault(row.to_location, (row.number, "to_location"))
                names.balances[row.sku, row.to_location] = None
        if not count % batch_size:
            yield count
    yield count


async def _lock(db: WriteSession, names: Names, faults: Faults) -> tuple[LockedRows, dict[BalanceKey, Balance]]:
    """Lock all rows that the file names, in the order of row_locks.py; `faults` names those that do not exist."""
    locked_rows = await lock_for_share(db, names.skus, names.codes)
    for sku, line in names.skus.items():
        if sku not in locked_rows.items:
            faults.add(line, "sku", f"there is no item {sku!r}; this line names it first")
    for code, (line, column) in names.codes.items():
        if code not in locked_rows.locations:
            faults.add(line, column, f"there is no location {code!r}; this line names it first")
    if faults.total:
        return locked_rows, {}
    pairs = [(locked_rows.items[sku], locked_rows.locations[code]) for sku, code in names.balances]
    return locked_rows, await lock_balances(db, {(item.id, location.id): location for item, location in pairs})


async def _copy_all(db: WriteSession, batches: Iterator[Batch], faults: Faults, progress: RowProgress) -> int:
    driver: asyncpg.Connection = (await db.get_raw_connection()).driver_connection
    count = 0
    batch = await asyncio.to_thread(next, batches, None)
    while batch is not None:
        # the server writes this batch while a thread makes the next one
        _, following = await asyncio.gather(_copy(driver, batch, faults), asyncio.to_thread(next, batches, None))
        count = batch.row_count
        progress(count, "posting")
        batch = following
    return count


async def _copy(driver: asyncpg.Connection, batch: Batch, faults: Faults) -> None:
    if faults.total:
        return  # the import will be refused; the other rows are only searched for more faults
    documents, entries = io.BytesIO(batch.documents.encode()), io.BytesIO(batch.entries.encode())
    await driver.copy_to_table("stock_transactions", source=documents, columns=_DOCUMENT)
    await driver.copy_to_table("stock_ledger", source=entries, columns=_ENTRY)


def _batches(
    rows: Iterator[MovementRow | None],
    locked_rows: LockedRows,
    balances: dict[BalanceKey, Balance],
    user_id: int | None,
    faults: Faults,
    batch_size: int,
) -> Iterator[Batch]:
    """What to copy, in file order. `balances` is brought up to date with the rows so far."""
    user = _NULL if user_id is None else str(user_id)
    documents, entries = io.StringIO(), io.StringIO()
    document, common, line, count = "", "", 0, 0
    occurred_at, reference_no = datetime.min.replace(tzinfo=UTC), ""
    for count, row in enumerate(rows, 1):
        if row is None:
            continue
        line += 1
        joins = row.reference_no and row.reference_no == reference_no and row.occurred_at == occurred_at
        if not joins or line > MOST_MOVEMENTS:
            occurred_at, reference_no, document, line = row.occurred_at, row.reference_no, str(uuid7()), 1
            documents.write(f"{document}\t{user}\n")
            common = f"{occurred_at.isoformat()}\t{_text(reference_no)}"
        try:
            for entry in _entries(row, locked_rows, balances):
                entries.write(f"{document}\t{line}\t{common}\t{user}\t{entry}\n")
        except NotEnough as short:
            faults.add(row.number, "quantity", f"only {shortest(short.available)} of {row.sku} at {row.location}")
        except DoesNotFit as exc:
            faults.add(row.number, "quantity", str(exc))
        if not count % batch_size:
            yield Batch(documents.getvalue(), entries.getvalue(), count)
            documents, entries = io.StringIO(), io.StringIO()
    yield Batch(documents.getvalue(), entries.getvalue(), count)


def _entries(row: MovementRow, locked_rows: LockedRows, balances: dict[BalanceKey, Balance]) -> Iterator[str]:
    """The columns of each entry that come from the row itself, not from its document."""
    item, cost = locked_rows.items[row.sku], row.unit_cost
    line = ledger.PostingLine(
        kind=row.type,
        item=item,
        location=locked_rows.locations[row.location],
        to_location=locked_rows.locations[row.to_location] if row.to_location else None,
        quantity=row.quantity,
        unit_cost=cost,
        occurred_at=row.occurred_at,
    )
    metadata = row.metadata.replace("\\", "\\\\")  # JSON has escaped all other characters that COPY would escape
    common = f"{item.id}\t{_text(row.notes)}\t{metadata}"
    for kind, location, (quantity, value, on_hand_after, value_after) in ledger.steps(line, balances):
        if quantity:
            own = f"{kind}\t{_NULL if cost is None else cost}\t{_text(row.reason)}"
        else:
            own = f"ADJUSTMENT\t{_NULL}\t{SETTLEMENT}"
        # str() of a Decimal takes a third of the time of formatting it
        yield f"{common}\t{own}\t{location.id}\t{quantity!s}\t{value!s}\t{on_hand_after!s}\t{value_after!s}"


def _text(text: str) -> str:
    return text.translate(_ESCAPES) if text else _NULL


_WRITE_BALANCES = text("""
update stock_balances b set on_hand = n.on_hand, value = n.value, last_average = n.last_average
from unnest(
  cast(:items as bigint[]), cast(:locations as bigint[]),
  cast(:on_hand as numeric[]), cast(:values as numeric[]), cast(:averages as numeric[])
) n (item_id, location_id, on_hand, value, last_average)
where b.item_id = n.item_id and b.location_id = n.location_id
""")


async def _write_balances(db: WriteSession, balances: Mapping[BalanceKey, Balance], batch_size: int) -> None:
    pairs = list(balances.items())
    for start in range(0, len(pairs), batch_size):
        batch = pairs[start : start + batch_size]
        await db.execute(
            _WRITE_BALANCES,
            {
                "items": [item_id for (item_id, _), _ in batch],
                "locations": [location_id for (_, location_id), _ in batch],
                "on_hand": [balance.on_hand for _, balance in batch],
                "values": [balance.value for _, balance in batch],
                "averages": [balance.last_average for _, balance in batch],
            },
        )
