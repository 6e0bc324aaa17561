"""The stock of many items at once, by any of their names."""

from decimal import Decimal
from typing import Annotated

from msgspec import Meta, Struct
from sqlalchemy import text

from erp_service.db.sessions import Session
from erp_service.db.statements import Prepared
from erp_service.inventory.queries.item_lookup import ItemNames, missing, parameters_of
from erp_service.inventory.queries.location_filter import named_location
from erp_service.inventory.queries.shares import levels_now, of_item, share, unit_value
from erp_service.inventory.reservations.live import live_reserved
from erp_service.inventory.schemas import (
    IDENTIFIER_LENGTH,
    Available,
    ReferredId,
    Reserved,
    ShareOfValue,
    UnitValue,
)

_Name = Annotated[str, Meta(min_length=1, max_length=IDENTIFIER_LENGTH)]


class StockLookup(ItemNames, forbid_unknown_fields=True, kw_only=True):
    """Items by their names, up to 1,000 in all, and the location whose stock of them is wanted."""

    location_id: Annotated[
        ReferredId | None, Meta(description="the stock at this location; of all locations without one")
    ] = None
    location: Annotated[_Name | None, Meta(description="the same by its code", examples=["MAIN"])] = None


class StockOfItem(Struct):
    """What is on hand of one item, at the location of the request or over all."""

    item_id: Annotated[int, Meta(description="the id of the item")]
    sku: Annotated[str, Meta(description="its sku")]
    name: Annotated[str, Meta(description="its name")]
    unit: Annotated[str, Meta(description="the unit of its quantities")]
    external_id: Annotated[str | None, Meta(description="its id in another system")]
    barcode: Annotated[str | None, Meta(description="what a scanner reads")]
    on_hand: Annotated[Decimal, Meta(description="zero also where it never was")]
    reserved: Reserved
    available: Available
    value: ShareOfValue
    unit_value: UnitValue
    currency: Annotated[str, Meta(description="ISO 4217", examples=["EUR"])]


class StockFound(Struct):
    """The items that are there, and the names that no item has."""

    items: Annotated[list[StockOfItem], Meta(description="each item once, by id")]
    missing: Annotated[ItemNames, Meta(description="the names that no item has, each once")]


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
    parameters = {**parameters_of(lookup), "currency": currency}
    location_id = await named_location(db, lookup.location_id, lookup.location)
    if location_id is None:
        rows = await db.execute(_OF_ALL, parameters)
    else:
        rows = await db.execute(_OF_ONE, {**parameters, "location_id": location_id})
    items = [StockOfItem(*row) for row in rows]
    return StockFound(items, missing(lookup, [(i.item_id, i.sku, i.external_id, i.barcode) for i in items]))
