"""The company that this service belongs to: what its owner decides while the service runs."""

from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.registry.feature import EventTypes, Feature

FEATURE = Feature(
    name="company",
    models=("erp_service.company.models",),
    tags=(("settings", "What the company's owner decides while the service runs"),),
    routes=("erp_service.company.routes:ROUTES",),
    event_types=(
        EventTypes(
            Role.ADMIN,
            Scope.SETTINGS_READ,
            (
                "company.period_closed",
                "company.period_opened",
                "company.settings_changed",
            ),
        ),
    ),
)
