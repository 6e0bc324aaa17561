"""Posting a document to the ledger. Only this module and imports/bulk_posting.py write stock.

The rows are locked first, in the one order of row_locks.py. The ids of the entries are assigned last, while values and
balances are locked: so the order of ids is the order of effects. Nothing here reads the ledger, so a posting costs the
same after ten movements and after ten million; only one that takes stock out at an earlier time asks it, for what came
later (history.py).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from asyncpg import CheckViolationError
from sqlalchemy import text
from uuid_utils.compat import uuid7

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.audit.record import INSERT_ENTRY, entry_parameters
from erp_service.db.outages import constraint_of
from erp_service.db.sessions import WriteSession
from erp_service.db.statements import Prepared, number_array, text_array
from erp_service.decimals import shortest
from erp_service.errors import Fault
from erp_service.inventory.posting import history
from erp_service.inventory.posting.entries import Header, NewEntry, audit_values, columns, new_entry, posted
from erp_service.inventory.posting.lines import NotEnough, PostingLine, Step, steps
from erp_service.inventory.posting.periods import PERIOD_OPEN, period_closed
from erp_service.inventory.posting.row_locks import BalanceKey, LockedRows
from erp_service.inventory.posting.schemas import Document
from erp_service.inventory.posting.valuation import CostUnknown, DoesNotFit, NothingOnHand
from erp_service.inventory.problems import CostUnknown as CostUnknownProblem
from erp_service.inventory.problems import InsufficientStock
from erp_service.inventory.reservations.expiry import sweep
from erp_service.timestamps import text_of


async def post(
    db: WriteSession,
    who: Principal,
    lines: Sequence[PostingLine],
    rows: LockedRows,
    *,
    reverses: UUID | None = None,
    reason: str | None = None,
) -> Document:
    """Apply the lines in sequence, all or none, and write them as one document, with its audit entry.

    `rows` are the locked ones of all lines, and hold what is on hand afterwards; `reason` is that of the audit entry.
    Raises InsufficientStock, PeriodClosed, CostUnknown, and errors.Invalid for what the ledger cannot hold."""
    await sweep(db, rows)
    entries = [new_entry(number, line, *step) for number, line in enumerate(lines, 1) for step in _apply(line, rows)]
    header = Header(uuid7(), who.user_id, reverses)
    audit_entry = entry_parameters(
        who,
        "stock.posted" if reverses is None else "stock.reversed",
        header.transaction_id,
        after=audit_values(header, entries),
        reason=reason,
    )
    ids, times, recorded_at = await _write(db, header, entries, rows, audit_entry)
    if rows.dated_back:
        await _check_history(db, ids[0], entries, rows)
    return Document(
        transaction_id=header.transaction_id,
        recorded_at=recorded_at,
        user_id=header.user_id,
        reverses=reverses,
        reversed_by=[],
        entries=[posted(header, *written) for written in zip(entries, ids, times, strict=True)],
    )


def _apply(line: PostingLine, rows: LockedRows) -> list[tuple[int, Step]]:
    """Like `steps`, numbered, but raises refusals with pointers into the request's body."""
    pointer = None if line.pointer is None else f"{line.pointer}/quantity"
    try:
        return list(enumerate(steps(line, rows)))
    except NotEnough as short:
        available = shortest(short.available)
        raise InsufficientStock(
            f"{shortest(abs(line.quantity))} of {line.item.sku} wanted at {short.at.code}, {available} available.",
            *([] if pointer is None else [Fault(f"is more than the {available} available", pointer=pointer)]),
            available=available,
            item_id=line.item.id,
            location_id=short.at.id,
        ) from None
    except CostUnknown:
        fault = Fault("needs a cost: none was ever stated for this item", pointer=line.pointer or "")
        raise CostUnknownProblem(f"What one {line.item.sku} costs was never stated.", fault) from None
    except NothingOnHand:
        detail = "is a value of nothing: none is on hand. State unit_value, which also counts for what comes later"
        raise errors.Invalid(None, Fault(detail, f"{line.pointer or ''}/value")) from None
    except DoesNotFit as exc:
        fault = Fault(str(exc), pointer=pointer)
        raise errors.Invalid(f"{shortest(line.quantity)} of {line.item.sku} {exc}.", fault) from None


