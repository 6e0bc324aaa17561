"""Posting a file of movements: the ledger's second writer. Its locks, their order and its arithmetic are the ledger's.

Everything happens in the caller's transaction. Values and balances are locked first, the entries are copied, and values
and balances are written once at the end. So here, too, the order of ids is the order of effects. In memory are two
batches, and one entry for each item, location and balance that the file names; not its rows.
"""

import asyncio
import io
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import NamedTuple, TypeVar

import asyncpg
from sqlalchemy import text

from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.db.outages import constraint_of
from erp_service.db.sessions import WriteSession
from erp_service.imports import exported_rows, movement_rows
from erp_service.imports.csv_table import Row, RowProgress, Table
from erp_service.imports.entries import Batch, Poster
from erp_service.imports.exported_rows import EXPORTED
from erp_service.imports.files.faults import Faults, ImportRefused
from erp_service.imports.fingerprint import Claim, Fingerprint
from erp_service.imports.movement_rows import MovementRow
from erp_service.imports.row_order import RowOrder
from erp_service.imports.stored import Counts
from erp_service.inventory.posting.history import first_shortage
from erp_service.inventory.posting.periods import PERIOD_OPEN
from erp_service.inventory.posting.row_locks import LockedRows, Wanted, lock_rows
from erp_service.inventory.reservations.expiry import sweep
from erp_service.timestamps import text_of

Key = TypeVar("Key")
State = TypeVar("State")

BATCH = 10_000
"""Rows whose entries are copied at once: about 2 MB of text."""

_DOCUMENT = ("id", "user_id", "import_id")
_ENTRY = (
    *("transaction_id", "line", "occurred_at", "reference_no", "user_id"),
    *("item_id", "notes", "metadata", "entry_type", "unit_cost", "reason", "origin", "location_id"),
    *("quantity", "value", "on_hand_after", "item_on_hand_after", "value_after"),
)


class Names(NamedTuple):
    """What the file names, with the line that names it first."""

    skus: dict[str, int]
    codes: dict[str, int]
    rows: dict[Wanted, None]
    """What is to be locked, in order."""


async def post(
    db: WriteSession,
    who: Principal,
    table: Callable[[Faults], Table],
    progress: RowProgress,
    claim: Claim,
    faults: Faults,
    *,
    batch_size: int = BATCH,
) -> Counts:
    """Check every row, then post all of them.

    `table` reads the file from its beginning, and is called in a thread. Consecutive rows with the same time and
    reference form one document, of at most 1,000 lines; a row without a reference is a document by itself. Documents of
    an export stay as they were. Of adjustments, and of exports, which say themselves what is posted at which value,
    only an ADMIN is the author, as over the API. Raises ImportRefused."""
    now, names, fingerprint = datetime.now(UTC), Names({}, {}, {}), Fingerprint()
    first = await asyncio.to_thread(table, faults)
    adjusts = who.role.includes(Role.ADMIN)
    if first.layout is EXPORTED and not adjusts:
        raise ImportRefused.because("This is an export of movements: to import one is for the role ADMIN.")
    order = RowOrder(first.dialect.sort)
    if first.dialect.sort == "id" and not first.has("id"):
        raise ImportRefused.because("--sort id: the file has no column id.")
    rows = _rows(first, faults, now, iter(first), order)
    counts = _check(rows if adjusts else _no_adjustments(rows, faults), names, fingerprint, batch_size)
    while (count := await asyncio.to_thread(next, counts, None)) is not None:
        progress(count, "checking")
    # of a file with faults, what does not exist is named too, and only its stock is not computed
    import_id = 0 if faults.total else await claim(fingerprint.hex())
    locked_rows = await lock_rows(db, names.rows)
    if unknown := _unknown(names, locked_rows):
        again = await asyncio.to_thread(table, Faults())
        rows = _rows(again, Faults(), now, iter(again), None)
        await asyncio.to_thread(_name_unknown, rows, unknown, faults)
    faults.check()
    await sweep(db, locked_rows)
    first_id = 1 + await db.scalar(_LAST_ID)
    second = await asyncio.to_thread(table, faults)
    rows = _rows(second, faults, now, order.read(second), None)
    poster = Poster(locked_rows, who.user_id, import_id, faults, history=second.dialect.history)
    count = await _copy_all(db, poster.batches(rows, batch_size), faults, progress)
    if poster.has_shortage and not (order.ascending or order.sorts):
        column = "id" if second.has("id") and second.layout is EXPORTED else "occurred_at"
        faults.add(None, None, _NOT_IN_ORDER.format(column))
    faults.check()
    await _write_stock(db, locked_rows, batch_size)
    await _check_history(db, first_id, locked_rows, poster, faults)
    faults.check()
    return Counts(count, first.blank_rows, created=count)


# the balances are locked by now: whatever has a later id there is of this file
_LAST_ID = text("select coalesce(max(id), 0) from stock_ledger")


_NOT_IN_ORDER = (
    "The rows are not in order of time, and movements are posted in the order of the file:"
    " --sort {} posts the oldest first."
)


def _rows(
    table: Table, faults: Faults, now: datetime, source: Iterator[Row], order: RowOrder | None
) -> Iterator[MovementRow | None]:
    """The movements of either kind of file; `order` is told the place of each row."""
    if table.layout is EXPORTED:
        yield from exported_rows.rows(table, faults, now, source, order)
        return
    for row in movement_rows.rows(table, faults, now, source):
        if row is not None and order is not None:
            order.add(row.occurred_at, table.position)
        yield row


