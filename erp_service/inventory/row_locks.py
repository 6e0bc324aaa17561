"""The row locks of a posting. All writers of stock take them in one order, so no two of them can deadlock:

1. items, by id, FOR SHARE;
2. locations, by id, FOR SHARE: nobody changes or deletes an item or a location that stock is posted to;
3. balances, by (item, location), FOR UPDATE: they are written.

Changing or deleting an item or a location locks its row for update first (items.py, locations.py). So it waits for the
postings that share the row, and postings wait for it.
"""

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from msgspec import Struct
from sqlalchemy import text

from erp_service.db.sessions import WriteSession
from erp_service.db.statements import Prepared, number_array, text_array
from erp_service.inventory.valuation import Balance

ItemAndLocation: TypeAlias = tuple[int | str, int | str]
"""What a caller names: an item by its id or its sku, and a location by its id or its code."""

BalanceKey: TypeAlias = tuple[int, int]
"""The id of an item and the id of a location."""


class LockedItem(Struct, frozen=True, gc=False):
    id: int
    sku: str
    status: str


class LockedLocation(Struct, frozen=True, gc=False):
    id: int
    code: str
    allows_negative: bool


class LockedRows(Struct, frozen=True):
    """Rows that nobody else changes until the transaction ends. Unknown and deleted items and locations are absent."""

    items: dict[int | str, LockedItem]
    """By id, and by sku."""
    locations: dict[int | str, LockedLocation]
    """By id, and by code."""
    balances: dict[BalanceKey, Balance]
    """All that were named. Incomplete if an item or a location is absent, since nothing can be posted then."""


# Three things are not what they seem. `arguments`: Postgres knows the length of an array that is a parameter, and would
# plan anew for each short one; of one that a CTE holds it assumes 10, and it keeps one plan. The counts: each reads the
# CTE before it to its end, so its rows are locked before the next ones are looked for. `not exists`: if a balance is
# missing, none is locked here, because it is inserted first (see `lock_rows`).
_LOCK_ROWS = Prepared(
    text("""
with arguments as materialized (
  select
    cast(cast(:item_ids as text) as bigint[]) as item_ids, cast(cast(:skus as text) as text[]) as skus,
    cast(cast(:location_ids as text) as bigint[]) as location_ids, cast(cast(:codes as text) as text[]) as codes
), locked_items as materialized (
  select id, sku, status, deleted_at from items
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
  select distinct coalesce(n.item_id, i.id) as item_id, coalesce(n.location_id, l.id) as location_id
  from arguments cross join unnest(item_ids, skus, location_ids, codes) n (item_id, sku, location_id, code)
  left join locked_items i on i.sku = n.sku
  left join locked_locations l on l.code = n.code
  where (select count(*) from locked_locations) >= 0
  order by 1, 2
), locked_balances as materialized (
  select b.item_id, b.location_id, b.on_hand, b.value, b.last_average, b.allows_negative
  from stock_balances b join keys using (item_id, location_id)
  where not exists (
    select from keys k where not exists (
      select from stock_balances p where p.item_id = k.item_id and p.location_id = k.location_id
    )
  )
  order by b.item_id, b.location_id for update of b
)
select item_id, location_id, null as word, null as status, on_hand, value, last_average, allows_negative
from locked_balances
union all
select id, null, sku, status, null, null, null, null from locked_items where deleted_at is null
union all
select null, id, code, null, null, null, null, allow_negative_stock from locked_locations where deleted_at is null
""")
)


async def lock_rows(db: WriteSession, pairs: Iterable[ItemAndLocation]) -> LockedRows:
    """Lock items, locations and their balances until the transaction ends.

    A balance that does not exist yet is inserted, with zero on hand."""
    pairs = dict.fromkeys(pairs)
    rows = LockedRows({}, {}, {})
    result = await db.execute(_LOCK_ROWS, _columns(pairs))
    for item_id, location_id, word, status, on_hand, value, average, allows_negative in result:
        if word is None:
            rows.balances[item_id, location_id] = Balance(on_hand, value, average, allows_negative)
        elif status is not None:
            rows.items[item_id] = rows.items[word] = LockedItem(item_id, word, status)
        else:
            rows.locations[location_id] = rows.locations[word] = LockedLocation(location_id, word, allows_negative)
    if all(item in rows.items and location in rows.locations for item, location in pairs):
        locations = {(rows.items[i].id, rows.locations[at].id): rows.locations[at] for i, at in pairs}
        if len(rows.balances) < len(locations):
            rows.balances.update(await _make_balances(db, locations))
    return rows


def _columns(pairs: Iterable[ItemAndLocation]) -> dict[str, str]:
    """For each pair an id or a word in two columns each; the other of the two is None."""
    items, locations = [item for item, _ in pairs], [location for _, location in pairs]
    return {
        "item_ids": number_array([i if isinstance(i, int) else None for i in items]),
        "skus": text_array([i if isinstance(i, str) else None for i in items]),
        "location_ids": number_array([at if isinstance(at, int) else None for at in locations]),
        "codes": text_array([at if isinstance(at, str) else None for at in locations]),
    }


_INSERT_MISSING_BALANCES = Prepared(
    text("""
insert into stock_balances (item_id, location_id, allows_negative)
select * from unnest(cast(:items as bigint[]), cast(:locations as bigint[]), cast(:allows_negative as boolean[]))
order by 1, 2 on conflict do nothing
""")
)

_LOCK_BALANCES = Prepared(
    text("""
select b.item_id, b.location_id, b.on_hand, b.value, b.last_average, b.allows_negative
from stock_balances b
join unnest(cast(:items as bigint[]), cast(:locations as bigint[])) k (item_id, location_id)
  using (item_id, location_id)
order by 1, 2 for update of b
""")
)


async def _make_balances(db: WriteSession, locations: Mapping[BalanceKey, LockedLocation]) -> dict[BalanceKey, Balance]:
    """Insert those of the balances that are missing, in order, then lock all of them, in order.

    An insert while other balances are locked already can deadlock. Each key comes with its location, whose flag the
    inserted balance copies."""
    keys = sorted(locations)
    columns = {"items": [item_id for item_id, _ in keys], "locations": [location_id for _, location_id in keys]}
    flags = [locations[key].allows_negative for key in keys]
    await db.execute(_INSERT_MISSING_BALANCES, {**columns, "allows_negative": flags})
    rows = await db.execute(_LOCK_BALANCES, columns)
    return {(item_id, location_id): Balance(*state) for item_id, location_id, *state in rows}
