"""/api/v1/exports: the catalogue, submission, lists, cancel, retry, delete."""

from typing import Annotated
from uuid import UUID

from litestar.background_tasks import BackgroundTask
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import JSONBody, PathParameter, QueryParameter

from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.company.current import CurrentSettings, setting
from erp_service.db.sessions import ReadSession, WriteSession
from erp_service.errors import Fault, Forbidden, Invalid, TooMany
from erp_service.exports import maintenance, queries, service
from erp_service.exports.context import ExportContext
from erp_service.exports.models import Status
from erp_service.exports.problems import (
    ExportFinal,
    ExportQuota,
    ExportSucceeded,
    ExportUnfinished,
    FormatUnavailable,
    TooManyExports,
    TooManyRows,
)
from erp_service.exports.queries import PATH, VersionedExport
from erp_service.exports.schemas import DatasetName, Datasets, Estimate, ExportJobOut, ExportJobPage, ExportRequest
from erp_service.web.query_params import DEFAULT_LIMIT, Cursor, Limit
from erp_service.web.quotas import HOUR, MINUTE, at_most
from erp_service.web.responses import ApiResponse, etag, require_match, tagged
from erp_service.web.routing import IfMatch, delete, get, post

ONE = f"{PATH}/{{export_id:uuid}}"
ESTIMATES = "/api/v1/exports/estimates"
TAGS = ["exports"]
_POLL_SECONDS = "1"

SUBMISSIONS = at_most(
    "exports",
    setting(lambda settings: settings.export_submissions_per_hour),
    seconds=HOUR,
    what="submissions of exports, and changes of schedules,",
    instead="A schedule submits by itself, and is not counted.",
)
SIGNED_ADDRESSES = at_most(
    "signed addresses",
    setting(lambda settings: settings.signed_addresses_per_minute),
    seconds=MINUTE,
    what="addresses without a token",
    instead="One is valid for five minutes, for the file and the events.",
)
_CANCELS = at_most(
    "cancels",
    setting(lambda settings: settings.export_submissions_per_hour),
    seconds=HOUR,
    what="requests to cancel exports",
    instead="An export that was canceled stays so.",
)
_ESTIMATES = at_most(
    "estimates",
    setting(lambda settings: settings.export_estimates_per_minute),
    seconds=MINUTE,
    what="estimates",
    instead="Or submit the export: it shows its own progress.",
)

ExportId = Annotated[UUID, PathParameter(description="the export's id")]
IncludeDeleted = Annotated[bool, QueryParameter(description="also deleted ones")]
_SUBMITTED = ResponseSpec(ExportJobOut, description="The new job, or the one that waits or runs already")
_DELETED = ResponseSpec(None, description="Deleted", generate_examples=False)


@get("/api/v1/exports/datasets", role=Role.VIEWER, scope=Scope.EXPORTS_READ, summary="What can be exported", tags=TAGS)
async def list_datasets(who: NamedDependency[Principal]) -> ApiResponse[Datasets]:
    """Every dataset with its columns, filters, sorts, formats, and the least role for it."""
    return ApiResponse(Datasets(service.catalogue(who)))


@post(
    PATH,
    role=Role.VIEWER,
    scope=Scope.EXPORTS_WRITE,
    summary="Submit an export",
    tags=TAGS,
    status_code=202,
    problems=(Forbidden, TooManyExports, ExportQuota, TooMany, TooManyRows),
    guards=[SUBMISSIONS],
    responses={202: _SUBMITTED},
    operation_id="submit_export",
    headers={202: ("Location", "Retry-After")},
    example={"dataset": "stock_movements", "format": "csv", "filter": {"sku": "BEAN-ESP-1K"}},
)
async def submit(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    company_settings: NamedDependency[CurrentSettings],
    data: JSONBody[ExportRequest],
    validate_only: Annotated[str | None, QueryParameter(include_in_schema=False)] = None,
) -> ApiResponse[ExportJobOut]:
    """A worker makes the file; follow the job at `Location` until it has `succeeded`, then download it.

    A few exports of each user run at once, the others wait for their turn. The file holds everything that was
    committed before its `snapshot_at`, and nothing that was committed later. The least role depends on the dataset.

    CSV is for machines: UTF-8, LF, a header, empty for null and `""` for an empty text. Cells that a spreadsheet would
    take for formulas are not changed. The options in `csv` change each of these."""
    if validate_only is not None:
        # a caller of the earlier form must not get an export instead of an estimate
        raise Invalid(None, Fault(f"is gone: POST the same body to {ESTIMATES}", parameter="validate_only"))
    return accepted_response(await service.submit(write, who, company_settings.latest, data))


