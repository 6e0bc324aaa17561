"""The statement that writes a document: the document itself, its entries, what they made of values and balances, and
the audit entry.

It has two forms. The plain one leaves out what few movements say, and what is reserved where nothing is: half of the
arrays of the other, each of which costs a microsecond to write and two to read."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TypeAlias

import msgspec
from sqlalchemy import text

from erp_service.audit.record import INSERT_ENTRY
from erp_service.db.sessions import WriteSession
from erp_service.db.statements import Prepared, number_array, text_array
from erp_service.inventory.posting.entries import Header, NewEntry
from erp_service.inventory.posting.row_locks import BalanceKey, LockedRows

Columns: TypeAlias = Mapping[str, str]
"""Names and types."""

_ENTRY: Columns = {
    "line": "integer",
    "item_id": "bigint",
    "location_id": "bigint",
    "entry_type": "text",
    "quantity": "numeric",
    "value": "numeric",
    "unit_cost": "numeric",
    "on_hand_after": "numeric",
    "item_on_hand_after": "numeric",
    "value_after": "numeric",
    "occurred_at": "timestamptz",
    "reference_no": "text",
}
_SELDOM: Columns = {
    "origin": "text",
    "reverses_id": "bigint",
    "not_covered": "numeric",
    "notes": "text",
    "reason": "text",
    "metadata": "jsonb",
}
_VALUE: Columns = {"item_id": "bigint", "on_hand": "numeric", "value": "numeric", "last_cost": "numeric"}
_BALANCE: Columns = {"item_id": "bigint", "location_id": "bigint", "on_hand": "numeric", "last_time": "timestamptz"}
_RESERVED: Columns = {"reserved": "numeric"}


def _arrays(prefix: str, columns: Columns) -> str:
    return "".join(
        f", cast(cast(:{prefix}_{name} as text) as {type_}[]) as {prefix}_{name}" for name, type_ in columns.items()
    )


def _names(columns: Iterable[str], prefix: str = "") -> str:
    return ", ".join(f"{prefix}{name}" for name in columns)


# Values and balances are locked by now, so the order in which it touches them is free. An INSERT that selects with
# ORDER BY assigns its ids in that order. The arrays are in a CTE for the reason that row_locks.py gives: one plan,
# whatever their length. The ledger is asked for the last time of a balance that does not know it: once after the
# upgrade that brought the column.
def _statement(entry: Columns, balance: Columns) -> Prepared:
    reserved = "reserved = n.reserved, " if "reserved" in balance else ""
    return Prepared(
        text(f"""
