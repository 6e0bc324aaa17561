"""Prometheus metrics of imports: those that this worker ran, and those that wait anywhere."""

from prometheus_client import Counter, Histogram

from erp_service.db.sessions import Session
from erp_service.exports import admission
from erp_service.imports.jobs.kind import IMPORTS
from erp_service.imports.jobs.lifecycle import Claimed
from erp_service.imports.jobs.schemas import Imported
from erp_service.observability.telemetry import REGISTRY
from erp_service.registry.figures import FigureReader

_ended = Counter(
    "erp_imports_ended",
    "Imports that ended in this worker: succeeded, refused because of what is in the file, or failed",
    ["dataset", "status"],
    registry=REGISTRY,
)
_rows = Counter("erp_imported_rows", "Rows of imports that succeeded, without dry runs", ["dataset"], registry=REGISTRY)
_seconds = Histogram(
    "erp_import_seconds",
    "Seconds from the claim to the commit",
    ["dataset"],
    buckets=(0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600),
    registry=REGISTRY,
)


def count_success(claimed: Claimed, result: Imported, *, seconds: float) -> None:
    _ended.labels(claimed.dataset, "succeeded").inc()
    _seconds.labels(claimed.dataset).observe(seconds)
    if not claimed.spec.dry_run:
        _rows.labels(claimed.dataset).inc(result.rows)


def count_failure(claimed: Claimed, *, refused: bool) -> None:
    _ended.labels(claimed.dataset, "refused" if refused else "failed").inc()


_GAUGES = {
    "erp_imports_running": "Imports in hand",
    "erp_imports_waiting": "Imports that wait for admission: their owners have their share",
    "erp_imports_oldest_waiting_seconds": "For how long the first import has not begun",
}


async def _figures(db: Session) -> dict[str, float]:
    now = await admission.counts(db, IMPORTS)
    return {
        "erp_imports_running": now.running,
        "erp_imports_waiting": now.waiting,
        "erp_imports_oldest_waiting_seconds": max(now.oldest or 0.0, 0.0),
    }


FIGURES = (FigureReader(_GAUGES, _figures),)
