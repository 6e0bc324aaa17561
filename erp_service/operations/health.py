"""The health routes, for probes, load balancers and operators."""

from typing import Annotated, Any, Literal

import msgspec
from litestar import Request
from litestar.di import NamedDependency
from litestar.response import Response
from msgspec import Meta

from erp_service.access.roles import Role
from erp_service.access.scopes import Keys, Scope
from erp_service.db.engine import Database
from erp_service.db.notifications import NotificationListener
from erp_service.db.replicas.replica import ReplicaNow
from erp_service.db.sessions import ReadSession
from erp_service.exports import admission
from erp_service.operations import queries
from erp_service.operations.readiness import NotReady, Readiness
from erp_service.operations.standbys import Standby, cluster_now
from erp_service.queue import inspection as queue
from erp_service.queue.inspection import WorkerNow
from erp_service.web.exception_handlers import answer
from erp_service.web.responses import ApiResponse
from erp_service.web.routing import PUBLIC, get


class Alive(msgspec.Struct):
    status: Annotated[Literal["ok"], Meta(description="always `ok`")] = "ok"


@get(
    "/health/live",
    role=PUBLIC,
    scope=Keys.NONE,
    summary="Is the process alive?",
    tags=["health"],
    operation_id="get_liveness",
)
async def live() -> ApiResponse[Alive]:
    """The process answers. It does not ask the database: while that is unavailable, a restart of this process would not
    help."""
    return ApiResponse(Alive())


async def _readiness(request: Request[Any, Any, Any], readiness: Readiness) -> Response[Any]:
    if (fault := await readiness.fault()) is not None:
        return answer(request, NotReady(fault))
    return ApiResponse(Alive())


@get(
    ["/health", "/health/ready"],
    role=PUBLIC,
    scope=Keys.NONE,
    summary="Ready for requests?",
    tags=["health"],
    problems=(NotReady,),
    operation_id="get_health",
)
async def ready(request: Request[Any, Any, Any], readiness: NamedDependency[Readiness]) -> Response[Alive]:
    """For load balancers: 503 while this instance starts or drains, or lacks what it needs to answer requests."""
    return await _readiness(request, readiness)


class Reading(msgspec.Struct):
    status: Annotated[
        Literal["ok", "reading only"],
        Meta(description="`reading only`: no primary database can be reached, and only reports are answered"),
    ] = "ok"


@get(
    "/health/reading",
    role=PUBLIC,
    scope=Keys.NONE,
    summary="Ready for reports at least?",
    tags=["health"],
    problems=(NotReady,),
    operation_id="get_reading_health",
)
async def reading(request: Request[Any, Any, Any], readiness: NamedDependency[Readiness]) -> Response[Reading]:
    """As `/health/ready`, but 200 also while no primary database can be reached and reports are answered from a
    replica. For balancers that send requests to no instance at all if none is ready, such as a Service of
    Kubernetes."""
    if (fault := await readiness.fault()) is None:
        return ApiResponse(Reading())
    if readiness.may_read(fault):
        return ApiResponse(Reading("reading only"))
    return answer(request, NotReady(fault))


@get(
    "/health/startup",
    role=PUBLIC,
    scope=Keys.NONE,
    summary="Has the instance started?",
    tags=["health"],
    problems=(NotReady,),
    operation_id="get_startup",
)
async def startup(request: Request[Any, Any, Any], readiness: NamedDependency[Readiness]) -> Response[Alive]:
    """The same as `/health/ready`, for startup probes, which ask until it succeeds for the first time."""
    return await _readiness(request, readiness)


class DatabaseHealth(msgspec.Struct):
    """The pool and the notifications are those of the instance that answers."""

    server_version: Annotated[str, Meta(description="of Postgres")]
    in_recovery: Annotated[bool, Meta(description="true: the database is a replica, so nothing can be written")]
    migration: Annotated[str, Meta(description="the revision of the schema")]
    pool_size: Annotated[int, Meta(description="the connections that the instance may have")]
    pool_in_use: Annotated[int, Meta(description="those that requests have now")]
    hears_notices: Annotated[bool, Meta(description="whether the instance hears of changed roles at once")]


@get(
    "/health/database",
    role=Role.ADMIN,
    scope=Scope.OPERATIONS_READ,
    summary="The database as this instance sees it",
    tags=["health"],
    operation_id="get_database_health",
)
async def database_health(
    read: NamedDependency[ReadSession],
    database: NamedDependency[Database],
    notifications: NamedDependency[NotificationListener],
) -> ApiResponse[DatabaseHealth]:
    """Version, role and migration of the database, and how this instance is connected to it."""
    state, pool = await queries.database_state(read), database.pool()
    return ApiResponse(
        DatabaseHealth(
            server_version=state.server_version,
            in_recovery=state.in_recovery,
            migration=state.migration,
            pool_size=pool["size"],
            pool_in_use=pool["in_use"],
            hears_notices=notifications.is_current,
        )
    )


class DatabaseServers(msgspec.Struct):
    """Without standbys there is one server, which leads."""

    leader: Annotated[
        str | None, Meta(description="the host that leads, as the answering instance found it; null before the first")
    ]
    timeline: Annotated[int | None, Meta(description="the leader's: a greater one after each failover")]
    standbys: Annotated[list[Standby], Meta(description="those that are connected to the leader")]


class Scaling(msgspec.Struct):
    """What shows whether there are too few or too many instances or workers. All times are in seconds."""

    instances: Annotated[int, Meta(description="instances of the API that are connected to the database")]
    workers: Annotated[list[WorkerNow], Meta(description="the registered workers")]
    queue_depth: Annotated[int, Meta(description="jobs that could start if a worker had a free slot")]
    oldest_waiting: Annotated[float | None, Meta(description="how long the first of these has waited")]
    running_exports: Annotated[int, Meta(description="exports that run now")]
    waiting_exports: Annotated[
        int, Meta(description="not in the queue yet: their owners have as many running as they may")
    ]
    oldest_export: Annotated[
        float | None, Meta(description="how long the first export has waited, in the queue or not")
    ]
    replica: Annotated[ReplicaNow | None, Meta(description="null if none is configured")]
    database: Annotated[DatabaseServers, Meta(description="which server leads, and which would take over")]


@get(
    "/health/scaling",
    role=Role.ADMIN,
    scope=Scope.OPERATIONS_READ,
    summary="Are there enough instances and workers?",
    tags=["health"],
    operation_id="get_scaling_health",
)
async def scaling_health(
    read: NamedDependency[ReadSession], database: NamedDependency[Database]
) -> ApiResponse[Scaling]:
    """Instances, workers with their heartbeats, and what waits for them, in the whole cluster.

    If jobs wait while every worker is busy, more workers help. Exports that wait for admission need none: their owners
    have as many running as they may. A worker that does not hold its lock is gone, and its jobs are being rescued."""
    exports, cluster = await admission.counts(read), await cluster_now(read)
    waiting, oldest = await queue.waiting(read)
    return ApiResponse(
        Scaling(
            instances=cluster.instances,
            workers=await queue.workers(read),
            queue_depth=waiting,
            oldest_waiting=oldest,
            running_exports=exports.running,
            waiting_exports=exports.waiting,
            oldest_export=exports.oldest,
            replica=database.replica(),
            database=DatabaseServers(database.leader(), cluster.timeline, cluster.standbys),
        )
    )


ROUTES = [live, ready, reading, startup, database_health, scaling_health]
