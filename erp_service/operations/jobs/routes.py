"""/api/v1/operations/jobs: the queue, and what operators do with many jobs at once."""

from typing import Annotated

from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter

from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.db.sessions import ReadSession, WriteSession
from erp_service.operations.jobs import queries, service
from erp_service.operations.jobs.schemas import FailedJobPage, ManyJobs, OpenJobPage, OpenStatus, Outcomes
from erp_service.settings import Settings
from erp_service.timestamps import parse_times, require_order
from erp_service.web.query_params import DEFAULT_LIMIT, Cursor, Limit
from erp_service.web.responses import ApiResponse
from erp_service.web.routing import get, post

PATH = "/api/v1/operations/jobs"
TAGS = ["operations"]

_Queue = Annotated[str | None, QueryParameter(max_length=200, description="only of this queue")]
_Task = Annotated[str | None, QueryParameter(max_length=200, description="only of this task")]


@get(PATH, role=Role.ADMIN, scope=Scope.OPERATIONS_READ, summary="Jobs that run or wait", tags=TAGS)
async def list_jobs(
    read: NamedDependency[ReadSession],
    settings: NamedDependency[Settings],
    status: Annotated[OpenStatus | None, QueryParameter(description="only these")] = None,
    queue: _Queue = None,
    task: _Task = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> ApiResponse[OpenJobPage]:
    """With the export or the import that each makes, and whose it is; the first to be put into the queue first.

    Exports and imports that wait for admission are not in the queue yet: their owners have as many running as they
    may."""
    return ApiResponse(
        await queries.open_jobs(
            read,
            status=status,
            queue=queue,
            task=task,
            stalled=settings.stalled_seconds,
            limit=limit,
            cursor=cursor,
        )
    )


@get(f"{PATH}/failed", role=Role.ADMIN, scope=Scope.OPERATIONS_READ, summary="Jobs that failed", tags=TAGS)
async def list_failed_jobs(
    read: NamedDependency[ReadSession],
    queue: _Queue = None,
    task: _Task = None,
    q: Annotated[
        str | None,
        QueryParameter(max_length=200, description="this text in its number, task, dataset, owner or problem"),
    ] = None,
    since: Annotated[
        str | None,
        QueryParameter(
            name="from",
            max_length=100,
            format="date-time",
            description="failed at this time or later (RFC 3339, with a time zone)",
        ),
    ] = None,
    until: Annotated[
        str | None,
        QueryParameter(name="to", max_length=100, format="date-time", description="failed before this time"),
    ] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> ApiResponse[FailedJobPage]:
    """Those of the last seven days, newest first: jobs of the queue that failed for good, and exports that failed. One
    that was tried again is no longer listed."""
    first, end = parse_times(("from", since), ("to", until))
    require_order(first, end)
    return ApiResponse(
        await queries.failed_jobs(
            read, queue=queue, task=task, words=q, since=first, until=end, limit=limit, cursor=cursor
        )
    )


@post(
    f"{PATH}/retry",
    role=Role.ADMIN,
    scope=Scope.OPERATIONS_WRITE,
    summary="Try failed jobs again",
    tags=TAGS,
    status_code=200,
    example={"jobs": ["1"]},
)
async def retry_jobs(
    write: NamedDependency[WriteSession], who: NamedDependency[Principal], data: JSONBody[ManyJobs]
) -> ApiResponse[Outcomes]:
    """Up to 500. An export becomes a new export of the same owner, with the role that they have now; another job waits
    again. The answer is 200 also if nothing was done: each job has an outcome of its own, and what is refused of one
    changes nothing of the others."""
    return ApiResponse(await service.each(write, who, data.jobs, service.retry_job))


@post(
    f"{PATH}/cancel",
    role=Role.ADMIN,
    scope=Scope.OPERATIONS_WRITE,
    summary="Cancel jobs",
    tags=TAGS,
    status_code=200,
    example={"jobs": ["1"]},
)
async def cancel_jobs(
    write: NamedDependency[WriteSession], who: NamedDependency[Principal], data: JSONBody[ManyJobs]
) -> ApiResponse[Outcomes]:
    """Up to 500: exports, imports and other jobs. One that waits is canceled at once; one that runs stops within a
    second. The outcomes are as those of `POST /api/v1/operations/jobs/retry`."""
    return ApiResponse(await service.each(write, who, data.jobs, service.cancel_job))


ROUTES = [list_jobs, list_failed_jobs, retry_jobs, cancel_jobs]
