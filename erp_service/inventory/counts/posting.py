"""Booking the differences of a count as one document, through the ledger.

Each difference is to what was there when the item was counted, and is booked to what is there now: so a sale between
counting and posting is not undone, and neither is a receipt."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

from msgspec import Struct
from sqlalchemy import text

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.audit.record import record
from erp_service.db.sessions import WriteSession
from erp_service.db.statements import Prepared, number_array
from erp_service.errors import Fault
from erp_service.inventory.counts.problems import StockMoved, TooManyDifferences
from erp_service.inventory.counts.queries import count_by_id
from erp_service.inventory.counts.schemas import MOST_DIFFERENCES, CountPosting, CountWithTotals
from erp_service.inventory.counts.service import OpenCount, end, lock_open
from erp_service.inventory.posting import ledger
from erp_service.inventory.posting.lines import PostingLine
from erp_service.inventory.posting.row_locks import LockedRows, Wanted, lock_rows
from erp_service.inventory.posting.valuation import cost_of, share_so_far, worth_of
from erp_service.inventory.problems import CostUnknown
from erp_service.validation import MOST_FAULTS

_LISTED = 100
"""Lines that a refusal lists; its member `moved` counts all of them."""


async def post_count(db: WriteSession, who: Principal, count_id: UUID, body: CountPosting) -> CountWithTotals:
    """Book the differences, and end the count; one without any has no document.

    Raises errors.NotFound, CountEnded, StockMoved, TooManyDifferences, InsufficientStock, CostUnknown, and
    errors.Conflict for a deleted item or location."""
    reason = body.reason or "stock count"
    count = await lock_open(db, count_id)
    uncounted = await _add_uncounted(db, who, count) if body.uncounted == "zero" else 0
    differences = await _differences(db, count)
    rows = await lock_rows(db, [Wanted(one.item_id, count.location_id) for one in differences])
    # Only now: what moves an item that is to be booked waits for its locked balance, so nothing slips in after this.
    await _refuse_moved(db, count, accept_moved=body.accept_moved)
    transaction_id = None
    if differences:
        lines = _posting_lines(count, differences, rows, reason)
        _refuse_unknown_costs(lines, rows)
        transaction_id = (await ledger.post(db, who, lines, rows, reason=reason)).transaction_id
        items = number_array([one.item_id for one in differences])
        await db.execute(_NUMBER_LINES, {"count_id": count.id, "items": items})
    await end(db, count, "POSTED", differences=len(differences), transaction_id=transaction_id)
    after = {
        "status": "POSTED",
        "transaction_id": transaction_id,
        "differences": len(differences),
        "uncounted": uncounted,
        "accept_moved": body.accept_moved,
    }
    await record(db, who, "count.posted", count.id, before={"status": "OPEN"}, after=after, reason=reason)
    return await count_by_id(db, count.id)


class _Difference(Struct, frozen=True, gc=False):
    """A line that differs from the books."""

    item_id: int
    sku: str
    counted: Decimal
    quantity: Decimal
    """Above zero was found, below zero is missing."""
    unit_cost: Decimal | None
    total_cost: Decimal | None


# Nobody has counted them, so there is no moment when they were: what moved since the count was opened may be there. The
# last entry up to the opening tells, as that of the other lines does.
_ADD_UNCOUNTED = Prepared(
    text("""
insert into stock_count_lines (count_id, item_id, counted, expected, last_entry_id, user_id)
select c.id, b.item_id, 0, b.on_hand, (
    select e.id from stock_ledger e
    where e.item_id = b.item_id and e.location_id = b.location_id and e.id <= c.last_entry_id
    order by e.id desc limit 1
  ), cast(:user_id as bigint)
from stock_counts c join stock_balances b on b.location_id = c.location_id
where c.id = cast(:count_id as uuid) and b.on_hand <> 0
  and not exists (select from stock_count_lines n where n.count_id = c.id and n.item_id = b.item_id)
order by b.item_id
""")
)


async def _add_uncounted(db: WriteSession, who: Principal, count: OpenCount) -> int:
    return await db.row_count(_ADD_UNCOUNTED, {"count_id": count.id, "user_id": who.user_id})


_DIFFERENCES = Prepared(
    text("""
