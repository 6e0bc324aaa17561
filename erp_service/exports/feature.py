"""What exports gives to the service."""

from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.registry.feature import EventTypes, Feature

FEATURE = Feature(
    name="exports",
    models=("erp_service.exports.models", "erp_service.exports.schedules.models"),
    tags=(("exports", "Heavy exports: submit, follow, download"),),
    routes=(
        "erp_service.exports.routes:ROUTES",
        "erp_service.exports.delivery.download_routes:ROUTES",
        "erp_service.exports.delivery.status_routes:ROUTES",
        "erp_service.exports.delivery.address_routes:ROUTES",
        "erp_service.exports.schedules.routes:ROUTES",
    ),
    tasks=("erp_service.exports.tasks:TASKS",),
    queues=("erp_service.exports.admission:QUEUES",),
    background=("erp_service.exports.schedules.due:BACKGROUND", "erp_service.exports.maintenance:BACKGROUND"),
    housekeeping=("erp_service.exports.maintenance:HOUSEKEEPING",),
    proofs=("erp_service.exports.storage.proofs:PROOFS",),
    figures=("erp_service.exports.admission:FIGURES",),
    event_types=(
        EventTypes(
            Role.ADMIN,
            Scope.EXPORTS_READ,
            (
                "export.address_given",
                "export.canceled",
                "export.deleted",
                "export.downloaded",
                "export.failed",
                "export.retried",
                "export.submitted",
                "export.succeeded",
                "schedule.created",
                "schedule.deleted",
                "schedule.refused",
                "schedule.run",
                "schedule.updated",
            ),
        ),
    ),
    enums=(
        "erp_service.exports.schemas:DatasetName",
        "erp_service.exports.formats.base:FormatName",
        "erp_service.exports.formats.compression:CompressionName",
        "erp_service.exports.schemas:ColumnType",
    ),
)
