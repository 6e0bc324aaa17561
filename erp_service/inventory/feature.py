"""What inventory registers with the service."""

from erp_service.registry.feature import Feature

FEATURE = Feature(
    name="inventory",
    models=("erp_service.inventory.models",),
    tags=(
        ("items", "What is kept in stock"),
        ("locations", "Where it is kept"),
        ("stock", "The ledger: movements, documents, what is on hand"),
    ),
    routes=(
        "erp_service.inventory.routes.items:ROUTES",
        "erp_service.inventory.routes.locations:ROUTES",
        "erp_service.inventory.routes.stock_queries:ROUTES",
        "erp_service.inventory.routes.stock:ROUTES",
    ),
    datasets=("erp_service.inventory.datasets:DATASETS",),
    proofs=("erp_service.inventory.proofs:PROOFS", "erp_service.inventory.look_alikes:PROOFS"),
    event_types=(
        "item.created",
        "item.deleted",
        "item.updated",
        "location.created",
        "location.deleted",
        "location.updated",
        "stock.posted",
        "stock.reversed",
    ),
    enums=(
        "erp_service.inventory.schemas:ItemStatus",
        "erp_service.inventory.schemas:LocationType",
        "erp_service.inventory.schemas:EntryType",
        "erp_service.inventory.schemas:EntryOrigin",
    ),
)
