"""The ledger's rows as the trail seals them."""

from erp_service.registry.sealed import SealedTable

LEDGER = SealedTable(
    "stock_ledger",
    {
        1: (
            "id",
            "transaction_id",
            "line",
            "item_id",
            "location_id",
            "entry_type",
            "quantity",
            "value",
            "unit_cost",
            "on_hand_after",
            "item_on_hand_after",
            "value_after",
            "origin",
            "reverses_id",
            "not_covered",
            "extract(epoch from occurred_at)",
            "extract(epoch from recorded_at)",
            "reference_no",
            "notes",
            "reason",
            "metadata",
            "user_id",
        )
    },
)

SEALED = (LEDGER,)
