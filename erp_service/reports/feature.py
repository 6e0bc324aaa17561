"""What reports registers with the service."""

from erp_service.registry.feature import Feature

FEATURE = Feature(
    name="reports",
    tags=(("reports", "What is on hand, what moved, what is low, what sells"),),
    routes=(
        "erp_service.reports.routes.snapshot:ROUTES",
        "erp_service.reports.routes.movements:ROUTES",
        "erp_service.reports.routes.figures:ROUTES",
    ),
    enums=("erp_service.reports.schemas:Period",),
)
