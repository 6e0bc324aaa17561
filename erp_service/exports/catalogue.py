"""The datasets that can be exported. All SQL here is constant, and holds no `$` and no line break."""

from collections.abc import Mapping

from erp_service.exports.datasets import Column, Dataset, Filter, a_flag, a_time, an_id, one_of, some_text
from erp_service.numbers import MONEY_SCALE, PRECISION, QUANTITY_SCALE
from erp_service.roles import Role

_QUANTITY = (PRECISION, QUANTITY_SCALE)
_MONEY = (PRECISION, MONEY_SCALE)


def _deleted(condition: str) -> Filter:
    return Filter("include_deleted", a_flag, condition, "true: the deleted ones too", lifts=True)


def _search(*columns: str) -> Filter:
    found = " or ".join(f"position(lower({{}}) in lower({column})) > 0" for column in columns)
    names = " or ".join(column.partition(".")[2] for column in columns)
    return Filter("q", some_text, f"({found})", f"a part of {names}, upper and lower case alike")


ITEMS = Dataset(
    name="items",
    description="What is kept in stock.",
    role=Role.VIEWER,
    source="items i",
    key=("i.id",),
    sorts={"id": "i.id", "sku": "i.sku", "name": "i.name"},
    columns=(
        Column("id", "integer", "i.id", "the item's id"),
        Column("sku", "text", "i.sku", "its unique number"),
        Column("name", "text", "i.name", "its name"),
        Column("unit", "text", "i.unit", "what it is counted in"),
        Column("status", "text", "i.status", "ACTIVE, INACTIVE or DISCONTINUED"),
        Column("description", "text", "i.description", "more about it"),
        Column("reorder_point", "decimal", "i.reorder_point", "at or below this, stock is low", _QUANTITY),
        Column("created_at", "timestamp", "i.created_at", "when it was entered"),
        Column("updated_at", "timestamp", "i.updated_at", "when it was last changed"),
        Column("deleted_at", "timestamp", "i.deleted_at", "when it was deleted"),
    ),
    filters=(
        _search("i.sku", "i.name"),
        Filter("sku", some_text, "i.sku = {}", "this sku"),
        Filter("status", one_of("ACTIVE", "INACTIVE", "DISCONTINUED"), "i.status = {}", "this status"),
        _deleted("i.deleted_at is null"),
    ),
)

LOCATIONS = Dataset(
    name="locations",
    description="Where stock is kept.",
    role=Role.VIEWER,
    source="locations l left join locations p on p.id = l.parent_id",
    key=("l.id",),
    sorts={"id": "l.id", "code": "l.code", "name": "l.name"},
    columns=(
        Column("id", "integer", "l.id", "the location's id"),
        Column("code", "text", "l.code", "its unique code"),
        Column("name", "text", "l.name", "its name"),
        Column("location_type", "text", "l.location_type", "WAREHOUSE, ZONE or BIN"),
        Column("address", "text", "l.address", "where that is"),
        Column("parent_id", "integer", "l.parent_id", "the location it is part of"),
        Column("parent", "text", "p.code", "the code of that"),
        Column("allow_negative_stock", "boolean", "l.allow_negative_stock", "whether stock may go below zero there"),
        Column("created_at", "timestamp", "l.created_at", "when it was entered"),
        Column("updated_at", "timestamp", "l.updated_at", "when it was last changed"),
        Column("deleted_at", "timestamp", "l.deleted_at", "when it was deleted"),
    ),
    filters=(
        _search("l.code", "l.name"),
        Filter("code", some_text, "l.code = {}", "this code"),
        Filter("location_type", one_of("WAREHOUSE", "ZONE", "BIN"), "l.location_type = {}", "this type"),
        Filter("parent_id", an_id, "l.parent_id = {}", "directly part of this location"),
        _deleted("l.deleted_at is null"),
    ),
)

STOCK_LEVELS = Dataset(
    name="stock_levels",
    description="What is on hand of each item at each location, and its value at moving average.",
    role=Role.VIEWER,
    source="stock_balances b join items i on i.id = b.item_id join locations l on l.id = b.location_id",
    key=("b.item_id", "b.location_id"),
    columns=(
        Column("item_id", "integer", "b.item_id", "the item"),
        Column("sku", "text", "i.sku", "its sku"),
        Column("name", "text", "i.name", "its name"),
        Column("unit", "text", "i.unit", "what it is counted in"),
        Column("location_id", "integer", "b.location_id", "the location"),
        Column("location", "text", "l.code", "its code"),
        Column("on_hand", "decimal", "b.on_hand", "how much is there", _QUANTITY),
        Column("value", "decimal", "b.value", "what that is worth", _MONEY),
        Column("unit_value", "decimal", "round(b.value / nullif(b.on_hand, 0), 6)", "of one unit, at moving average"),
    ),
    filters=(
        Filter("sku", some_text, "i.sku = {}", "this item"),
        Filter("item_id", an_id, "b.item_id = {}", "this item"),
        Filter("location_id", an_id, "b.location_id = {}", "this location"),
    ),
)

