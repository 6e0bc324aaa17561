"""What operations gives to the service."""

from erp_service.registry.feature import Feature

FEATURE = Feature(
    name="operations",
    models=("erp_service.operations.state.models",),
    tags=(
        ("health", "For probes, load balancers and operators"),
        ("operations", "The cluster, its queue, and what operators do with jobs"),
    ),
    routes=(
        "erp_service.operations.health:ROUTES",
        "erp_service.operations.metrics:ROUTES",
        "erp_service.operations.state.routes:ROUTES",
        "erp_service.operations.jobs.routes:ROUTES",
    ),
    tasks=("erp_service.operations.tasks:TASKS",),
    figures=("erp_service.operations.standbys:FIGURES", "erp_service.operations.state.figures:FIGURES"),
    housekeeping=("erp_service.operations.seal_head:HOUSEKEEPING",),
    enums=("erp_service.operations.jobs.schemas:Makes", "erp_service.operations.jobs.schemas:OpenStatus"),
    queues=("erp_service.operations.tasks:QUEUES",),
)
