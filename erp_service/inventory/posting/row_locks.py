"""The row locks of a posting. All writers of stock take them in one order, so no two of them can deadlock:

1. items, by id, FOR SHARE;
2. locations, by id, FOR SHARE: nobody changes or deletes an item or a location that stock is posted to;
3. values of items, by item, FOR UPDATE; a transfer locks none, since it changes none;
4. balances, by (item, location), FOR UPDATE.

Changing or deleting an item or a location locks its row for update first (items.py, locations.py). So it waits for the
postings that share the row, and postings wait for it.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple, TypeAlias

from msgspec import Struct, field
from sqlalchemy import text

from erp_service.db.sessions import WriteSession
from erp_service.db.statements import Prepared, number_array, text_array
from erp_service.inventory.posting.valuation import ZERO, ItemValue

ItemKey: TypeAlias = int | str
"""What a caller names an item by: its id or its sku."""

BalanceKey: TypeAlias = tuple[int, int]
"""The id of an item and the id of a location."""


class Balance(Struct, frozen=True, gc=False):
    """One item at one location."""

    on_hand: Decimal = ZERO
    reserved: Decimal = ZERO
    """By reservations, also by those that have expired and were not swept yet."""
    allows_negative: bool = False
    last_occurred_at: datetime | None = None
    """The latest `occurred_at` of its entries; None if that is not known."""


class Pack(Struct, frozen=True, gc=False):
    """One `unit` of it is numerator / denominator of the item's unit, exactly."""

    unit: str
    numerator: int
    denominator: int


class LockedItem(Struct, frozen=True, gc=False):
    id: int
    sku: str
    status: str
    unit: str
    decimals: int
    packs: list[Pack]


class LockedLocation(Struct, frozen=True, gc=False):
    id: int
    code: str
    allows_negative: bool


class LockedRows(Struct, frozen=True):
    """Rows that nobody else changes until the transaction ends. Unknown and deleted items and locations are absent."""

    items: dict[ItemKey, LockedItem]
    """By id, and by sku."""
    locations: dict[int | str, LockedLocation]
    """By id, and by code."""
    balances: dict[BalanceKey, Balance]
    """All that were named. Incomplete if an item or a location is absent, since nothing can be posted then."""
    values: dict[int, ItemValue]
    """By the id of the item, all that were wanted."""
    dated_back: set[BalanceKey] = field(default_factory=set)
    """Where something goes out at an earlier time than what was posted before it: lines.py finds them, and history.py
    asks the ledger."""


class Wanted(NamedTuple):
    """What is to be locked: an item, by its id or sku; at a location, by its id or code, if the movement is at one; and
    its value, if the movement can change it."""

    item: ItemKey
    location: int | str | None
    valued: bool = True


# Three things are not what they seem. `arguments`: Postgres knows the length of an array that is a parameter, and would
# plan anew for each short one; of one that a CTE holds it assumes 10, and it keeps one plan. The counts: each reads the
# CTE before it to its end, so its rows are locked before the next ones are looked for. `complete`: if a value or a
# balance is missing, none is locked here, because it is inserted first (see `lock_rows`). It asks for
# the two apart: in an `or`, Postgres would read all of both tables where it has no statistics of them.
_LOCK_ROWS = Prepared(
    text("""
with arguments as materialized (
  select
    cast(cast(:item_ids as text) as bigint[]) as item_ids, cast(cast(:skus as text) as text[]) as skus,
    cast(cast(:location_ids as text) as bigint[]) as location_ids, cast(cast(:codes as text) as text[]) as codes,
    cast(cast(:valued as text) as boolean[]) as valued
), locked_items as materialized (
  select id, sku, status, unit, decimals, units, deleted_at from items
  where id = any (cast((select item_ids from arguments) as bigint[]))
    or sku = any (cast((select skus from arguments) as text[]))
  order by id for share
), locked_locations as materialized (
  select id, code, allow_negative_stock, deleted_at from locations
  where (select count(*) from locked_items) >= 0 and (
    id = any (cast((select location_ids from arguments) as bigint[]))
    or code = any (cast((select codes from arguments) as text[]))
  )
  order by id for share
), keys as materialized (
  select coalesce(n.item_id, i.id) as item_id, coalesce(n.location_id, l.id) as location_id, bool_or(n.valued) as valued
  from arguments cross join unnest(item_ids, skus, location_ids, codes, valued)
    n (item_id, sku, location_id, code, valued)
  left join locked_items i on i.sku = n.sku
  left join locked_locations l on l.code = n.code
  where (select count(*) from locked_locations) >= 0
  group by 1, 2
), complete as materialized (
  select not exists (
    select from keys k where k.location_id is not null and not exists (
      select from stock_balances p where p.item_id = k.item_id and p.location_id = k.location_id limit 1
    )
  ) and not exists (
    select from keys k where k.valued and not exists (
      select from stock_values p where p.item_id = k.item_id limit 1
    )
  ) as yes
), locked_values as materialized (
  select item_id, on_hand, value, last_cost from stock_values
  where (select yes from complete) and item_id = any (array(select k.item_id from keys k where k.valued))
  order by item_id for update
), locked_balances as materialized (
  select b.item_id, b.location_id, b.on_hand, b.reserved, b.allows_negative, b.last_occurred_at
  from stock_balances b join keys using (item_id, location_id)
  where (select yes from complete) and (select count(*) from locked_values) >= 0
  order by b.item_id, b.location_id for update of b
)
select item_id, location_id, on_hand, reserved, cast(null as numeric) as last_cost, allows_negative, last_occurred_at,
  null as word, null as status, null as unit, cast(null as smallint) as decimals, cast(null as jsonb) as units
from locked_balances
union all
select item_id, null, on_hand, value, last_cost, null, null, null, null, null, null, null from locked_values
union all
select id, null, null, null, null, null, null, sku, status, unit, decimals, units from locked_items
where deleted_at is null
union all
select null, id, null, null, null, allow_negative_stock, null, code, null, null, null, null from locked_locations
where deleted_at is null
""")
)


