"""What access gives to the service."""

from erp_service.registry.feature import Feature

ACCESS = Feature(
    name="access",
    models=("erp_service.access.rate_limits",),
    housekeeping=("erp_service.access.rate_limits:HOUSEKEEPING",),
)
