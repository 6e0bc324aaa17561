"""The datasets of items, locations, stock levels, stock values and stock movements, for exports."""

from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.decimals import COST_SCALE, MONEY_SCALE, PRECISION, QUANTITY_SCALE
from erp_service.inventory.queries.shares import levels_now, of_item, share, unit_value
from erp_service.inventory.reservations.live import live_reserved
from erp_service.registry.datasets import (
    Column,
    Dataset,
    Filter,
    a_time,
    an_id,
    deleted_filter,
    one_of,
    search_filter,
    some_text,
)

_QUANTITY = (PRECISION, QUANTITY_SCALE)
_MONEY = (PRECISION, MONEY_SCALE)
_COST = (28, COST_SCALE)
_ORIGINS = ("REVERSAL", "COUNT", "ASSEMBLY", "REVALUATION", "SETTLEMENT")
_ORIGIN = f"what made it, if no movement was posted as such: one of {', '.join(_ORIGINS)}"


ITEMS = Dataset(
    name="items",
    description="What is kept in stock.",
    role=Role.VIEWER,
    scope=Scope.ITEMS_READ,
    source="items i",
    key=("i.id",),
    sorts={"id": "i.id", "sku": "i.sku", "name": "i.name_key"},
    columns=(
        Column("id", "integer", "i.id", "the item's id"),
        Column("sku", "text", "i.sku", "its unique sku"),
        Column("name", "text", "i.name", "its name"),
        Column("unit", "text", "i.unit", "what it is counted in"),
        Column("decimals", "integer", "i.decimals", "how a quantity may be divided: 0 if only whole units are"),
        Column("units", "json", "i.units", "its packs: one of each is numerator / denominator of the unit"),
        Column("barcode", "text", "i.barcode", "what a scanner reads"),
        Column("external_id", "text", "i.external_id", "its id in another system"),
        Column("status", "text", "i.status", "ACTIVE, INACTIVE or DISCONTINUED"),
        Column("description", "text", "i.description", "more about it"),
        Column("reorder_point", "decimal", "i.reorder_point", "stock is low at or below this quantity", _QUANTITY),
        Column("metadata", "json", "i.metadata", "what a client keeps with it"),
        Column("created_at", "timestamp", "i.created_at", "when it was entered"),
        Column("updated_at", "timestamp", "i.updated_at", "when it was last changed"),
        Column("deleted_at", "timestamp", "i.deleted_at", "when it was deleted"),
    ),
    filters=(
        search_filter("i.search", "sku", "name"),
        Filter("sku", some_text, "i.sku = {}", "this sku"),
        Filter("barcode", some_text, "i.barcode = {}", "this barcode"),
        Filter("external_id", some_text, "i.external_id = {}", "this external id"),
        Filter("status", one_of("ACTIVE", "INACTIVE", "DISCONTINUED"), "i.status = {}", "this status"),
        deleted_filter("i.deleted_at is null"),
    ),
)

LOCATIONS = Dataset(
    name="locations",
    description="Where stock is kept.",
    role=Role.VIEWER,
    scope=Scope.LOCATIONS_READ,
    source="locations l left join locations p on p.id = l.parent_id",
    key=("l.id",),
    sorts={"id": "l.id", "code": "l.code", "name": "l.name_key"},
    columns=(
        Column("id", "integer", "l.id", "the location's id"),
        Column("code", "text", "l.code", "its unique code"),
        Column("name", "text", "l.name", "its name"),
        Column("location_type", "text", "l.location_type", "WAREHOUSE, ZONE or BIN"),
        Column("address", "text", "l.address", "its address"),
        Column("parent_id", "integer", "l.parent_id", "the id of the location it is part of"),
        Column("parent", "text", "p.code", "the code of the location it is part of"),
        Column("allow_negative_stock", "boolean", "l.allow_negative_stock", "whether stock may go below zero there"),
        Column("external_id", "text", "l.external_id", "its id in another system"),
        Column("metadata", "json", "l.metadata", "what a client keeps with it"),
        Column("created_at", "timestamp", "l.created_at", "when it was entered"),
        Column("updated_at", "timestamp", "l.updated_at", "when it was last changed"),
        Column("deleted_at", "timestamp", "l.deleted_at", "when it was deleted"),
    ),
    filters=(
        search_filter("l.search", "code", "name"),
        Filter("code", some_text, "l.code = {}", "this code"),
        Filter("external_id", some_text, "l.external_id = {}", "this external id"),
        Filter("location_type", one_of("WAREHOUSE", "ZONE", "BIN"), "l.location_type = {}", "this type"),
        Filter("parent_id", an_id, "l.parent_id = {}", "directly part of this location"),
        deleted_filter("l.deleted_at is null"),
    ),
)

