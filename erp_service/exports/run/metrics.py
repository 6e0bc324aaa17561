"""Prometheus metrics of the exports that this worker made."""

from prometheus_client import Counter, Histogram

from erp_service.exports.lifecycle import Claimed, Published
from erp_service.observability.telemetry import REGISTRY

_ended = Counter(
    "erp_exports_ended",
    "Exports that succeeded or failed in this worker",
    ["dataset", "format", "status"],
    registry=REGISTRY,
)
_rows = Counter("erp_exported_rows", "Rows of exports that succeeded", ["dataset", "format"], registry=REGISTRY)
_bytes = Counter("erp_exported_bytes", "Bytes of their files", ["dataset", "format"], registry=REGISTRY)
_seconds = Histogram(
    "erp_export_seconds",
    "Seconds from the claim to the published file",
    ["dataset", "format"],
    buckets=(0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600),
    registry=REGISTRY,
)


def count_success(claimed: Claimed, file: Published, *, seconds: float) -> None:
    labels = (claimed.dataset, claimed.format)
    _ended.labels(*labels, "succeeded").inc()
    _rows.labels(*labels).inc(file.rows)
    _bytes.labels(*labels).inc(file.bytes)
    _seconds.labels(*labels).observe(seconds)


def count_failure(claimed: Claimed) -> None:
    _ended.labels(claimed.dataset, claimed.format, "failed").inc()
