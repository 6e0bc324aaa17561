"""The company that this service belongs to: what its owner decides while the service runs."""

from erp_service.registry.feature import Feature

FEATURE = Feature(
    name="company",
    models=("erp_service.company.models",),
    event_types=("company.period_closed", "company.period_opened"),
)