@post(
    ESTIMATES,
    role=Role.VIEWER,
    scope=Scope.EXPORTS_READ,
    summary="Estimate an export",
    tags=TAGS,
    status_code=200,
    problems=(Forbidden, TooMany, TooManyRows),
    idempotent=False,
    guards=[_ESTIMATES],
    operation_id="estimate_export",
    example={"dataset": "stock_movements", "format": "csv", "filter": {"sku": "BEAN-ESP-1K"}},
)
async def estimate(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    company_settings: NamedDependency[CurrentSettings],
    data: JSONBody[ExportRequest],
) -> ApiResponse[Estimate]:
    """What an export would be if it were submitted and run now: its rows, bytes and seconds. Takes the body of
    `POST /api/v1/exports/jobs`, refuses what that refuses, and submits nothing."""
    return ApiResponse(await service.estimate(write, who, company_settings.latest, data), status_code=200)


@get(PATH, role=Role.VIEWER, scope=Scope.EXPORTS_READ, summary="List exports", tags=TAGS, problems=(Forbidden,))
async def list_exports(
    read: NamedDependency[ReadSession],
    who: NamedDependency[Principal],
    mine: Annotated[bool, QueryParameter(description="false: those of everybody, for the role ADMIN")] = True,
    status: Annotated[Status | None, QueryParameter(description="only with this status")] = None,
    dataset: Annotated[DatasetName | None, QueryParameter(description="only of this dataset")] = None,
    include_deleted: IncludeDeleted = False,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> ApiResponse[ExportJobPage]:
    """Newest first."""
    return ApiResponse(
        await queries.jobs(
            read,
            who,
            mine=mine,
            status=status,
            dataset=dataset,
            include_deleted=include_deleted,
            limit=limit,
            cursor=cursor,
        )
    )


@post(
    f"{ONE}/cancel",
    role=Role.VIEWER,
    scope=Scope.EXPORTS_WRITE,
    summary="Cancel an export",
    tags=TAGS,
    status_code=200,
    problems=(ExportFinal, TooMany),
    guards=[_CANCELS],
    operation_id="cancel_export",
    headers={200: ("Retry-After",)},
)
async def cancel(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    export_id: ExportId,
) -> ApiResponse[ExportJobOut]:
    """One that waits is `canceled` at once; one that runs is `canceling` and stops within a second."""
    return export_response(await service.cancel(write, who, export_id))


@post(
    f"{ONE}/retry",
    role=Role.VIEWER,
    scope=Scope.EXPORTS_WRITE,
    summary="Try an export again",
    tags=TAGS,
    status_code=202,
    problems=(
        Forbidden,
        ExportUnfinished,
        ExportSucceeded,
        TooManyExports,
        ExportQuota,
        TooMany,
        TooManyRows,
        FormatUnavailable,
    ),
    guards=[SUBMISSIONS],
    operation_id="retry_export",
    headers={202: ("Location", "Retry-After")},
)
async def retry(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    company_settings: NamedDependency[CurrentSettings],
    export_id: ExportId,
) -> ApiResponse[ExportJobOut]:
    """Submits a failed, canceled or expired export again, as a new job with a new snapshot."""
    return accepted_response(await service.retry(write, who, company_settings.latest, export_id))


@delete(
    ONE,
    role=Role.VIEWER,
    scope=Scope.EXPORTS_WRITE,
    summary="Delete an export",
    tags=TAGS,
    problems=(ExportUnfinished,),
    responses={204: _DELETED},
)
async def delete_export(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    exports: NamedDependency[ExportContext],
    export_id: ExportId,
    if_match: IfMatch = None,
) -> ApiResponse[None]:
    """Removes the file now. The record stays, and `include_deleted=true` shows it. Cancel a running export first."""
    require_match(if_match, (await queries.job(write, who, export_id)).version)
    key = await service.delete(write, who, export_id)
    # after the commit: the file must not be removed while its row still says that it exists
    remove = None if key is None else BackgroundTask(maintenance.remove_deleted, exports.database, exports.store, key)
    return ApiResponse(None, status_code=204, background=remove)


def export_response(export: VersionedExport, **headers: str) -> ApiResponse[ExportJobOut]:
    return tagged(export.job, export.version, **({} if export.final else {"Retry-After": _POLL_SECONDS}), **headers)


def accepted_response(export: VersionedExport) -> ApiResponse[ExportJobOut]:
    """202 with the address of a job that was submitted."""
    headers = {"Location": export.job.links.self, "ETag": etag(export.version), "Retry-After": _POLL_SECONDS}
    return ApiResponse(export.job, status_code=202, headers=headers)


ROUTES = [
    list_datasets,
    submit,
    estimate,
    list_exports,
    cancel,
    retry,
    delete_export,
]
