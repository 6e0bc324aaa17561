"""What reports registers with the service."""

from erp_service.registry.feature import Feature

FEATURE = Feature(
    name="reports",
    tags=(("reports", "What is on hand, what moved, what is low"),),
    routes=("erp_service.reports.routes:ROUTES",),
    enums=("erp_service.reports.schemas:Period",),
)
