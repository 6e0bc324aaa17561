"""What inventory registers with the service."""

from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.registry.feature import EventTypes, Feature

FEATURE = Feature(
    name="inventory",
    models=(
        "erp_service.inventory.models",
        "erp_service.inventory.reservations.models",
        "erp_service.inventory.counts.models",
    ),
    tags=(
        ("items", "What is kept in stock"),
        ("locations", "Where it is kept"),
        ("stock", "The ledger: movements, documents, what is on hand"),
        ("reservations", "Stock that is held for somebody until a time"),
        ("counts", "Counts: what is really there, and the booking of what differs"),
    ),
    routes=(
        "erp_service.inventory.routes.items:ROUTES",
        "erp_service.inventory.routes.locations:ROUTES",
        "erp_service.inventory.routes.stock_queries:ROUTES",
        "erp_service.inventory.routes.stock:ROUTES",
        "erp_service.inventory.reservations.routes:ROUTES",
        "erp_service.inventory.counts.routes:ROUTES",
    ),
    housekeeping=("erp_service.inventory.reservations.expiry:HOUSEKEEPING",),
    datasets=(
        "erp_service.inventory.datasets:DATASETS",
        "erp_service.inventory.reservations.datasets:DATASETS",
        "erp_service.inventory.counts.datasets:DATASETS",
    ),
    proofs=(
        "erp_service.inventory.proofs:PROOFS",
        "erp_service.inventory.look_alikes:PROOFS",
        "erp_service.inventory.reservations.proofs:PROOFS",
        "erp_service.inventory.counts.proofs:PROOFS",
    ),
    sealed=("erp_service.inventory.sealed:SEALED",),
    event_data=("erp_service.inventory.event_data:EVENT_DATA",),
    event_types=(
        EventTypes(
            Role.VIEWER,
            Scope.ITEMS_READ,
            (
                "item.created",
                "item.deleted",
                "item.restored",
                "item.updated",
            ),
        ),
        EventTypes(
            Role.VIEWER,
            Scope.LOCATIONS_READ,
            (
                "location.created",
                "location.deleted",
                "location.restored",
                "location.updated",
            ),
        ),
        EventTypes(
            Role.STAFF,
            Scope.STOCK_READ,
            (
                "count.canceled",
                "count.lines_changed",
                "count.opened",
                "count.posted",
                "reservation.created",
                "reservation.expired",
                "reservation.extended",
                "reservation.released",
            ),
        ),
        EventTypes(
            Role.VIEWER,
            Scope.STOCK_READ,
            (
                "stock.posted",
                "stock.reversed",
            ),
        ),
    ),
    enums=(
        "erp_service.inventory.bulk.schemas:BulkMode",
        "erp_service.inventory.bulk.schemas:BulkStatus",
        "erp_service.inventory.schemas:ItemStatus",
        "erp_service.inventory.schemas:LocationType",
        "erp_service.inventory.schemas:EntryType",
        "erp_service.inventory.schemas:EntryOrigin",
        "erp_service.inventory.reservations.schemas:ReservationStatus",
        "erp_service.inventory.counts.schemas:CountStatus",
    ),
)
