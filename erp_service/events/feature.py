"""What happened, for machines: the feed."""

from erp_service.registry.feature import Feature

FEATURE = Feature(
    name="events",
    tags=(("events", "What happened, in one order that misses nothing and never changes"),),
    routes=("erp_service.events.routes:ROUTES",),
)
