"""The route `/metrics`, which Prometheus scrapes."""

from litestar.di import NamedDependency
from prometheus_client import CollectorRegistry, generate_latest

from erp_service.access.scopes import Keys
from erp_service.db.engine import Database
from erp_service.observability import telemetry
from erp_service.operations.cluster_metrics import ClusterMetrics
from erp_service.web.responses import ApiResponse
from erp_service.web.routing import PUBLIC, get

MEDIA_TYPE = "text/plain; version=0.0.4"  # of Prometheus' text format; the framework adds the charset


@get("/metrics", role=PUBLIC, scope=Keys.NONE, include_in_schema=False)
async def metrics(
    database: NamedDependency[Database], cluster_metrics: NamedDependency[ClusterMetrics]
) -> ApiResponse[bytes]:
    """The metrics of this instance, then those of the cluster. Meant for Prometheus' network alone: the load balancer
    refuses it to others."""
    pool = database.pool()
    telemetry.pool_in_use.set(pool["in_use"])
    telemetry.pool_size.set(pool["size"])
    # the first call starts to watch the replica, and its gauges are kept up to date from then on
    database.replica()
    await cluster_metrics.refresh()
    cluster = CollectorRegistry()
    cluster.register(cluster_metrics)
    return ApiResponse(generate_latest(telemetry.REGISTRY) + generate_latest(cluster), media_type=MEDIA_TYPE)


ROUTES = [metrics]
