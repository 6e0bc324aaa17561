"""What this feature adds to the service."""

from erp_service.registry.feature import Feature

FEATURE = Feature(
    name="access",
    models=("erp_service.access.rate_limits",),
    housekeeping=("erp_service.access.rate_limits:HOUSEKEEPING",),
)