_WITHIN = (
    "{column} in (with recursive tree as (select id from locations where code = {{}}"
    " union select c.id from locations c join tree t on c.parent_id = t.id) select id from tree)"
)


def _location_filters(column: str) -> tuple[Filter, ...]:
    return (
        Filter("location_id", an_id, f"{column} = {{}}", "this location"),
        Filter("location", some_text, "l.code = {}", "the location with this code"),
        Filter("within", some_text, _WITHIN.format(column=column), "the location with this code, or one below it"),
    )


def _quantity(sql: str) -> str:
    """With the digits that the catalogue says, which Postgres cannot tell of an expression."""
    return f"cast({sql} as numeric({PRECISION}, {QUANTITY_SCALE}))"


STOCK_LEVELS = Dataset(
    name="stock_levels",
    description="What is on hand of each item at each location, and its share of the item's value at moving average.",
    role=Role.VIEWER,
    scope=Scope.STOCK_READ,
    source="stock_balances b join items i on i.id = b.item_id join locations l on l.id = b.location_id"
    f" cross join lateral ({of_item(levels_now('b.item_id'))}) s",
    key=("b.item_id", "b.location_id"),
    columns=(
        Column("item_id", "integer", "b.item_id", "the item's id"),
        Column("sku", "text", "i.sku", "the item's sku"),
        Column("name", "text", "i.name", "the item's name"),
        Column("unit", "text", "i.unit", "what it is counted in"),
        Column("location_id", "integer", "b.location_id", "the location's id"),
        Column("location", "text", "l.code", "the location's code"),
        Column("on_hand", "decimal", "b.on_hand", "the quantity on hand", _QUANTITY),
        Column("reserved", "decimal", _quantity(live_reserved("b")), "what reservations hold of it", _QUANTITY),
        Column("available", "decimal", _quantity(f"b.on_hand - {live_reserved('b')}"), "on_hand - reserved", _QUANTITY),
        Column(
            "value",
            "decimal",
            f"cast({share('b.location_id', 'b.on_hand', 's')} as numeric({PRECISION}, {MONEY_SCALE}))",
            "the share of the item's value; all shares add up to it",
            _MONEY,
        ),
        Column("unit_value", "decimal", unit_value("s.item_value", "s.item_on_hand"), "of one, at moving average"),
    ),
    filters=(
        Filter("sku", some_text, "i.sku = {}", "this item"),
        Filter("item_id", an_id, "b.item_id = {}", "this item"),
        *_location_filters("b.location_id"),
    ),
)

STOCK_VALUES = Dataset(
    name="stock_values",
    description="What is on hand of each item over all locations, and its value at moving average.",
    role=Role.VIEWER,
    scope=Scope.STOCK_READ,
    source="stock_values v join items i on i.id = v.item_id",
    key=("v.item_id",),
    columns=(
        Column("item_id", "integer", "v.item_id", "the item's id"),
        Column("sku", "text", "i.sku", "the item's sku"),
        Column("name", "text", "i.name", "the item's name"),
        Column("unit", "text", "i.unit", "what it is counted in"),
        Column("on_hand", "decimal", "v.on_hand", "the quantity on hand over all locations", _QUANTITY),
        Column("value", "decimal", "v.value", "its value", _MONEY),
        Column("unit_value", "decimal", unit_value("v.value", "v.on_hand"), "of one, at moving average"),
        Column(
            "last_cost", "decimal", "v.last_cost", "the cost that was last paid for one; empty if none is known", _COST
        ),
    ),
    filters=(
        Filter("sku", some_text, "i.sku = {}", "this item"),
        Filter("item_id", an_id, "v.item_id = {}", "this item"),
    ),
)

