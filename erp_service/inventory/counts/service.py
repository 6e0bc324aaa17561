"""Opening counts, recording what was counted, and canceling; each in the caller's transaction, with its audit entry.

Whoever changes a count or its lines, or posts it, locks its row FOR UPDATE first, and any rows of items, locations and
stock after that. So all of these wait for each other, and cannot deadlock."""

from typing import Any, Literal
from uuid import UUID

from msgspec import Struct
from sqlalchemy import text
from uuid_utils.compat import uuid7

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.audit.record import record
from erp_service.db.sessions import WriteSession
from erp_service.db.statements import Prepared
from erp_service.errors import Fault
from erp_service.inventory.counts.problems import CountEnded
from erp_service.inventory.counts.queries import count_by_id, no_such_count
from erp_service.inventory.counts.recording import record_lines
from erp_service.inventory.counts.schemas import CountBody, CountLines, CountWithTotals
from erp_service.inventory.posting.references import LocationReference
from erp_service.inventory.posting.row_locks import LockedLocation


class OpenCount(Struct, frozen=True):
    """A count that is open, and whose row is locked."""

    id: UUID
    location_id: int
    location: str
    reference_no: str | None
    last_entry_id: int | None
    """The last entry of the ledger when it was opened."""


async def open_count(db: WriteSession, who: Principal, body: CountBody) -> CountWithTotals:
    """Raises errors.Invalid, which names every bad field."""
    faults: list[Fault] = []
    location = await _location(db, body, faults)
    if location is None:
        raise errors.Invalid(None, *faults)
    count_id = uuid7()
    parameters = {
        "id": count_id,
        "location_id": location.id,
        "reference_no": body.reference_no,
        "notes": body.notes,
        "user_id": who.user_id,
    }
    await db.execute(_OPEN, parameters)
    after: dict[str, object] = {"location": location.code, "reference_no": body.reference_no, "lines": len(body.lines)}
    if body.lines:
        await record_lines(db, who, count_id, location.id, body.lines)
    await record(db, who, "count.opened", count_id, after=after)
    return await count_by_id(db, count_id)


async def change_lines(db: WriteSession, who: Principal, count: OpenCount, body: CountLines) -> CountWithTotals:
    """Record what was counted, and what the books say at this moment. `count` is the locked one.

    Raises errors.Invalid, which names every bad line."""
    changes = await record_lines(db, who, count.id, count.location_id, body.lines)
    await record(db, who, "count.lines_changed", count.id, after=changes)
    return await count_by_id(db, count.id)


async def cancel(db: WriteSession, who: Principal, count_id: UUID) -> CountWithTotals:
    """End the count without booking anything; its lines stay. Raises errors.NotFound, CountEnded."""
    count = await lock_open(db, count_id)
    await end(db, count, "CANCELED")
    await record(db, who, "count.canceled", count_id, before={"status": "OPEN"}, after={"status": "CANCELED"})
    return await count_by_id(db, count_id)


async def lock_open(db: WriteSession, count_id: UUID) -> OpenCount:
    """The count, which nobody else changes or posts before the transaction ends. Raises errors.NotFound, CountEnded."""
    row = (await db.execute(_LOCK, {"id": count_id})).one_or_none()
    if row is None:
        raise no_such_count(count_id)
    status, transaction_id, *of_open = row
    if status != "OPEN":
        raise CountEnded(f"It was {status.lower()}.", count_status=status, transaction_id=transaction_id)
    return OpenCount(count_id, *of_open)


async def end(
    db: WriteSession,
    count: OpenCount,
    status: Literal["POSTED", "CANCELED"],
    *,
    differences: int | None = None,
    transaction_id: UUID | None = None,
) -> None:
    """From now on the database refuses any change of the count and of its lines."""
    parameters: dict[str, Any] = {
        "id": count.id,
        "status": status,
        "differences": differences,
        "transaction_id": transaction_id,
    }
    await db.execute(_END, parameters)


async def _location(db: WriteSession, body: CountBody, faults: list[Fault]) -> LockedLocation | None:
    reference = LocationReference("location_id", "location", body.location_id, body.location)
    rows: dict[int | str, LockedLocation] = {}
    for row in await db.execute(_LOCATION, {"id": body.location_id, "code": body.location}):
        rows[row.id] = rows[row.code] = LockedLocation(*row)
    return reference.resolve(rows, "", faults)


# FOR SHARE: it is not deleted before the count is there
_LOCATION = Prepared(
    text("""
select id, code, allow_negative_stock from locations
where (id = cast(:id as bigint) or code = cast(:code as text)) and deleted_at is null for share
""")
)
_OPEN = Prepared(
    text("""
insert into stock_counts (id, location_id, reference_no, notes, user_id, last_entry_id)
values (
  cast(:id as uuid), cast(:location_id as bigint), cast(:reference_no as text), cast(:notes as text),
  cast(:user_id as bigint), (select max(id) from stock_ledger)
)
""")
)
_LOCK = Prepared(
    text("""
select c.status, c.transaction_id, c.location_id, l.code, c.reference_no, c.last_entry_id
from stock_counts c join locations l on l.id = c.location_id where c.id = cast(:id as uuid) for update of c
""")
)
_END = Prepared(
    text("""
update stock_counts set status = cast(:status as text), ended_at = now(), version = version + 1,
  differences = cast(:differences as integer), transaction_id = cast(:transaction_id as uuid)
where id = cast(:id as uuid)
""")
)