async def _check_history(db: WriteSession, first_id: int, entries: Sequence[NewEntry], rows: LockedRows) -> None:
    """Raises InsufficientStock if what is written now leaves less than zero at some moment since."""
    own = [new for new in entries if new.key in rows.dated_back]
    since: dict[BalanceKey, datetime] = {}
    for new in own:
        since[new.key] = min(since.get(new.key, new.line.occurred_at), new.line.occurred_at)
    if (short := await history.first_shortage(db, first_id, since)) is None:
        return
    culprit = next(new.line for new in own if new.key == short.key and new.step.quantity < 0)
    item, code = culprit.item, rows.locations[short.key[1]].code
    available, moment = shortest(max(short.available, Decimal(0))), text_of(short.at)
    faults = []
    if culprit.pointer is not None:
        faults.append(Fault(f"does not fit what happened until {moment}", f"{culprit.pointer}/quantity"))
    raise InsufficientStock(
        f"{item.sku} at {code} would have been below zero at {moment}: {available} could go out at that time.",
        *faults,
        available=available,
        item_id=item.id,
        location_id=short.key[1],
        breaks_at=moment,
    )


# One statement writes everything. Values and balances are locked by now, so the order in which it touches them is free.
# An INSERT that selects with ORDER BY assigns its ids in that order. The arrays are in a CTE for the reason that
# row_locks.py gives: one plan, whatever their length. The ledger is asked for the last time of a balance that does not
# know it: once after the upgrade that brought the column.
_WRITE = Prepared(
    text(f"""
with arguments as materialized (
  select
    cast(:transaction_id as uuid) as transaction_id, cast(:user_id as bigint) as user_id,
    cast(:reverses as uuid) as reverses,
    cast(cast(:balance_items as text) as bigint[]) as balance_items,
    cast(cast(:balance_locations as text) as bigint[]) as balance_locations,
    cast(cast(:on_hand as text) as numeric[]) as on_hand,
    cast(cast(:reserved as text) as numeric[]) as reserved,
    cast(cast(:last_times as text) as timestamptz[]) as last_times,
    cast(cast(:value_items as text) as bigint[]) as value_items,
    cast(cast(:value_quantities as text) as numeric[]) as value_quantities,
    cast(cast(:item_values as text) as numeric[]) as item_values,
    cast(cast(:last_costs as text) as numeric[]) as last_costs,
    cast(cast(:lines as text) as integer[]) as lines,
    cast(cast(:items as text) as bigint[]) as items,
    cast(cast(:locations as text) as bigint[]) as locations,
    cast(cast(:types as text) as text[]) as types,
    cast(cast(:quantities as text) as numeric[]) as quantities,
    cast(cast(:values as text) as numeric[]) as values,
    cast(cast(:unit_costs as text) as numeric[]) as unit_costs,
    cast(cast(:on_hand_after as text) as numeric[]) as on_hand_after,
    cast(cast(:item_on_hand_after as text) as numeric[]) as item_on_hand_after,
    cast(cast(:value_after as text) as numeric[]) as value_after,
    cast(cast(:origins as text) as text[]) as origins,
    cast(cast(:reverses_ids as text) as bigint[]) as reverses_ids,
    cast(cast(:not_covered as text) as numeric[]) as not_covered,
    cast(cast(:occurred_at as text) as timestamptz[]) as occurred_at,
    cast(cast(:reference_nos as text) as text[]) as reference_nos,
    cast(cast(:notes as text) as text[]) as notes,
    cast(cast(:reasons as text) as text[]) as reasons,
    cast(cast(:metadata as text) as jsonb[]) as metadata
), document as (
  insert into stock_transactions (id, user_id, reverses)
  select transaction_id, user_id, reverses from arguments returning recorded_at
), new_balances as (
  update stock_balances b set on_hand = n.on_hand, reserved = n.reserved, last_occurred_at = case
    when b.last_occurred_at is not null then n.last_time
    else greatest(n.last_time, (
      select max(e.occurred_at) from stock_ledger e where e.item_id = b.item_id and e.location_id = b.location_id
    )) end
  from arguments a cross join unnest(a.balance_items, a.balance_locations, a.on_hand, a.reserved, a.last_times)
    n (item_id, location_id, on_hand, reserved, last_time)
  where b.item_id = n.item_id and b.location_id = n.location_id
), new_values as (
  update stock_values v set on_hand = n.on_hand, value = n.value, last_cost = n.last_cost
  from arguments a cross join unnest(a.value_items, a.value_quantities, a.item_values, a.last_costs)
    n (item_id, on_hand, value, last_cost)
  where v.item_id = n.item_id
), audit_entry as ({INSERT_ENTRY}), entries as (
  insert into stock_ledger (
    transaction_id, line, item_id, location_id, entry_type, quantity, value, unit_cost, on_hand_after,
    item_on_hand_after, value_after, origin, reverses_id, not_covered, occurred_at, reference_no, notes, reason,
    metadata, user_id
  )
  select
    a.transaction_id, e.line, e.item_id, e.location_id, e.entry_type, e.quantity, e.value, e.unit_cost,
    e.on_hand_after, e.item_on_hand_after, e.value_after, e.origin, e.reverses_id, e.not_covered, e.occurred_at,
    e.reference_no, e.notes, e.reason, e.metadata, a.user_id
  from arguments a cross join unnest(
    a.lines, a.items, a.locations, a.types, a.quantities, a.values, a.unit_costs, a.on_hand_after,
    a.item_on_hand_after, a.value_after, a.origins, a.reverses_ids, a.not_covered, a.occurred_at, a.reference_nos,
    a.notes, a.reasons, a.metadata
  ) with ordinality e (
    line, item_id, location_id, entry_type, quantity, value, unit_cost, on_hand_after,
    item_on_hand_after, value_after, origin, reverses_id, not_covered, occurred_at, reference_no, notes, reason,
    metadata, ordinality
  )
  order by e.ordinality
  returning id, recorded_at
)
select array_agg(id order by id), array_agg(recorded_at order by id), (select recorded_at from document) from entries
""")  # noqa: S608 a constant of audit/record.py
)