async def lock_rows(db: WriteSession, wanted: Iterable[Wanted]) -> LockedRows:
    """Lock items, locations, values and balances until the transaction ends.

    A value or a balance that does not exist yet is inserted, with zero on hand."""
    wanted = dict.fromkeys(wanted)
    columns = _columns(wanted)
    rows = await _lock(db, columns)
    if missing := _missing(wanted, rows):
        await db.execute(_INSERT_MISSING, missing)
        rows = await _lock(db, columns)
    return rows


async def _lock(db: WriteSession, columns: Mapping[str, str]) -> LockedRows:
    rows = LockedRows({}, {}, {}, {})
    result = await db.execute(_LOCK_ROWS, columns)
    for item_id, location_id, on_hand, amount, last_cost, flag, last, word, status, unit, decimals, packs in result:
        if status is not None:
            item = LockedItem(item_id, word, status, unit, decimals, [Pack(**pack) for pack in packs])
            rows.items[item_id] = rows.items[word] = item
        elif word is not None:
            rows.locations[location_id] = rows.locations[word] = LockedLocation(location_id, word, flag)
        elif location_id is None:
            rows.values[item_id] = ItemValue(on_hand, amount, last_cost)
        else:
            rows.balances[item_id, location_id] = Balance(on_hand, amount, flag, last)
    return rows


def _columns(wanted: Iterable[Wanted]) -> dict[str, str]:
    """For each an id or a word in two columns each; the other of the two is None."""
    items, locations = [w.item for w in wanted], [w.location for w in wanted]
    return {
        "item_ids": number_array([i if isinstance(i, int) else None for i in items]),
        "skus": text_array([i if isinstance(i, str) else None for i in items]),
        "location_ids": number_array([at if isinstance(at, int) else None for at in locations]),
        "codes": text_array([at if isinstance(at, str) else None for at in locations]),
        "valued": text_array(["t" if w.valued else "f" for w in wanted]),
    }


def _missing(wanted: Iterable[Wanted], rows: LockedRows) -> dict[str, object]:
    """The values and balances to insert, if some are missing; nothing if an item or a location is absent, since then
    nothing can be posted."""
    if not all(w.item in rows.items and (w.location is None or w.location in rows.locations) for w in wanted):
        return {}
    places = {
        (rows.items[w.item].id, rows.locations[w.location].id): rows.locations[w.location]
        for w in wanted
        if w.location is not None
    }
    values = sorted({rows.items[w.item].id for w in wanted if w.valued})
    if len(rows.balances) == len(places) and len(rows.values) == len(values):
        return {}
    keys = sorted(places)
    return {
        "values": values,
        "items": [item_id for item_id, _ in keys],
        "locations": [location_id for _, location_id in keys],
        "allows_negative": [places[key].allows_negative for key in keys],
    }


# An insert while others are locked already can deadlock: so all that is missing is inserted before anything is locked,
# everywhere in this order, and then all is locked. A balance copies the flag of its location. Its time is the earliest
# that an entry may have: so it is known that there is none yet, and the first movements are not taken for such that are
# dated back.
_INSERT_MISSING = Prepared(
    text("""
with new_values as (
  insert into stock_values (item_id) select * from unnest(cast(:values as bigint[])) order by 1 on conflict do nothing
)
insert into stock_balances (item_id, location_id, allows_negative, last_occurred_at)
select n.*, '1900-01-01T00:00:00Z' from unnest(
  cast(:items as bigint[]), cast(:locations as bigint[]), cast(:allows_negative as boolean[])
) n
order by 1, 2 on conflict do nothing
""")
)
