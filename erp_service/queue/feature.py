"""What queue gives to the service."""

from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.registry.feature import EventTypes, Feature

FEATURE = Feature(
    name="queue",
    housekeeping=("erp_service.queue.inspection:HOUSEKEEPING",),
    figures=("erp_service.queue.inspection:FIGURES",),
    event_types=(
        EventTypes(
            Role.ADMIN,
            Scope.OPERATIONS_READ,
            (
                "job.canceled",
                "job.retried",
            ),
        ),
    ),
)
