"""What imports registers with the service."""

from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.registry.feature import EventTypes, Feature

FEATURE = Feature(
    name="imports",
    models=("erp_service.imports.models",),
    event_types=(
        EventTypes(
            Role.ADMIN,
            Scope.IMPORTS_READ,
            (
                "import.items",
                "import.locations",
                "import.movements",
            ),
        ),
    ),
)
