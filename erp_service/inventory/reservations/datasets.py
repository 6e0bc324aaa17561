"""The dataset of reservations, for exports."""

from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.decimals import PRECISION, QUANTITY_SCALE
from erp_service.inventory.reservations.live import ENDED_AT, STATUS
from erp_service.registry.datasets import Column, Dataset, Filter, a_time, an_id, one_of, some_text

_QUANTITY = (PRECISION, QUANTITY_SCALE)

RESERVATIONS = Dataset(
    name="reservations",
    description="Stock that is or was held for somebody until a time.",
    role=Role.STAFF,
    scope=Scope.STOCK_READ,
    source="stock_reservations r join items i on i.id = r.item_id join locations l on l.id = r.location_id",
    key=("r.item_id", "r.id"),
    sorts={"id": "r.id", "expires_at": "r.expires_at"},
    columns=(
        Column("id", "uuid", "r.id", "the reservation's id"),
        Column("item_id", "integer", "r.item_id", "the item's id"),
        Column("sku", "text", "i.sku", "the item's sku"),
        Column("location_id", "integer", "r.location_id", "the location's id"),
        Column("location", "text", "l.code", "the location's code"),
        Column("status", "text", STATUS, "ACTIVE, USED, RELEASED or EXPIRED"),
        Column("quantity", "decimal", "r.quantity", "what is held, or was at its end", _QUANTITY),
        Column("original_quantity", "decimal", "r.original_quantity", "what was reserved", _QUANTITY),
        Column("unit", "text", "i.unit", "what it is counted in"),
        Column("reference", "text", "r.reference", "whom or what it is for"),
        Column("created_at", "timestamp", "r.created_at", "when it was made"),
        Column("expires_at", "timestamp", "r.expires_at", "from then on it blocks nobody"),
        Column("ended_at", "timestamp", ENDED_AT, "when it was used up or released, or had expired"),
        Column("user_id", "integer", "r.user_id", "who made it; empty for the service itself"),
    ),
    filters=(
        Filter("item_id", an_id, "r.item_id = {}", "this item"),
        Filter("sku", some_text, "i.sku = {}", "this item"),
        Filter("location_id", an_id, "r.location_id = {}", "this location"),
        Filter("location", some_text, "l.code = {}", "this location"),
        Filter("reference", some_text, "r.reference = {}", "exactly this reference"),
        Filter(
            "status",
            one_of("ACTIVE", "USED", "RELEASED", "EXPIRED"),
            f"({STATUS}) = {{}}",
            "only those with this status",
        ),
        Filter("from", a_time, "r.created_at >= {}", "made at or after this time"),
        Filter("to", a_time, "r.created_at < {}", "made before this time"),
    ),
)

DATASETS = (RESERVATIONS,)
