"""What queue gives to the service."""

from erp_service.registry.feature import Feature

FEATURE = Feature(
    name="queue",
    housekeeping=("erp_service.queue.inspection:HOUSEKEEPING",),
    figures=("erp_service.queue.inspection:FIGURES",),
    event_types=("job.canceled", "job.retried"),
)
