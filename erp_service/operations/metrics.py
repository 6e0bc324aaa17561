"""/metrics: what Prometheus reads."""

from litestar.di import NamedDependency
from prometheus_client import CollectorRegistry, generate_latest

from erp_service.db.engine import Database
from erp_service.observability import telemetry
from erp_service.operations.cluster_metrics import ClusterMetrics
from erp_service.web.responses import ApiResponse
from erp_service.web.routing import PUBLIC, get

MEDIA_TYPE = "text/plain; version=0.0.4"  # the framework adds the charset


@get("/metrics", role=PUBLIC, include_in_schema=False)
async def metrics(
    database: NamedDependency[Database], cluster_metrics: NamedDependency[ClusterMetrics]
) -> ApiResponse[bytes]:
    """Of this instance, then of the cluster. Meant for the network that Prometheus is in: balancers keep it to that."""
    pool = database.pool()
    telemetry.pool_in_use.set(pool["in_use"])
    telemetry.pool_size.set(pool["size"])
    # whoever asks for it first begins to look at the replica, whose gauges are then kept
    database.replica()
    await cluster_metrics.refresh()
    of_cluster = CollectorRegistry()
    of_cluster.register(cluster_metrics)
    return ApiResponse(generate_latest(telemetry.REGISTRY) + generate_latest(of_cluster), media_type=MEDIA_TYPE)


ROUTES = [metrics]
