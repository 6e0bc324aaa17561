"""/api/v1/exports/schedules"""

from typing import Annotated
from uuid import UUID

from litestar.di import NamedDependency
from litestar.params import JSONBody, PathParameter, QueryParameter

from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.db.sessions import ReadSession, WriteSession
from erp_service.errors import Forbidden
from erp_service.exports.problems import ExportForbidden, TooManyExports
from erp_service.exports.schedules import service
from erp_service.exports.schedules.models import TooManySchedules
from erp_service.exports.schedules.schemas import ScheduleBody, ScheduleOut, SchedulePage
from erp_service.exports.schedules.service import PATH
from erp_service.exports.schemas import ExportJobOut
from erp_service.settings import Settings
from erp_service.web.query_params import DEFAULT_LIMIT, Cursor, Limit
from erp_service.web.responses import ApiResponse, created, etag, require_match, tagged
from erp_service.web.routing import IfMatch, delete, get, post, put

_ONE = f"{PATH}/{{schedule_id:uuid}}"
_TAGS = ["exports"]
_POLL_SECONDS = "1"

ScheduleId = Annotated[UUID, PathParameter(description="the schedule's id")]


@get(PATH, role=Role.VIEWER, summary="List schedules", tags=_TAGS, problems=(Forbidden,))
async def list_schedules(
    read: NamedDependency[ReadSession],
    who: NamedDependency[Principal],
    mine: Annotated[bool, QueryParameter(description="false: of everybody, for the role ADMIN")] = True,
    is_active: Annotated[bool | None, QueryParameter(description="only those that run, or that do not")] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> ApiResponse[SchedulePage]:
    """Newest first."""
    return ApiResponse(await service.schedules(read, who, mine=mine, is_active=is_active, limit=limit, cursor=cursor))


@post(
    PATH,
    role=Role.VIEWER,
    summary="Schedule an export",
    tags=_TAGS,
    status_code=201,
    problems=(Forbidden, TooManySchedules),
)
async def create_schedule(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    settings: NamedDependency[Settings],
    data: JSONBody[ScheduleBody],
) -> ApiResponse[ScheduleOut]:
    """Each run is an export job like any other, submitted as the schedule's owner, whose role for the dataset is
    looked at again each time; a run that is refused is told in `last_error`, and the schedule stays.

    A run is submitted once, also with several workers, and within seconds of its time. If no worker was up, it runs
    late, once. While the same request still waits or runs, a run joins that job, unless the spec has `force_new`."""
    made = await service.create(write, who, settings, data)
    return created(made.schedule, f"{PATH}/{made.schedule.id}", made.version)


@get(_ONE, role=Role.VIEWER, summary="A schedule", tags=_TAGS)
async def get_schedule(
    read: NamedDependency[ReadSession], who: NamedDependency[Principal], schedule_id: ScheduleId
) -> ApiResponse[ScheduleOut]:
    """With its `ETag`, which changes with each run, and with the status of `last_job`. An ADMIN sees anybody's."""
    found = await service.schedule(read, who, schedule_id)
    return tagged(found.schedule, found.version)


@put(_ONE, role=Role.VIEWER, summary="Replace a schedule", tags=_TAGS, problems=(Forbidden, ExportForbidden))
async def replace_schedule(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    settings: NamedDependency[Settings],
    schedule_id: ScheduleId,
    data: JSONBody[ScheduleBody],
    if_match: IfMatch = None,
) -> ApiResponse[ScheduleOut]:
    """All of it: a field that is left out gets its default. The owner stays, and it is the owner's role that must do.

    What changes nothing keeps the `ETag`; any change takes `last_error` away."""
    held = await service.lock_for_update(write, who, schedule_id)
    require_match(if_match, held.version)
    found = await service.replace(write, who, settings, held, data)
    return tagged(found.schedule, found.version)


@delete(_ONE, role=Role.VIEWER, summary="Delete a schedule", tags=_TAGS)
async def delete_schedule(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    schedule_id: ScheduleId,
    if_match: IfMatch = None,
) -> None:
    """The exports that it submitted stay."""
    held = await service.lock_for_update(write, who, schedule_id)
    require_match(if_match, held.version)
    await service.remove(write, who, held)


@post(
    f"{_ONE}/run",
    role=Role.VIEWER,
    summary="Run a schedule now",
    tags=_TAGS,
    status_code=202,
    problems=(Forbidden, ExportForbidden, TooManyExports),
)
async def run_schedule(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    settings: NamedDependency[Settings],
    schedule_id: ScheduleId,
) -> ApiResponse[ExportJobOut]:
    """Submits its export as its owner, and answers with that job; also while the schedule is not active.

    When it runs by the clock stays as it was."""
    held = await service.lock_for_update(write, who, schedule_id)
    shown = await service.run(write, who, settings, held)
    headers = {"Location": shown.job.links.self, "ETag": etag(shown.version), "Retry-After": _POLL_SECONDS}
    return ApiResponse(shown.job, status_code=202, headers=headers)


ROUTES = [list_schedules, create_schedule, get_schedule, replace_schedule, delete_schedule, run_schedule]
