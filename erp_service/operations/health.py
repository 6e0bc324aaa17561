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
from erp_service.db.sessions import ReadSession
from erp_service.operations.readiness import NotReady, Readiness
from erp_service.operations.state import queries
from erp_service.operations.state.schemas import DatabaseHealth, Scaling
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
    return ApiResponse(await queries.database_health(read, database, notifications))


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
    return ApiResponse(await queries.scaling(read, database))


ROUTES = [live, ready, reading, startup, database_health, scaling_health]