def _no_adjustments(rows: Iterator[MovementRow | None], faults: Faults) -> Iterator[MovementRow | None]:
    for row in rows:
        if row is not None and row.type == "ADJUSTMENT":
            faults.add(row.number, "type", "adjustments are for the role ADMIN")
        yield row


def _check(
    rows: Iterator[MovementRow | None], names: Names, fingerprint: Fingerprint, batch_size: int
) -> Iterator[int]:
    """Fills `names` and `fingerprint`; yields from time to time the number of rows so far."""
    count = 0
    for count, row in enumerate(rows, 1):
        if row is not None:
            names.skus.setdefault(row.sku, row.number)
            if row.location:
                names.codes.setdefault(row.location, row.number)
            names.rows[Wanted(row.sku, row.location or None, row.type != "TRANSFER")] = None
            if row.to_location:
                names.codes.setdefault(row.to_location, row.number)
                names.rows[Wanted(row.sku, row.to_location, valued=False)] = None
            fingerprint.add(row.content)
        if not count % batch_size:
            yield count
    yield count


def _unknown(names: Names, locked_rows: LockedRows) -> dict[str, int]:
    """The items and locations that the file names and that do not exist, each with the line that names it first; a
    location as `at <code>`."""
    skus = {sku: line for sku, line in names.skus.items() if sku not in locked_rows.items}
    return skus | {_at(code): line for code, line in names.codes.items() if code not in locked_rows.locations}


def _at(code: str) -> str:
    # no sku has a line feed
    return f"at\n{code}"


def _name_unknown(rows: Iterator[MovementRow | None], unknown: Mapping[str, int], faults: Faults) -> None:
    for row in rows:
        if row is None:
            continue
        places = (("location", row.location), ("to_location", row.to_location))
        faulty = [("sku", "item", row.sku, row.sku)] + [
            (column, "location", code, _at(code)) for column, code in places if code
        ]
        for column, what, word, key in faulty:
            if (first := unknown.get(key)) is not None:
                hint = "; this line names it first" if first == row.number else ""
                faults.add(row.number, column, f"there is no {what} {word!r}{hint}", word)


async def _copy_all(db: WriteSession, batches: Iterator[Batch], faults: Faults, progress: RowProgress) -> int:
    driver: asyncpg.Connection = db.driver
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
    try:
        await driver.copy_to_table("stock_transactions", source=documents, columns=_DOCUMENT)
    except asyncpg.UniqueViolationError as exc:
        raise ImportRefused.because(
            "The movements of a document are posted already, or stand far apart in the file (--sort id brings them"
            f" together): {exc.detail}"
        ) from None
    try:
        await driver.copy_to_table("stock_ledger", source=entries, columns=_ENTRY)
    except asyncpg.CheckViolationError as exc:
        if constraint_of(exc) != PERIOD_OPEN:
            raise
        raise ImportRefused.because(
            f"There are movements before {exc.detail}, and what was before is closed."
        ) from None


# What a balance does not know of its last time, the ledger is asked for, as in posting/ledger.py; it has this file's
# entries by now.
_WRITE_BALANCES = text("""
update stock_balances b set on_hand = n.on_hand, last_occurred_at = coalesce(cast(n.last_time as timestamptz), (
  select max(e.occurred_at) from stock_ledger e where e.item_id = b.item_id and e.location_id = b.location_id
))
from unnest(
  cast(:items as bigint[]), cast(:locations as bigint[]),
  cast(:on_hand as numeric[]), cast(:last_times as timestamptz[])
) n (item_id, location_id, on_hand, last_time)
where b.item_id = n.item_id and b.location_id = n.location_id
""")

_WRITE_VALUES = text("""
update stock_values v set on_hand = n.on_hand, value = n.value, last_cost = n.last_cost
from unnest(
  cast(:items as bigint[]), cast(:on_hand as numeric[]), cast(:values as numeric[]), cast(:last_costs as numeric[])
) n (item_id, on_hand, value, last_cost)
where v.item_id = n.item_id
""")


async def _write_stock(db: WriteSession, rows: LockedRows, batch_size: int) -> None:
    for balances in _batches(rows.balances, batch_size):
        await db.execute(
            _WRITE_BALANCES,
            {
                "items": [item_id for (item_id, _), _ in balances],
                "locations": [location_id for (_, location_id), _ in balances],
                "on_hand": [balance.on_hand for _, balance in balances],
                "last_times": [balance.last_occurred_at for _, balance in balances],
            },
        )
    for values in _batches(rows.values, batch_size):
        await db.execute(
            _WRITE_VALUES,
            {
                "items": [item_id for item_id, _ in values],
                "on_hand": [value.on_hand for _, value in values],
                "values": [value.value for _, value in values],
                "last_costs": [value.last_cost for _, value in values],
            },
        )


def _batches(rows: Mapping[Key, State], size: int) -> Iterator[list[tuple[Key, State]]]:
    pairs = list(rows.items())
    return (pairs[start : start + size] for start in range(0, len(pairs), size))


async def _check_history(db: WriteSession, first_id: int, rows: LockedRows, poster: Poster, faults: Faults) -> None:
    """What goes out at an earlier time than what was posted before it must fit what happened since."""
    since = dict.fromkeys(rows.dated_back, poster.earliest)
    if not since or (short := await first_shortage(db, first_id, since)) is None:
        return
    item_id, location_id = short.key
    detail = (
        f"{rows.items[item_id].sku} at {rows.locations[location_id].code} would have been below zero at"
        f" {text_of(short.at)}: a movement that is dated back must fit what happened since"
    )
    faults.add(poster.dated_back_lines.get(short.key), "occurred_at", detail)
