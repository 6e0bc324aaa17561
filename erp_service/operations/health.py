"""Health routes, for probes, load balancers and operators."""

from typing import Annotated, Any, Literal

import msgspec
from litestar import Request
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.response import Response
from msgspec import Meta
from sqlalchemy import text

from erp_service.access.roles import Role
from erp_service.db.engine import Database
from erp_service.db.notifications import APPLICATION, NotificationListener
from erp_service.db.replica import ReplicaNow
from erp_service.db.sessions import ReadSession
from erp_service.exports import admission
from erp_service.operations.readiness import NotReady, Readiness
from erp_service.problems import MEDIA_TYPE
from erp_service.queue import inspection as queue
from erp_service.queue.inspection import WorkerNow
from erp_service.web.exception_handlers import answer
from erp_service.web.responses import ApiResponse
from erp_service.web.routing import PUBLIC, get


class Alive(msgspec.Struct):
    status: Literal["ok"] = "ok"


_NOT_READY = {503: ResponseSpec(dict[str, Any], description="Not ready, and why", media_type=MEDIA_TYPE)}


@get("/health/live", role=PUBLIC, summary="The process lives", tags=["health"])
async def live() -> ApiResponse[Alive]:
    """The process answers. Never touches the database, whose absence no restart of this process would cure."""
    return ApiResponse(Alive())


async def _ready(request: Request[Any, Any, Any], readiness: Readiness) -> Response[Any]:
    if (fault := await readiness.fault()) is not None:
        return answer(request, NotReady(fault))
    return ApiResponse(Alive())


@get(["/health", "/health/ready"], role=PUBLIC, summary="Send requests here?", tags=["health"], responses=_NOT_READY)
async def ready(request: Request[Any, Any, Any], readiness: NamedDependency[Readiness]) -> Response[Alive]:
    """Send requests here, or do not: 503 while starting, draining, or without what the work needs."""
    return await _ready(request, readiness)


@get("/health/startup", role=PUBLIC, summary="Is the start over?", tags=["health"], responses=_NOT_READY)
async def startup(request: Request[Any, Any, Any], readiness: NamedDependency[Readiness]) -> Response[Alive]:
    """The start is over. The same as ready, for probes that ask until it first succeeds."""
    return await _ready(request, readiness)


class DatabaseHealth(msgspec.Struct):
    """`pool` is of the instance that answers."""

    server_version: str
    in_recovery: bool
    migration: str
    pool_size: int
    pool_in_use: int
    hears_notices: bool


@get("/health/database", role=Role.ADMIN, summary="The database as this instance sees it", tags=["health"])
async def database_health(
    read: NamedDependency[ReadSession],
    database: NamedDependency[Database],
    notifications: NamedDependency[NotificationListener],
) -> ApiResponse[DatabaseHealth]:
    """The database as the answering instance sees it."""
    version, recovering, migration = (
        await read.execute(
            text(
                "select current_setting('server_version'), pg_is_in_recovery(),"
                " (select version_num from alembic_version)"
            )
        )
    ).one()
    pool = database.pool()
    return ApiResponse(
        DatabaseHealth(
            version, recovering, migration, pool["size"], pool["in_use"], hears_notices=notifications.is_current
        )
    )


class Scaling(msgspec.Struct):
    """What says whether there are too few instances or workers, or too many. All times are in seconds."""

    instances: Annotated[int, Meta(description="instances of the API that are connected to the database")]
    workers: list[WorkerNow]
    queue_depth: Annotated[int, Meta(description="jobs that could begin if a worker had room")]
    oldest_waiting: Annotated[float | None, Meta(description="for how long the first of these waits")]
    running_exports: int
    waiting_exports: Annotated[int, Meta(description="not in the queue yet: their owners have as many as they may")]
    oldest_export: Annotated[float | None, Meta(description="for how long the first export waits, in the queue or not")]
    replica: Annotated[ReplicaNow | None, Meta(description="null if none is set")]


_INSTANCES = text(
    "select count(*) from pg_stat_activity where application_name = :name and datname = current_database()"
)


@get("/health/scaling", role=Role.ADMIN, summary="More instances or workers?", tags=["health"])
async def scaling_health(
    read: NamedDependency[ReadSession], database: NamedDependency[Database]
) -> ApiResponse[Scaling]:
    """Instances, workers with their heartbeats, and what waits for them, across the whole cluster.

    Jobs that wait while every worker has its hands full ask for more workers. Exports that wait for admission do not:
    their owners have their share. A worker that does not hold its lock is gone, and its jobs are being taken over."""
    exports = await admission.counts(read)
    waiting, oldest = await queue.waiting(read)
    return ApiResponse(
        Scaling(
            instances=await read.scalar(_INSTANCES, {"name": APPLICATION}) or 0,
            workers=await queue.workers(read),
            queue_depth=waiting,
            oldest_waiting=oldest,
            running_exports=exports.running,
            waiting_exports=exports.waiting,
            oldest_export=exports.oldest,
            replica=database.replica(),
        )
    )


ROUTES = [live, ready, startup, database_health, scaling_health]
