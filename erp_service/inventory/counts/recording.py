"""What was counted, and what the books say at that moment."""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from uuid import UUID

from msgspec import Struct
from sqlalchemy import text

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.db.sessions import WriteSession
from erp_service.db.statements import Prepared, number_array
from erp_service.errors import Fault
from erp_service.inventory.counts.schemas import CountLineBody
from erp_service.inventory.posting.references import item_references
from erp_service.inventory.posting.row_locks import LockedItem, Wanted, lock_rows
from erp_service.inventory.units import UnitFault, cost_in_item_unit, in_item_unit
from erp_service.validation import MOST_FAULTS


class _Line(Struct, frozen=True, gc=False):
    """What was counted of one item, in its unit; None takes it out of the count."""

    item_id: int
    counted: Decimal | None
    unit_cost: Decimal | None
    total_cost: Decimal | None


async def record_lines(
    db: WriteSession, who: Principal, count_id: UUID, location_id: int, bodies: Sequence[CountLineBody]
) -> dict[str, int]:
    """Add, replace or remove lines of an open count that is locked; how many of each, for the audit log.

    What the books say of all of them is read in one snapshot. Raises errors.Invalid, which names every bad line."""
    references = await item_references(db, bodies)
    rows = await lock_rows(db, (Wanted(reference.key, None, valued=False) for reference in references))
    faults: list[Fault] = []
    lines: dict[int, _Line] = {}
    pointers: dict[int, str] = {}
    for index, (reference, body) in enumerate(zip(references, bodies, strict=True)):
        pointer = f"/lines/{index}"
        item = reference.resolve(rows.items, pointer, faults)
        faults.extend(_own_faults(body, pointer))
        if item is None:
            continue
        if (line := _line(body, item, pointer, faults)) is not None:
            lines[item.id] = line
        if (first := pointers.setdefault(item.id, pointer)) != pointer:
            # neither the sum nor the last of them is certain to be what was meant
            faults.append(Fault(f"is the same item as {first}", f"{pointer}/{reference.field}"))
    if faults:
        raise errors.Invalid(None, *faults[:MOST_FAULTS])
    return await _write(db, who, count_id, location_id, sorted(lines.values(), key=lambda line: line.item_id))


def _own_faults(body: CountLineBody, pointer: str) -> Iterator[Fault]:
    """What is wrong with a line whatever the item is."""
    if body.unit_cost is not None and body.total_cost is not None:
        yield Fault("give unit_cost or total_cost, not both", f"{pointer}/total_cost")
    elif body.total_cost is not None and not body.counted:
        yield Fault("is what all that was counted cost, and nothing was", f"{pointer}/total_cost")
    elif body.unit_cost is not None and body.counted is None:
        yield Fault("belongs to what was counted, and the line is taken out", f"{pointer}/unit_cost")


def _line(body: CountLineBody, item: LockedItem, pointer: str, faults: list[Fault]) -> _Line | None:
    try:
        counted = None if body.counted is None else in_item_unit(item, body.counted, body.unit)
        unit_cost = None if body.unit_cost is None else cost_in_item_unit(item, body.unit_cost, body.unit)
    except UnitFault as fault:
        field = "counted" if fault.field == "quantity" else fault.field
        faults.append(Fault(str(fault), f"{pointer}/{field}"))
        return None
    return _Line(item.id, counted, unit_cost, body.total_cost)


# Balances and last entries are of one snapshot, since it is one statement: what a posting that is in flight changes is
# in both of them, or in neither. ORDER BY: the foreign key locks the items in the order in which everybody locks them.
# The arrays are in a CTE for the reason that posting/row_locks.py gives.
_WRITE = Prepared(
    text("""
with arguments as materialized (
  select cast(:count_id as uuid) as count_id, cast(:location_id as bigint) as location_id,
    cast(:user_id as bigint) as user_id,
    cast(cast(:removed as text) as bigint[]) as removed,
    cast(cast(:items as text) as bigint[]) as items,
    cast(cast(:counted as text) as numeric[]) as counted,
    cast(cast(:unit_costs as text) as numeric[]) as unit_costs,
    cast(cast(:total_costs as text) as numeric[]) as total_costs
), removed as (
  delete from stock_count_lines n using arguments a cross join unnest(a.removed) r (item_id)
  where n.count_id = a.count_id and n.item_id = r.item_id returning n.item_id
), new_version as (
  update stock_counts c set version = c.version + 1 from arguments a where c.id = a.count_id
), recorded as (
  insert into stock_count_lines
    (count_id, item_id, counted, expected, last_entry_id, counted_at, user_id, unit_cost, total_cost)
  select a.count_id, n.item_id, n.counted, coalesce(b.on_hand, 0), (
      select e.id from stock_ledger e where e.item_id = n.item_id and e.location_id = a.location_id
      order by e.id desc limit 1
    ), statement_timestamp(), a.user_id, n.unit_cost, n.total_cost
  from arguments a cross join unnest(a.items, a.counted, a.unit_costs, a.total_costs)
    n (item_id, counted, unit_cost, total_cost)
  left join stock_balances b on b.item_id = n.item_id and b.location_id = a.location_id
  order by n.item_id
  on conflict (count_id, item_id) do update set counted = excluded.counted, expected = excluded.expected,
    last_entry_id = excluded.last_entry_id, counted_at = excluded.counted_at, user_id = excluded.user_id,
    unit_cost = excluded.unit_cost, total_cost = excluded.total_cost
  returning 1
)
select (select count(*) from recorded), (select count(*) from removed)
""")
)


async def _write(
    db: WriteSession, who: Principal, count_id: UUID, location_id: int, lines: Sequence[_Line]
) -> dict[str, int]:
    counted = [line for line in lines if line.counted is not None]
    parameters = {
        "count_id": count_id,
        "location_id": location_id,
        "user_id": who.user_id,
        "removed": number_array([line.item_id for line in lines if line.counted is None]),
        "items": number_array([line.item_id for line in counted]),
        "counted": number_array([line.counted for line in counted]),
        "unit_costs": number_array([line.unit_cost for line in counted]),
        "total_costs": number_array([line.total_cost for line in counted]),
    }
    recorded, removed = (await db.execute(_WRITE, parameters)).one()
    return {"recorded": recorded, "removed": removed}