STOCK_MOVEMENTS = Dataset(
    name="stock_movements",
    description="The ledger: every movement of stock there ever was.",
    role=Role.VIEWER,
    source="stock_ledger e join items i on i.id = e.item_id join locations l on l.id = e.location_id",
    key=("e.id",),
    sorts={"id": "e.id"},
    columns=(
        Column("id", "integer", "e.id", "of one item at one location, ids are in the order of effects"),
        Column("transaction_id", "uuid", "e.transaction_id", "the document it was posted in"),
        Column("line", "integer", "e.line", "the line in that"),
        Column("transaction_type", "text", "e.entry_type", "IN, OUT, TRANSFER_IN, TRANSFER_OUT or ADJUSTMENT"),
        Column("sku", "text", "i.sku", "the item's sku"),
        Column("name", "text", "i.name", "the item's name"),
        Column("location", "text", "l.code", "the location's code"),
        Column("quantity", "decimal", "e.quantity", "signed: what left is below zero", _QUANTITY),
        Column("unit", "text", "i.unit", "what it is counted in"),
        Column("unit_cost", "decimal", "e.unit_cost", "as it was posted", _MONEY),
        Column("value", "decimal", "e.value", "signed", _MONEY),
        Column("occurred_at", "timestamp", "e.occurred_at", "when it happened"),
        Column("recorded_at", "timestamp", "e.recorded_at", "when it was posted"),
        Column("reference_no", "text", "e.reference_no", "the paper behind it"),
        Column("notes", "text", "e.notes", "notes"),
        Column("reason", "text", "e.reason", "why it was adjusted"),
        Column("metadata", "json", "e.metadata", "what else was posted with it"),
        Column("user_id", "integer", "e.user_id", "who posted it; empty for the service itself"),
    ),
    filters=(
        Filter("item_id", an_id, "e.item_id = {}", "this item"),
        Filter("sku", some_text, "i.sku = {}", "this item"),
        Filter("location_id", an_id, "e.location_id = {}", "this location"),
        Filter(
            "transaction_type",
            one_of("IN", "OUT", "TRANSFER_IN", "TRANSFER_OUT", "ADJUSTMENT"),
            "e.entry_type = {}",
            "this type",
        ),
        Filter("reference_no", some_text, "e.reference_no = {}", "this reference"),
        Filter("from", a_time, "e.occurred_at >= {}", "occurred at this time or later"),
        Filter("to", a_time, "e.occurred_at < {}", "occurred before this time"),
    ),
)

AUDIT_LOG = Dataset(
    name="audit_log",
    description="Who did what, when, from where, with what before and after.",
    role=Role.ADMIN,
    source="audit_log a left join users u on u.id = a.user_id",
    key=("a.id",),
    sorts={"id": "a.id"},
    columns=(
        Column("id", "integer", "a.id", "the entry's id"),
        Column("at", "timestamp", "a.at", "when it was done"),
        Column("user_id", "integer", "a.user_id", "who did it; empty for the service itself"),
        Column("user", "text", "u.email", "their e-mail address"),
        Column("action", "text", "a.action", "what was done"),
        Column("entity", "text", "a.entity", "to what kind of thing"),
        Column("entity_id", "text", "a.entity_id", "to which"),
        Column("before", "json", "a.before", "what it was before"),
        Column("after", "json", "a.after", "what it was after"),
        Column("reason", "text", "a.reason", "why"),
        Column("request_id", "text", "a.request_id", "in which request"),
        Column("address", "text", "a.address", "from where"),
    ),
    filters=(
        Filter("user_id", an_id, "a.user_id = {}", "by this user"),
        Filter("action", some_text, "a.action = {}", "this action"),
        Filter("entity", some_text, "a.entity = {}", "to this kind of thing"),
        Filter("entity_id", some_text, "a.entity_id = {}", "to this one"),
        Filter("request_id", some_text, "a.request_id = {}", "in this request"),
        Filter("from", a_time, "a.at >= {}", "at this time or later"),
        Filter("to", a_time, "a.at < {}", "before this time"),
    ),
)

USERS = Dataset(
    name="users",
    description="Who may sign in, and with which role.",
    role=Role.ADMIN,
    source="users u",
    key=("u.id",),
    sorts={"id": "u.id", "email": "u.email"},
    columns=(
        Column("id", "integer", "u.id", "the user's id"),
        Column("email", "text", "u.email", "their e-mail address"),
        Column("full_name", "text", "u.full_name", "their name"),
        Column("role", "text", "u.role", "their role"),
        Column("is_active", "boolean", "u.is_active", "whether they may sign in"),
        Column("created_at", "timestamp", "u.created_at", "when they were registered"),
        Column("last_login_at", "timestamp", "u.last_login_at", "when they last signed in"),
    ),
    filters=(
        _search("u.email", "u.full_name"),
        Filter("role", one_of(*Role), "u.role = {}", "this role"),
        Filter("is_active", a_flag, "u.is_active = {}", "active or not"),
    ),
)

DATASETS: Mapping[str, Dataset] = {
    dataset.name: dataset for dataset in (ITEMS, LOCATIONS, STOCK_LEVELS, STOCK_MOVEMENTS, AUDIT_LOG, USERS)
}
