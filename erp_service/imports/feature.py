"""What imports registers with the service."""

from erp_service.registry.feature import Feature

FEATURE = Feature(
    name="imports",
    models=("erp_service.imports.models",),
    event_types=("import.items", "import.locations", "import.movements"),
)