STOCK_MOVEMENTS = Dataset(
    name="stock_movements",
    description="The ledger: all movements of stock since the beginning, and changes of its value, which are nowhere.",
    role=Role.VIEWER,
    scope=Scope.STOCK_READ,
    source="stock_ledger e join items i on i.id = e.item_id left join locations l on l.id = e.location_id",
    key=("e.id",),
    sorts={"id": "e.id"},
    columns=(
        Column("id", "integer", "e.id", "for one item, the order of ids is the order of effects"),
        Column("transaction_id", "uuid", "e.transaction_id", "the document it was posted in"),
        Column("line", "integer", "e.line", "the line in the document"),
        Column("transaction_type", "text", "e.entry_type", "IN, OUT, TRANSFER_IN, TRANSFER_OUT or ADJUSTMENT"),
        Column("sku", "text", "i.sku", "the item's sku"),
        Column("name", "text", "i.name", "the item's name"),
        Column("location", "text", "l.code", "the location's code; empty for a change of value"),
        Column("quantity", "decimal", "e.quantity", "signed: below zero if stock went out", _QUANTITY),
        Column("unit", "text", "i.unit", "what it is counted in"),
        Column("unit_cost", "decimal", "cast(e.unit_cost as numeric(28, 10))", "the unit cost as it was posted", _COST),
        Column("value", "decimal", "e.value", "signed value of the movement", _MONEY),
        Column("origin", "text", "e.origin", _ORIGIN),
        Column("reverses_id", "integer", "e.reverses_id", "the id of the entry that it reverses"),
        Column(
            "not_covered", "decimal", "e.not_covered", "of a revaluation, what belongs to stock that was gone", _MONEY
        ),
        Column("occurred_at", "timestamp", "e.occurred_at", "when it happened"),
        Column("recorded_at", "timestamp", "e.recorded_at", "when it was posted"),
        Column("reference_no", "text", "e.reference_no", "the number of the paper behind it"),
        Column("notes", "text", "e.notes", "notes"),
        Column("reason", "text", "e.reason", "why it was adjusted"),
        Column("metadata", "json", "e.metadata", "further data that was posted with it"),
        Column("user_id", "integer", "e.user_id", "who posted it; empty for the service itself"),
    ),
    filters=(
        Filter("item_id", an_id, "e.item_id = {}", "this item"),
        Filter("sku", some_text, "i.sku = {}", "this item"),
        *_location_filters("e.location_id"),
        Filter(
            "transaction_type",
            one_of("IN", "OUT", "TRANSFER_IN", "TRANSFER_OUT", "ADJUSTMENT"),
            "e.entry_type = {}",
            "this type",
        ),
        Filter("origin", one_of(*_ORIGINS), "e.origin = {}", "made by this"),
        # entries are never rewritten: those from before texts were normalised may hold it decomposed
        Filter("reference_no", some_text, "e.reference_no in ({}, normalize({}, NFD))", "this reference"),
        Filter("from", a_time, "e.occurred_at >= {}", "occurred at this time or later"),
        Filter("to", a_time, "e.occurred_at < {}", "occurred before this time"),
        Filter("recorded_from", a_time, "e.recorded_at >= {}", "posted at this time or later"),
        Filter("recorded_to", a_time, "e.recorded_at < {}", "posted before this time"),
    ),
)

DATASETS = (ITEMS, LOCATIONS, STOCK_LEVELS, STOCK_VALUES, STOCK_MOVEMENTS)