select n.item_id, i.sku, n.counted, n.counted - n.expected, n.unit_cost, n.total_cost
from stock_count_lines n join items i on i.id = n.item_id
where n.count_id = cast(:count_id as uuid) and n.counted <> n.expected order by n.item_id
""")
)


async def _differences(db: WriteSession, count: OpenCount) -> list[_Difference]:
    """Raises TooManyDifferences."""
    differences = [_Difference(*row) for row in await db.execute(_DIFFERENCES, {"count_id": count.id})]
    if len(differences) > MOST_DIFFERENCES:
        raise TooManyDifferences(f"It has {len(differences)} differences.", differences=len(differences))
    return differences


# As in queries.py, the index tells the last entry. A correction by another count is no movement of goods: it booked the
# same difference already.
_MOVED = Prepared(
    text("""
select m.item_id, m.sku, trim_scale(m.counted), trim_scale(m.expected), trim_scale(m.on_hand), m.count_again,
  count(*) over ()
from (
  select n.item_id, i.sku, case when n.counted_at is not null then n.counted end as counted, n.expected,
    coalesce(b.on_hand, 0) as on_hand,
    n.counted_at is null or exists (
      select from stock_ledger e where e.item_id = n.item_id and e.location_id = c.location_id
        and e.id > coalesce(n.last_entry_id, 0) and e.origin = 'COUNT'
    ) as count_again
  from stock_counts c join stock_count_lines n on n.count_id = c.id join items i on i.id = n.item_id
  left join stock_balances b on b.item_id = n.item_id and b.location_id = c.location_id
  where c.id = cast(:count_id as uuid) and n.last_entry_id is distinct from (
    select e.id from stock_ledger e where e.item_id = n.item_id and e.location_id = c.location_id
    order by e.id desc limit 1
  )
) m
where m.count_again or not cast(:accept_moved as boolean)
order by m.item_id limit cast(:limit as integer)
""")
)


async def _refuse_moved(db: WriteSession, count: OpenCount, *, accept_moved: bool) -> None:
    """Raises StockMoved."""
    rows = await db.execute(_MOVED, {"count_id": count.id, "accept_moved": accept_moved, "limit": _LISTED})
    if not rows:
        return
    total = rows[0][-1]
    lines = [
        {
            "item_id": item_id,
            "sku": sku,
            "counted": counted,
            "expected": expected,
            "on_hand": on_hand,
            "count_again": count_again,
        }
        for item_id, sku, counted, expected, on_hand, count_again, _ in rows
    ]
    named = f"{total} lines" if total > 1 else f"One line ({rows[0].sku})"
    raise StockMoved(f"{named} moved after the counting at {count.location}.", moved=total, lines=lines)


def _posting_lines(
    count: OpenCount, differences: Sequence[_Difference], rows: LockedRows, reason: str
) -> list[PostingLine]:
    """Raises errors.Conflict."""
    if deleted := [one.sku for one in differences if one.item_id not in rows.items]:
        raise errors.Conflict(f"Deleted since they were counted: {', '.join(deleted[:_LISTED])}. Restore them first.")
    if (location := rows.locations.get(count.location_id)) is None:
        raise errors.Conflict(f"{count.location} was deleted after the count was opened. Restore it first.")
    now = datetime.now(UTC)
    return [
        PostingLine(
            kind="ADJUSTMENT",
            item=rows.items[one.item_id],
            location=location,
            quantity=one.quantity,
            cost=_cost(one),
            unit_cost=one.unit_cost if one.quantity > 0 else None,
            occurred_at=now,
            reference_no=count.reference_no,
            reason=reason,
            origin="COUNT",
        )
        for one in differences
    ]


def _cost(one: _Difference) -> Decimal | None:
    """Of what was found, if the line states one."""
    if one.quantity < 0:
        return None
    if one.total_cost is not None:
        return share_so_far(one.total_cost, one.quantity, one.counted)
    return None if one.unit_cost is None else cost_of(one.quantity, one.unit_cost)


def _refuse_unknown_costs(lines: Sequence[PostingLine], rows: LockedRows) -> None:
    """All of them: the ledger names the first. Raises CostUnknown."""
    unknown = [
        line.item.sku
        for line in lines
        if line.quantity > 0 and line.cost is None and worth_of(rows.values[line.item.id], line.quantity) is None
    ]
    if unknown:
        faults = [Fault(f"the line of {sku} needs a unit_cost: none was ever stated", "") for sku in unknown]
        raise CostUnknown("Something was found whose cost was never stated.", *faults[:MOST_FAULTS])


# in the order in which they were posted
_NUMBER_LINES = Prepared(
    text("""
update stock_count_lines n set document_line = a.line
from (select cast(cast(:items as text) as bigint[]) as items) arguments
  cross join unnest(arguments.items) with ordinality a (item_id, line)
where n.count_id = cast(:count_id as uuid) and n.item_id = a.item_id
""")
)
