"""What operations gives to the service."""

from erp_service.registry.feature import Feature

FEATURE = Feature(
    name="operations",
    tags=(("health", "For probes, load balancers and operators"),),
    routes=("erp_service.operations.health:ROUTES", "erp_service.operations.metrics:ROUTES"),
    tasks=("erp_service.operations.tasks:TASKS",),
    figures=("erp_service.operations.standbys:FIGURES",),
    housekeeping=("erp_service.operations.seal_head:HOUSEKEEPING",),
    queues=("erp_service.operations.tasks:QUEUES",),
)
