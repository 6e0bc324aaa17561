"""What audit gives to the service."""

from erp_service.registry.feature import Feature

FEATURE = Feature(
    name="audit",
    models=("erp_service.audit.models", "erp_service.audit.trail_models"),
    tags=(("audit", "Who did what, when, from where"),),
    routes=("erp_service.audit.routes:ROUTES", "erp_service.audit.seal_routes:ROUTES"),
    loops=("erp_service.audit.sealing.background:LOOPS",),
    proofs=("erp_service.audit.sealing.proofs:PROOFS",),
    datasets=("erp_service.audit.datasets:DATASETS",),
)