async def _write(
    db: WriteSession,
    header: Header,
    entries: Sequence[NewEntry],
    rows: LockedRows,
    audit_entry: Mapping[str, object],
) -> tuple[list[int], list[datetime], datetime]:
    """The ids of the entries and their `recorded_at`, in their order, and the `recorded_at` of the document.

    Raises PeriodClosed."""
    parameters: dict[str, object] = {
        "transaction_id": header.transaction_id,
        "user_id": header.user_id,
        "reverses": header.reverses,
        **_stock_columns(rows, entries),
        **columns(entries),
        **audit_entry,
    }
    try:
        ids, times, recorded_at = (await db.execute(_WRITE, parameters)).one()
    except CheckViolationError as exc:
        if constraint_of(exc) != PERIOD_OPEN:
            raise
        raise period_closed(datetime.fromisoformat(exc.detail)) from None
    return ids, times, recorded_at


def _stock_columns(rows: LockedRows, entries: Sequence[NewEntry]) -> dict[str, object]:
    """The new state of balances and values."""
    balances, values = rows.balances, rows.values
    latest: dict[BalanceKey, datetime] = {}
    for new in entries:
        latest[new.key] = max(latest.get(new.key, new.line.occurred_at), new.line.occurred_at)
    last_times = [balance.last_occurred_at or latest.get(key) for key, balance in balances.items()]
    return {
        "balance_items": number_array([item_id for item_id, _ in balances]),
        "balance_locations": number_array([location_id for _, location_id in balances]),
        "on_hand": number_array([balance.on_hand for balance in balances.values()]),
        "reserved": number_array([balance.reserved for balance in balances.values()]),
        "last_times": text_array([None if time is None else time.isoformat() for time in last_times]),
        "value_items": number_array(values),
        "value_quantities": number_array([value.on_hand for value in values.values()]),
        "item_values": number_array([value.value for value in values.values()]),
        "last_costs": number_array([value.last_cost for value in values.values()]),
    }
