"""What web gives to the service."""

from erp_service.registry.feature import Feature

FEATURE = Feature(
    name="web",
    models=("erp_service.web.idempotency_models", "erp_service.web.rate_limits"),
    routes=("erp_service.web.pages.problems:ROUTES", "erp_service.web.pages.docs:ROUTES"),
    housekeeping=("erp_service.web.idempotency_models:HOUSEKEEPING", "erp_service.web.rate_limits:HOUSEKEEPING"),
)
