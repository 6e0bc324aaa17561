"""The dataset of counts, for exports."""

from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.decimals import MONEY_SCALE, PRECISION, QUANTITY_SCALE
from erp_service.registry.datasets import Column, Dataset, Filter, a_time, an_id, one_of, some_text

_QUANTITY = (PRECISION, QUANTITY_SCALE)
_MONEY = (PRECISION, MONEY_SCALE)

# with that of the settlement which may follow
_VALUE = (
    "(select sum(e.value) from stock_ledger e where e.transaction_id = c.transaction_id and e.line = n.document_line)"
)

COUNTS = Dataset(
    name="counts",
    description="What was counted, a row for each line of a count, and what the books said at that moment.",
    role=Role.STAFF,
    scope=Scope.STOCK_READ,
    source=(
        "stock_count_lines n join stock_counts c on c.id = n.count_id join items i on i.id = n.item_id"
        " join locations l on l.id = c.location_id"
    ),
    key=("n.item_id", "n.count_id"),
    columns=(
        Column("count_id", "uuid", "n.count_id", "the count"),
        Column("location_id", "integer", "c.location_id", "the id of the location that was counted"),
        Column("location", "text", "l.code", "its code"),
        Column("status", "text", "c.status", "OPEN, POSTED or CANCELED"),
        Column("reference_no", "text", "c.reference_no", "the number of the paper behind it"),
        Column("item_id", "integer", "n.item_id", "the item's id"),
        Column("sku", "text", "i.sku", "the item's sku"),
        Column("name", "text", "i.name", "the item's name"),
        Column("unit", "text", "i.unit", "what it is counted in"),
        Column("counted", "decimal", "n.counted", "what was counted", _QUANTITY),
        Column("expected", "decimal", "n.expected", "what was on hand by the books at that moment", _QUANTITY),
        Column(
            "difference",
            "decimal",
            "cast(n.counted - n.expected as numeric(18, 6))",
            "above zero was found, below is missing",
            _QUANTITY,
        ),
        Column(
            "value",
            "decimal",
            f"cast(case when c.status = 'POSTED' then coalesce({_VALUE}, 0) end as numeric(18, 4))",
            "the signed value of the difference, as the ledger has it; empty unless the count is posted",
            _MONEY,
        ),
        Column("counted_at", "timestamp", "n.counted_at", "when it was counted; empty if nobody had counted it"),
        Column("user_id", "integer", "n.user_id", "who counted; empty for the service itself"),
        Column("created_at", "timestamp", "c.created_at", "when the count was opened"),
        Column("ended_at", "timestamp", "c.ended_at", "when it was posted or canceled"),
        Column("transaction_id", "uuid", "c.transaction_id", "the document that booked the differences"),
    ),
    filters=(
        Filter("location_id", an_id, "c.location_id = {}", "this location"),
        Filter("location", some_text, "l.code = {}", "this location"),
        Filter("status", one_of("OPEN", "POSTED", "CANCELED"), "c.status = {}", "this status"),
        Filter("item_id", an_id, "n.item_id = {}", "this item"),
        Filter("sku", some_text, "i.sku = {}", "this item"),
        Filter("from", a_time, "c.created_at >= {}", "opened at this time or later"),
        Filter("to", a_time, "c.created_at < {}", "opened before this time"),
    ),
)

DATASETS = (COUNTS,)
