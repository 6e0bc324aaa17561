"""What the console gives to the service."""

from erp_service.registry.feature import Feature

FEATURE = Feature(
    name="console",
    routes=("erp_service.console.routes:ROUTES", "erp_service.console.session_routes:ROUTES"),
)