with arguments as materialized (
  select cast(:transaction_id as uuid) as transaction_id, cast(:user_id as bigint) as user_id,
    cast(:reverses as uuid) as reverses
    {_arrays("entry", entry)}{_arrays("value", _VALUE)}{_arrays("balance", balance)}
), document as (
  insert into stock_transactions (id, user_id, reverses)
  select transaction_id, user_id, reverses from arguments returning recorded_at
), new_balances as (
  update stock_balances b set on_hand = n.on_hand, {reserved}last_occurred_at = case
    when b.last_occurred_at is not null then n.last_time
    else greatest(n.last_time, (
      select max(e.occurred_at) from stock_ledger e where e.item_id = b.item_id and e.location_id = b.location_id
    )) end
  from arguments a cross join unnest({_names(balance, "a.balance_")}) n ({_names(balance)})
  where b.item_id = n.item_id and b.location_id = n.location_id
), new_values as (
  update stock_values v set on_hand = n.on_hand, value = n.value, last_cost = n.last_cost
  from arguments a cross join unnest({_names(_VALUE, "a.value_")}) n ({_names(_VALUE)})
  where v.item_id = n.item_id
), audit_entry as ({INSERT_ENTRY}), entries as (
  insert into stock_ledger (transaction_id, user_id, {_names(entry)})
  select a.transaction_id, a.user_id, {_names(entry, "e.")}
  from arguments a cross join unnest({_names(entry, "a.entry_")}) with ordinality e ({_names(entry)}, ordinality)
  order by e.ordinality
  returning id, recorded_at
)
select array_agg(id order by id), array_agg(recorded_at order by id), (select recorded_at from document) from entries
""")  # noqa: S608 constants
    )


_PLAIN = _statement(_ENTRY, _BALANCE)
_FULL = _statement({**_ENTRY, **_SELDOM}, {**_BALANCE, **_RESERVED})


async def write(
    db: WriteSession,
    header: Header,
    entries: Sequence[NewEntry],
    rows: LockedRows,
    audit_entry: Mapping[str, object],
    *,
    plain: bool,
) -> tuple[list[int], list[datetime], datetime]:
    """The ids of the entries and their `recorded_at`, in their order, and the `recorded_at` of the document.

    `plain`: every entry is, and nothing is reserved of what they touch, nor was."""
    parameters: dict[str, object] = {
        "transaction_id": header.transaction_id,
        "user_id": header.user_id,
        "reverses": header.reverses,
        **_entry_arrays(entries),
        **_stock_arrays(rows, entries),
        **audit_entry,
    }
    if not plain:
        balances = rows.balances.values()
        parameters["balance_reserved"] = number_array([balance.reserved for balance in balances])
        parameters |= _seldom_arrays(entries)
    ids, times, recorded_at = (await db.execute(_PLAIN if plain else _FULL, parameters)).one()
    return ids, times, recorded_at


def _entry_arrays(entries: Sequence[NewEntry]) -> dict[str, object]:
    lines = [new.line for new in entries]
    steps = [new.step for new in entries]
    return {
        "entry_line": number_array([new.number for new in entries]),
        "entry_item_id": number_array([line.item.id for line in lines]),
        "entry_location_id": number_array([None if step.location is None else step.location.id for step in steps]),
        "entry_entry_type": text_array([step.entry_type for step in steps]),
        "entry_quantity": number_array([step.quantity for step in steps]),
        "entry_value": number_array([step.value for step in steps]),
        "entry_unit_cost": number_array([new.unit_cost for new in entries]),
        "entry_on_hand_after": number_array([step.on_hand_after for step in steps]),
        "entry_item_on_hand_after": number_array([step.item_on_hand_after for step in steps]),
        "entry_value_after": number_array([step.value_after for step in steps]),
        "entry_occurred_at": text_array([line.occurred_at.isoformat() for line in lines]),
        "entry_reference_no": text_array([line.reference_no for line in lines]),
    }


def _seldom_arrays(entries: Sequence[NewEntry]) -> dict[str, object]:
    return {
        "entry_origin": text_array([new.origin for new in entries]),
        "entry_reverses_id": number_array([new.reverses_id for new in entries]),
        "entry_not_covered": number_array([new.step.not_covered for new in entries]),
        "entry_notes": text_array([new.line.notes for new in entries]),
        "entry_reason": text_array([new.reason for new in entries]),
        "entry_metadata": text_array([msgspec.json.encode(new.line.metadata).decode() for new in entries]),
    }


def _stock_arrays(rows: LockedRows, entries: Sequence[NewEntry]) -> dict[str, object]:
    """The new state of values and balances."""
    values, balances = rows.values, rows.balances
    latest: dict[BalanceKey, datetime] = {}
    for new in entries:
        key, time = new.key, new.line.occurred_at
        if key not in latest or latest[key] < time:
            latest[key] = time
    times = [balance.last_occurred_at or latest.get(key) for key, balance in balances.items()]
    return {
        "value_item_id": number_array(values),
        "value_on_hand": number_array([value.on_hand for value in values.values()]),
        "value_value": number_array([value.value for value in values.values()]),
        "value_last_cost": number_array([value.last_cost for value in values.values()]),
        "balance_item_id": number_array([item_id for item_id, _ in balances]),
        "balance_location_id": number_array([location_id for _, location_id in balances]),
        "balance_on_hand": number_array([balance.on_hand for balance in balances.values()]),
        "balance_last_time": text_array([None if time is None else time.isoformat() for time in times]),
    }
