"""For probes and load balancers, and for the operator who asks how it goes."""

import asyncio
from typing import Annotated, Any, Literal, Protocol

import asyncpg
import msgspec
from litestar import Request
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.response import Response
from msgspec import Meta
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from erp_service import errors, revisions
from erp_service.db import Database, ReadSession
from erp_service.exports import overview
from erp_service.notices import APPLICATION, Notices
from erp_service.problem_answers import answer
from erp_service.problems import MEDIA_TYPE
from erp_service.queue import overview as queue
from erp_service.queue.overview import WorkerNow
from erp_service.replica import ReplicaNow
from erp_service.roles import Role
from erp_service.routing import PUBLIC, Answer, get


class Check(Protocol):
    """One more thing an instance needs before it may be asked: why it is not ready, or None."""

    async def __call__(self, db: ReadSession) -> str | None: ...


class Readiness:
    """What the load balancer is told, and what ends open streams when the instance stops."""

    def __init__(self, database: Database, checks: list[Check]) -> None:
        """`database` is not that of requests: an instance that has all its connections in use is busy, and a balancer
        that took it out would have the others as busy next."""
        self._database = database
        self.checks = [revisions.behind, *checks]
        self.draining = False
        self.stopping = asyncio.Event()
        self._looking: asyncio.Task[str | None] | None = None

    async def fault(self) -> str | None:
        """Why not, or None. However many ask at once, one looks."""
        if self.draining:
            return "This instance is stopping."
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(), name="readiness")
        # who asked first may go, and the others have their answer
        return await asyncio.shield(self._looking)

    async def _look(self) -> str | None:
        try:
            async with asyncio.timeout(3), self._database.read() as db:
                for check in self.checks:
                    if (fault := await check(db)) is not None:
                        return fault
        except (SQLAlchemyError, OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return "The database does not answer."
        return None


class NotReady(errors.Refused):
    """This instance must not be sent requests now; others may answer. `detail` says why.

    It is starting, draining, without a database, has a database behind its migrations, or an export store that is
    not the one the database knows."""

    status, slug, title = 503, "not-ready", "This instance is not ready"


class Alive(msgspec.Struct):
    status: Literal["ok"] = "ok"


_NOT_READY = {503: ResponseSpec(dict[str, Any], description="Not ready, and why", media_type=MEDIA_TYPE)}


@get("/health/live", role=PUBLIC, summary="The process lives", tags=["health"])
async def live() -> Answer[Alive]:
    """The process answers. Never touches the database, whose absence no restart of this process would cure."""
    return Answer(Alive())


async def _ready(request: Request[Any, Any, Any], state: State) -> Response[Any]:
    if (fault := await state.readiness.fault()) is not None:
        return answer(request, NotReady(fault))
    return Answer(Alive())


@get(["/health", "/health/ready"], role=PUBLIC, summary="Send requests here?", tags=["health"], responses=_NOT_READY)
async def ready(request: Request[Any, Any, Any], state: State) -> Response[Alive]:
    """Send requests here, or do not: 503 while starting, draining, or without what the work needs."""
    return await _ready(request, state)


@get("/health/startup", role=PUBLIC, summary="Is the start over?", tags=["health"], responses=_NOT_READY)
async def startup(request: Request[Any, Any, Any], state: State) -> Response[Alive]:
    """The start is over. The same as ready, for probes that ask until it first succeeds."""
    return await _ready(request, state)


class DatabaseHealth(msgspec.Struct):
    """`pool` is of the instance that answers."""

    server_version: str
    in_recovery: bool
    migration: str
    pool_size: int
    pool_in_use: int
    hears_notices: bool


@get("/health/database", role=Role.ADMIN, summary="The database as this instance sees it", tags=["health"])
async def database_health(read: NamedDependency[ReadSession], state: State) -> Answer[DatabaseHealth]:
    """The database as the answering instance sees it."""
    version, recovering, migration = (
        await read.execute(
            text(
                "select current_setting('server_version'), pg_is_in_recovery(),"
                " (select version_num from alembic_version)"
            )
        )
    ).one()
    notices: Notices = state.notices
    pool = state.database.pool()
    return Answer(
        DatabaseHealth(version, recovering, migration, pool["size"], pool["in_use"], hears_notices=notices.certain)
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
async def scaling_health(read: NamedDependency[ReadSession], state: State) -> Answer[Scaling]:
    """Instances, workers with their heartbeats, and what waits for them, across the whole cluster.

    Jobs that wait while every worker has its hands full ask for more workers. Exports that wait for admission do not:
    their owners have their share. A worker that does not hold its lock is gone, and its jobs are being taken over."""
    exports = await overview.counts(read)
    waiting, oldest = await queue.waiting(read)
    return Answer(
        Scaling(
            instances=await read.scalar(_INSTANCES, {"name": APPLICATION}) or 0,
            workers=await queue.workers(read),
            queue_depth=waiting,
            oldest_waiting=oldest,
            running_exports=exports.running,
            waiting_exports=exports.waiting,
            oldest_export=exports.oldest,
            replica=state.database.replica(),
        )
    )


ROUTES = [live, ready, startup, database_health, scaling_health]
