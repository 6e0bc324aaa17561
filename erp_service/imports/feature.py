"""What imports registers with the service."""

from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.registry.feature import EventTypes, Feature

FEATURE = Feature(
    name="imports",
    models=("erp_service.imports.models",),
    tags=(("imports", "Files of items, locations and movements: submit, follow, undo"),),
    routes=(
        "erp_service.imports.jobs.submit_routes:ROUTES",
        "erp_service.imports.jobs.routes:ROUTES",
        "erp_service.imports.jobs.status_routes:ROUTES",
    ),
    tasks=("erp_service.imports.jobs.tasks:TASKS",),
    queues=("erp_service.imports.jobs.kind:QUEUES",),
    background=("erp_service.imports.jobs.maintenance:BACKGROUND",),
    housekeeping=("erp_service.imports.jobs.maintenance:HOUSEKEEPING",),
    figures=("erp_service.imports.jobs.run.metrics:FIGURES",),
    enums=(
        "erp_service.imports.stored:ImportDataset",
        "erp_service.imports.stored:ImportMode",
        "erp_service.imports.jobs.schemas:SeparatorName",
    ),
    event_types=(
        # the only event of all that a file has changed: whoever follows the one follows the other
        EventTypes(Role.VIEWER, Scope.ITEMS_READ, ("import.items",)),
        EventTypes(Role.VIEWER, Scope.LOCATIONS_READ, ("import.locations",)),
        EventTypes(Role.VIEWER, Scope.STOCK_READ, ("import.movements",)),
        EventTypes(
            Role.ADMIN,
            Scope.IMPORTS_READ,
            (
                "import.submitted",
                "import.checked",
                "import.canceled",
                "import.failed",
                "import.deleted",
                "import.undone",
            ),
        ),
    ),
)
