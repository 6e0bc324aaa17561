"""/api/v1/exports/schedules"""

from typing import Annotated
from uuid import UUID

from litestar.di import NamedDependency
from litestar.params import JSONBody, PathParameter, QueryParameter

from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.company.current import CurrentSettings
from erp_service.company.settings import CompanySettings
from erp_service.db.sessions import ReadSession, WriteSession
from erp_service.errors import Forbidden, TooMany
from erp_service.exports.problems import ExportForbidden, ExportQuota, TooManyExports
from erp_service.exports.routes import SUBMISSIONS, accepted_response
from erp_service.exports.schedules import service
from erp_service.exports.schedules.models import TooManySchedules
from erp_service.exports.schedules.schemas import ScheduleBody, ScheduleOut, SchedulePage
from erp_service.exports.schedules.service import PATH
from erp_service.exports.schemas import ExportJobOut
from erp_service.web.merge_patch import Edit, MergePatch, Replacement
from erp_service.web.query_params import DEFAULT_LIMIT, Cursor, Limit
from erp_service.web.responses import ApiResponse, created, require_match, tagged
from erp_service.web.routing import IfMatch, delete, get, patch, post, put


class ScheduleReplacement(Replacement[ScheduleBody, ScheduleOut]):
    pass


class SchedulePatch(MergePatch[ScheduleBody, ScheduleOut]):
    pass


_ONE = f"{PATH}/{{schedule_id:uuid}}"
_TAGS = ["exports"]

ScheduleId = Annotated[UUID, PathParameter(description="the schedule's id")]


@get(PATH, role=Role.VIEWER, scope=Scope.EXPORTS_READ, summary="List schedules", tags=_TAGS, problems=(Forbidden,))
async def list_schedules(
    read: NamedDependency[ReadSession],
    who: NamedDependency[Principal],
    mine: Annotated[bool, QueryParameter(description="false: those of everybody, for the role ADMIN")] = True,
    is_active: Annotated[bool | None, QueryParameter(description="only active ones, or only inactive ones")] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> ApiResponse[SchedulePage]:
    """Newest first."""
    return ApiResponse(await service.schedules(read, who, mine=mine, is_active=is_active, limit=limit, cursor=cursor))


@post(
    PATH,
    role=Role.VIEWER,
    scope=Scope.EXPORTS_WRITE,
    summary="Schedule an export",
    tags=_TAGS,
    status_code=201,
    problems=(Forbidden, TooManySchedules, TooMany),
    guards=[SUBMISSIONS],
    example={"cron": "0 6 * * mon-fri", "timezone": "Europe/Berlin", "spec": {"dataset": "stock_levels"}},
)
async def create_schedule(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    company_settings: NamedDependency[CurrentSettings],
    data: JSONBody[ScheduleBody],
) -> ApiResponse[ScheduleOut]:
    """Each run is an export job like any other. It is submitted as the schedule's owner, whose role for the dataset is
    checked again each time. If a run is refused, `last_error` says why, and the schedule stays.

    A run is submitted once, also with several workers, and within seconds of its time. If no worker was running, it is
    submitted late, once. While the same request still waits or runs, a run joins that job, unless the spec has
    `force_new`."""
    versioned = await service.create(write, who, company_settings.latest, data)
    return created(versioned.schedule, f"{PATH}/{versioned.schedule.id}", versioned.version)


@get(_ONE, role=Role.VIEWER, scope=Scope.EXPORTS_READ, summary="A schedule", tags=_TAGS)
async def get_schedule(
    read: NamedDependency[ReadSession], who: NamedDependency[Principal], schedule_id: ScheduleId
) -> ApiResponse[ScheduleOut]:
    """The `ETag` changes with each run, and with the status of `last_job`. An ADMIN sees anybody's schedule."""
    versioned = await service.schedule(read, who, schedule_id)
    return tagged(versioned.schedule, versioned.version)


@put(
    _ONE,
    role=Role.VIEWER,
    scope=Scope.EXPORTS_WRITE,
    summary="Replace a schedule",
    tags=_TAGS,
    problems=(Forbidden, ExportForbidden, TooMany),
    guards=[SUBMISSIONS],
    example={"cron": "0 7 * * mon", "timezone": "Europe/Berlin", "spec": {"dataset": "stock_levels", "format": "xlsx"}},
)
async def replace_schedule(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    company_settings: NamedDependency[CurrentSettings],
    schedule_id: ScheduleId,
    data: JSONBody[ScheduleReplacement],
    if_match: IfMatch = None,
) -> ApiResponse[ScheduleOut]:
    """Replaces all fields: a missing one gets its default. The owner stays, and needs the role for the dataset.

    A body as GET shows it is taken: what a client cannot write is ignored if it is unchanged, and refused if it is not.
    A request that changes nothing keeps the `ETag`; every change removes `last_error`."""
    return await _change(write, who, company_settings.latest, schedule_id, data, if_match)


@patch(
    _ONE,
    role=Role.VIEWER,
    scope=Scope.EXPORTS_WRITE,
    summary="Change a schedule",
    tags=_TAGS,
    problems=(Forbidden, ExportForbidden, TooMany),
    guards=[SUBMISSIONS],
    example={"cron": "0 8 * * mon", "spec": {"format": "xlsx"}},
)
async def patch_schedule(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    company_settings: NamedDependency[CurrentSettings],
    schedule_id: ScheduleId,
    data: JSONBody[SchedulePatch],
    if_match: IfMatch = None,
) -> ApiResponse[ScheduleOut]:
    """A merge patch (RFC 7396): a field that is left out stays as it is, null gives it its default, `spec` is merged by
    key. The rules are those of PUT."""
    return await _change(write, who, company_settings.latest, schedule_id, data, if_match)


async def _change(
    db: WriteSession,
    who: Principal,
    settings: CompanySettings,
    schedule_id: UUID,
    data: Edit[ScheduleBody, ScheduleOut],
    if_match: str | None,
) -> ApiResponse[ScheduleOut]:
    before = await service.lock_for_update(db, who, schedule_id)
    require_match(if_match, before.version)
    versioned = await service.replace(db, who, settings, before, data.over(before.schedule))
    return tagged(versioned.schedule, versioned.version)


@delete(_ONE, role=Role.VIEWER, scope=Scope.EXPORTS_WRITE, summary="Delete a schedule", tags=_TAGS)
async def delete_schedule(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    schedule_id: ScheduleId,
    if_match: IfMatch = None,
) -> None:
    """The exports that it has submitted stay."""
    schedule = await service.lock_for_update(write, who, schedule_id)
    require_match(if_match, schedule.version)
    await service.remove(write, who, schedule)


@post(
    f"{_ONE}/run",
    role=Role.VIEWER,
    scope=Scope.EXPORTS_WRITE,
    summary="Run a schedule now",
    tags=_TAGS,
    status_code=202,
    problems=(Forbidden, ExportForbidden, TooManyExports, ExportQuota, TooMany),
    guards=[SUBMISSIONS],
    headers={202: ("Location", "Retry-After")},
)
async def run_schedule(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    company_settings: NamedDependency[CurrentSettings],
    schedule_id: ScheduleId,
) -> ApiResponse[ExportJobOut]:
    """Submits the export as the schedule's owner, and answers with that job; also while the schedule is not active.

    The times of its other runs do not change."""
    schedule = await service.lock_for_update(write, who, schedule_id)
    return accepted_response(await service.run(write, who, company_settings.latest, schedule))


ROUTES = [
    list_schedules,
    create_schedule,
    get_schedule,
    replace_schedule,
    patch_schedule,
    delete_schedule,
    run_schedule,
]
