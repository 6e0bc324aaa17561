"""Prometheus metrics of what this process has sent to webhooks."""

from prometheus_client import Counter, Histogram

from erp_service.events.webhooks.sending.sender import Outcome
from erp_service.observability.telemetry import REGISTRY

_attempts = Counter(
    "erp_webhook_attempts", "Attempts of this worker to deliver an event to a webhook", ["result"], registry=REGISTRY
)
_seconds = Histogram(
    "erp_webhook_seconds",
    "Seconds until an endpoint had answered, or not",
    buckets=(0.05, 0.1, 0.5, 1, 5, 15),
    registry=REGISTRY,
)


def count(outcome: Outcome) -> None:
    result = "delivered" if outcome.is_delivered else "refused" if outcome.status is not None else "no answer"
    _attempts.labels(result).inc()
    _seconds.observe(outcome.milliseconds / 1000)
