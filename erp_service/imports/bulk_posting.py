"""Very many movements at once: the ledger's second writer. Its locks, its order and its arithmetic are the ledger's.

All in the caller's transaction: balances are locked first and written once at the end, entries are copied in between,
so that here, too, the order of ids is the order of effects for one item at one place. Memory holds two batches, and an
entry for each item, place and balance that the file names; not its lines.
"""

import asyncio
import io
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import text
from uuid_utils.compat import uuid7

from erp_service.access.principals import Principal
from erp_service.db.sessions import WriteSession
from erp_service.decimals import shortest
from erp_service.imports import movement_rows
from erp_service.imports.csv_table import Faults, Table
from erp_service.imports.movement_rows import MovementRow
from erp_service.inventory import ledger
from erp_service.inventory.row_locks import BalanceKey, LockedRows, lock_balances, lock_for_share
from erp_service.inventory.stock_schemas import MOST_MOVEMENTS
from erp_service.inventory.valuation import SETTLEMENT, Balance, DoesNotFit, NotEnough

BATCH = 10_000
"""Lines that are copied at once: about 2 MB of text."""

Done = Callable[[int, str], None]
"""Told how many lines are done, and in which phase."""

_DOCUMENT = ("id", "user_id")
_ENTRY = (
    *("transaction_id", "line", "occurred_at", "reference_no", "user_id"),
    *("item_id", "notes", "metadata", "entry_type", "unit_cost", "reason", "location_id"),
    *("quantity", "value", "on_hand_after", "value_after"),
)
_NULL = "\\N"
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


class Batch(NamedTuple):
    """Rows in the text format of COPY; the file's lines up to here are `lines`."""

    documents: str
    entries: str
    lines: int


class Names(NamedTuple):
    """What the file names, and the line that does so first."""

    skus: dict[str, int]
    codes: dict[str, tuple[int, str]]
    """With the column that it stands in."""
    places: dict[tuple[str, str], None]
    """sku and code: the balances that the file moves."""


async def post(db: WriteSession, who: Principal, table: Callable[[Faults], Table], done: Done) -> int:
    """Check every line, then post all of them; how many there are. `table` reads the file from its beginning.

    Lines that follow each other with the same time and reference are one document, of at most 1,000 lines; a line
    without a reference is one by itself. Raises ImportRefused."""
    now, faults, names = datetime.now(UTC), Faults(), Names({}, {}, {})
    checked = _checked(movement_rows.rows(table(faults), faults, now), names)
    while (count := await asyncio.to_thread(next, checked, None)) is not None:
        done(count, "checking")
    faults.check()
    held, balances = await _hold(db, names, faults)
    faults.check()
    lines = movement_rows.rows(table(faults), faults, now)
    count = await _copy_all(db, _batches(lines, held, balances, who.user_id, faults), faults, done)
    faults.check()
    await _write(db, balances)
    return count


def _checked(lines: Iterator[MovementRow | None], names: Names) -> Iterator[int]:
    """Fills `names`; yields from time to time how many lines it has seen."""
    count = 0
    for count, line in enumerate(lines, 1):
        if line is not None:
            names.skus.setdefault(line.sku, line.number)
            names.codes.setdefault(line.location, (line.number, "location"))
            names.places[line.sku, line.location] = None
            if line.to_location:
                names.codes.setdefault(line.to_location, (line.number, "to_location"))
                names.places[line.sku, line.to_location] = None
        if not count % BATCH:
            yield count
    yield count


async def _hold(db: WriteSession, names: Names, faults: Faults) -> tuple[LockedRows, dict[BalanceKey, Balance]]:
    held = await lock_for_share(db, names.skus, names.codes)
    for sku, line in names.skus.items():
        if sku not in held.items:
            faults.add(line, "sku", f"there is no item {sku!r}; this line names it first")
    for code, (line, column) in names.codes.items():
        if code not in held.locations:
            faults.add(line, column, f"there is no location {code!r}; this line names it first")
    if faults.total:
        return held, {}
    places = {(held.items[sku].id, held.locations[code].id): held.locations[code] for sku, code in names.places}
    return held, await lock_balances(db, places)


async def _copy_all(db: WriteSession, batches: Iterator[Batch], faults: Faults, done: Done) -> int:
    driver: Any = (await db.get_raw_connection()).driver_connection
    count = 0
    batch = await asyncio.to_thread(next, batches, None)
    while batch is not None:
        # the server writes this batch while a thread makes the next
        _, following = await asyncio.gather(_copy(driver, batch, faults), asyncio.to_thread(next, batches, None))
        count = batch.lines
        done(count, "posting")
        batch = following
    return count


