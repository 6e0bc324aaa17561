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
from erp_service.inventory.valuation import Balance

BalanceKey: TypeAlias = tuple[int, int]
"""The id of an item and the id of a location."""


class LockedItem(Struct, frozen=True):
    id: int
    sku: str
    status: str


class LockedLocation(Struct, frozen=True):
    id: int
    code: str
    allows_negative: bool


class LockedRows(Struct, frozen=True):
    """Items and locations that stay unchanged and undeleted until the transaction ends. Unknown ones are absent."""

    items: dict[int | str, LockedItem]
    """By id, and by sku."""
    locations: dict[int | str, LockedLocation]
    """By id, and by code."""


# The parts of the UNION ALL are read one after the other, so items are locked before locations, each by id.
_LOCK_ITEMS_AND_LOCATIONS = text("""
with locked_items as materialized (
  select id, sku, status, deleted_at from items
  where id = any(cast(:item_ids as bigint[])) or sku = any(cast(:skus as text[])) order by id for share
), locked_locations as materialized (
  select id, code, allow_negative_stock, deleted_at from locations
  where id = any(cast(:location_ids as bigint[])) or code = any(cast(:codes as text[])) order by id for share
)
select id, sku, status, null from locked_items where deleted_at is null
union all
select id, code, null, allow_negative_stock from locked_locations where deleted_at is null
""")


async def lock_for_share(db: WriteSession, items: Iterable[int | str], locations: Iterable[int | str]) -> LockedRows:
    """Lock items (by id or sku) and locations (by id or code) until the transaction ends."""
    item_ids, skus = _ids_and_words(items)
    location_ids, codes = _ids_and_words(locations)
    rows = LockedRows({}, {})
    result = await db.execute(
        _LOCK_ITEMS_AND_LOCATIONS, {"item_ids": item_ids, "skus": skus, "location_ids": location_ids, "codes": codes}
    )
    for id_, word, status, allows_negative in result:
        if status is not None:
            rows.items[id_] = rows.items[word] = LockedItem(id_, word, status)
        else:
            rows.locations[id_] = rows.locations[word] = LockedLocation(id_, word, allows_negative)
    return rows


def _ids_and_words(references: Iterable[int | str]) -> tuple[list[int], list[str]]:
    distinct = set(references)
    return [r for r in distinct if isinstance(r, int)], [r for r in distinct if isinstance(r, str)]


_INSERT_MISSING_BALANCES = text("""
insert into stock_balances (item_id, location_id, allows_negative)
select * from unnest(cast(:items as bigint[]), cast(:locations as bigint[]), cast(:allows_negative as boolean[]))
order by 1, 2 on conflict do nothing
""")

_LOCK_BALANCES = text("""
select b.item_id, b.location_id, b.on_hand, b.value, b.last_average, b.allows_negative
from stock_balances b
join unnest(cast(:items as bigint[]), cast(:locations as bigint[])) k (item_id, location_id)
  using (item_id, location_id)
order by 1, 2 for update of b
""")


async def lock_balances(db: WriteSession, locations: Mapping[BalanceKey, LockedLocation]) -> dict[BalanceKey, Balance]:
    """Lock the balances with these keys, in order. A balance that does not exist yet is inserted, with zero on hand.

    Each key comes with its location, whose flag the inserted balance copies."""
    keys = sorted(locations)
    columns = {"items": [item_id for item_id, _ in keys], "locations": [location_id for _, location_id in keys]}
    # Several rows: the missing ones are inserted first, and in order. An insert while other rows are locked already
    # can deadlock. A single row cannot, and it mostly exists: it is locked first, which saves a statement.
    rows = await db.execute(_LOCK_BALANCES, columns) if len(keys) == 1 else []
    if not rows:
        flags = [locations[key].allows_negative for key in keys]
        await db.execute(_INSERT_MISSING_BALANCES, {**columns, "allows_negative": flags})
        rows = await db.execute(_LOCK_BALANCES, columns)
    return {(item_id, location_id): Balance(*state) for item_id, location_id, *state in rows}
