"""What happened, for machines: the feed, which they read, and webhooks, by which they are told."""

from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.registry.feature import EventTypes, Feature

FEATURE = Feature(
    name="events",
    models=("erp_service.events.webhooks.models",),
    tags=(
        ("events", "What happened, in one order that misses nothing and never changes"),
        ("webhooks", "Endpoints that are told of events"),
    ),
    routes=(
        "erp_service.events.routes:ROUTES",
        "erp_service.events.type_routes:ROUTES",
        "erp_service.events.webhooks.routes:ROUTES",
    ),
    tasks=("erp_service.events.webhooks.tasks:TASKS",),
    queues=("erp_service.events.webhooks.tasks:QUEUES",),
    background=("erp_service.events.webhooks.delivery:BACKGROUND",),
    housekeeping=("erp_service.events.webhooks.upkeep:HOUSEKEEPING",),
    proofs=("erp_service.events.webhooks.proofs:PROOFS",),
    figures=("erp_service.events.webhooks.upkeep:FIGURES",),
    event_types=(
        EventTypes(
            Role.ADMIN,
            Scope.WEBHOOKS_READ,
            (
                "webhook.created",
                "webhook.deleted",
                "webhook.disabled",
                "webhook.replayed",
                "webhook.secret_rotated",
                "webhook.updated",
            ),
        ),
    ),
    enums=("erp_service.events.webhooks.schemas:DisabledBecause",),
)