async def _copy(driver: Any, batch: Batch, faults: Faults) -> None:
    if faults.total:
        return  # nothing will be kept; the rest is only looked through for more
    documents, entries = io.BytesIO(batch.documents.encode()), io.BytesIO(batch.entries.encode())
    await driver.copy_to_table("stock_transactions", source=documents, columns=_DOCUMENT)
    await driver.copy_to_table("stock_ledger", source=entries, columns=_ENTRY)


def _batches(
    lines: Iterator[MovementRow | None],
    held: LockedRows,
    balances: dict[BalanceKey, Balance],
    user_id: int | None,
    faults: Faults,
) -> Iterator[Batch]:
    """What to copy, in file order; `balances` then holds what the lines so far come to."""
    user = _NULL if user_id is None else str(user_id)
    documents, entries = io.StringIO(), io.StringIO()
    document, common, number, count = "", "", 0, 0
    moment, reference_no = datetime.min.replace(tzinfo=UTC), ""
    for count, line in enumerate(lines, 1):
        if line is None:
            continue
        number += 1
        joins = line.reference_no and line.reference_no == reference_no and line.moment == moment
        if not joins or number > MOST_MOVEMENTS:
            moment, reference_no, document, number = line.moment, line.reference_no, str(uuid7()), 1
            documents.write(f"{document}\t{user}\n")
            common = f"{moment.isoformat()}\t{_text(reference_no)}"
        try:
            for entry in _entries(line, held, balances):
                entries.write(f"{document}\t{number}\t{common}\t{user}\t{entry}\n")
        except NotEnough as short:
            faults.add(line.number, "quantity", f"only {shortest(short.available)} of {line.sku} at {line.location}")
        except DoesNotFit as exc:
            faults.add(line.number, "quantity", str(exc))
        if not count % BATCH:
            yield Batch(documents.getvalue(), entries.getvalue(), count)
            documents, entries = io.StringIO(), io.StringIO()
    yield Batch(documents.getvalue(), entries.getvalue(), count)


def _entries(line: MovementRow, held: LockedRows, balances: dict[BalanceKey, Balance]) -> Iterator[str]:
    """The part of each entry that is the line's own, not its document's."""
    item, cost = held.items[line.sku], line.unit_cost
    moved = ledger.PostingLine(
        kind=line.type,
        item=item,
        location=held.locations[line.location],
        to_location=held.locations[line.to_location] if line.to_location else None,
        quantity=line.quantity,
        unit_cost=cost,
        occurred_at=line.moment,
    )
    extra = line.extra.replace("\\", "\\\\")  # all else that COPY would escape, JSON has escaped itself
    common = f"{item.id}\t{_text(line.notes)}\t{extra}"
    for kind, place, (quantity, value, on_hand_after, value_after) in ledger.steps(moved, balances):
        if quantity:
            own = f"{kind}\t{_NULL if cost is None else cost}\t{_text(line.reason)}"
        else:
            own = f"ADJUSTMENT\t{_NULL}\t{SETTLEMENT}"
        # str() of a Decimal takes a third of the time that formatting it takes
        yield (f"{common}\t{own}\t{place.id}\t{quantity!s}\t{value!s}\t{on_hand_after!s}\t{value_after!s}")


def _text(text: str) -> str:
    return text.translate(_ESCAPES) if text else _NULL


_WRITE = text("""
update stock_balances b set on_hand = n.on_hand, value = n.value, last_average = n.last_average
from unnest(
  cast(:items as bigint[]), cast(:locations as bigint[]),
  cast(:on_hand as numeric[]), cast(:values as numeric[]), cast(:averages as numeric[])
) n (item_id, location_id, on_hand, value, last_average)
where b.item_id = n.item_id and b.location_id = n.location_id
""")


async def _write(db: WriteSession, balances: dict[BalanceKey, Balance]) -> None:
    changed = list(balances.items())
    for start in range(0, len(changed), BATCH):
        some = changed[start : start + BATCH]
        await db.execute(
            _WRITE,
            {
                "items": [item_id for (item_id, _), _ in some],
                "locations": [location_id for (_, location_id), _ in some],
                "on_hand": [balance.on_hand for _, balance in some],
                "values": [balance.value for _, balance in some],
                "averages": [balance.last_average for _, balance in some],
            },
        )
