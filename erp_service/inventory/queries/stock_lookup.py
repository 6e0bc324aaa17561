"""The stock of many items at once, by any of their names."""

from sqlalchemy import text

from erp_service import errors
from erp_service.db.sessions import Session
from erp_service.db.statements import Prepared, number_array, text_array
from erp_service.errors import Fault
from erp_service.inventory.queries.location_filter import named_location
from erp_service.inventory.queries.shares import levels_now, of_item, share, unit_value
from erp_service.inventory.reservations.live import live_reserved
from erp_service.inventory.stock_schemas import MOST_NAMES, NamesOfItems, StockFound, StockLookup, StockOfItem

# each name by the index of its own; a condition with `or` would read all items
_NAMED = """
select id from items where id = any (cast(cast(:ids as text) as bigint[]))
union select id from items where sku = any (cast(cast(:skus as text) as text[]))
union select id from items where external_id = any (cast(cast(:external_ids as text) as text[])) and deleted_at is null
union select id from items where barcode = any (cast(cast(:barcodes as text) as text[])) and deleted_at is null
"""
_EVERYWHERE = """
  select v.on_hand, v.value, r.reserved, v.value as item_value, v.on_hand as item_on_hand
  from stock_values v cross join (
    select sum({reserved}) as reserved from stock_balances b where b.item_id = i.id and b.reserved <> 0
  ) r
  where v.item_id = i.id
"""
_AT_LOCATION = """
  select b.on_hand, {share} as value, {reserved} as reserved, t.item_value, t.item_on_hand
  from stock_balances b cross join ({of_item}) t
  where b.item_id = i.id and b.location_id = :location_id
"""


def _statement(stock: str) -> Prepared:
    return Prepared(
        text(f"""
select i.id, i.sku, i.name, i.unit, i.external_id, i.barcode, trim_scale(coalesce(s.on_hand, 0)),
  trim_scale(coalesce(s.reserved, 0)), trim_scale(coalesce(s.on_hand - coalesce(s.reserved, 0), 0)),
  trim_scale(coalesce(s.value, 0)), trim_scale({unit_value("s.item_value", "s.item_on_hand")}), cast(:currency as text)
from items i left join lateral ({stock}) s on true
where i.deleted_at is null and i.id in ({_NAMED}) order by i.id
""")  # noqa: S608 constants
    )


_OF_ALL = _statement(_EVERYWHERE.format(reserved=live_reserved("b")))
_OF_ONE = _statement(
    _AT_LOCATION.format(
        reserved=live_reserved("b"), share=share("b.location_id", "b.on_hand", "t"), of_item=of_item(levels_now("i.id"))
    )
)


async def stock_of_items(db: Session, lookup: StockLookup, *, currency: str) -> StockFound:
    """In one statement, beside the one that finds the location. Raises errors.Invalid."""
    if (count := lookup.count()) > MOST_NAMES:
        raise errors.Invalid(None, Fault(f"names {count} items; at most {MOST_NAMES} can be", pointer=""))
    location_id = await named_location(db, lookup.location_id, lookup.location)
    parameters = {
        "ids": number_array(lookup.ids),
        "skus": text_array(lookup.skus),
        "external_ids": text_array(lookup.external_ids),
        "barcodes": text_array(lookup.barcodes),
        "currency": currency,
    }
    if location_id is None:
        rows = await db.execute(_OF_ALL, parameters)
    else:
        rows = await db.execute(_OF_ONE, {**parameters, "location_id": location_id})
    items = [StockOfItem(*row) for row in rows]
    return StockFound(items, _missing(lookup, items))


def _missing(lookup: NamesOfItems, items: list[StockOfItem]) -> NamesOfItems:
    ids, skus = {item.item_id for item in items}, {item.sku for item in items}
    external_ids, barcodes = {item.external_id for item in items}, {item.barcode for item in items}
    return NamesOfItems(
        ids=[id_ for id_ in dict.fromkeys(lookup.ids) if id_ not in ids],
        skus=[sku for sku in dict.fromkeys(lookup.skus) if sku not in skus],
        external_ids=[name for name in dict.fromkeys(lookup.external_ids) if name not in external_ids],
        barcodes=[code for code in dict.fromkeys(lookup.barcodes) if code not in barcodes],
    )
