"""What audit gives to the service."""

from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.registry.feature import EventTypes, Feature

FEATURE = Feature(
    name="audit",
    models=("erp_service.audit.models", "erp_service.audit.trail_models"),
    tags=(("audit", "Who did what, when, from where"),),
    routes=("erp_service.audit.routes:ROUTES", "erp_service.audit.seal_routes:ROUTES"),
    housekeeping=("erp_service.audit.retention:HOUSEKEEPING",),
    event_types=(EventTypes(Role.ADMIN, Scope.AUDIT_READ, ("audit.pruned",)),),
    loops=("erp_service.audit.sealing.background:LOOPS",),
    proofs=("erp_service.audit.sealing.proofs:PROOFS",),
    figures=("erp_service.audit.sealing.figures:FIGURES",),
    datasets=("erp_service.audit.datasets:DATASETS",),
)
