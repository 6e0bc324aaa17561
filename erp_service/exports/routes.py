"""/api/v1/exports: the catalogue, submission, lists, cancel, retry, delete."""

from typing import Annotated, Any
from uuid import UUID

from litestar.background_tasks import BackgroundTask
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import JSONBody, PathParameter, QueryParameter

from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.db.sessions import ReadSession, WriteSession
from erp_service.errors import Forbidden
from erp_service.exports import maintenance, queries, service
from erp_service.exports.context import ExportContext
from erp_service.exports.models import Status
from erp_service.exports.problems import (
    ExportFinal,
    ExportSucceeded,
    ExportUnfinished,
    FormatUnavailable,
    TooManyExports,
    TooManyRows,
)
from erp_service.exports.queries import PATH, VersionedExport
from erp_service.exports.schemas import DatasetName, Datasets, Estimate, ExportJobOut, ExportJobPage, ExportRequest
from erp_service.web.query_params import DEFAULT_LIMIT, Cursor, Limit
from erp_service.web.responses import ApiResponse, etag, require_match, tagged
from erp_service.web.routing import IfMatch, delete, get, post

ONE = f"{PATH}/{{export_id:uuid}}"
TAGS = ["exports"]
_POLL_SECONDS = "1"

ExportId = Annotated[UUID, PathParameter(description="the export's id")]
IncludeDeleted = Annotated[bool, QueryParameter(description="also what was deleted")]
_SUBMITTED = ResponseSpec(ExportJobOut, description="Submitted, or one that waits or runs already")
_ESTIMATE = ResponseSpec(Estimate, description="With `validate_only`: nothing was submitted", generate_examples=False)
_GONE = ResponseSpec(None, description="Deleted", generate_examples=False)


@get("/api/v1/exports/datasets", role=Role.VIEWER, summary="What can be exported", tags=TAGS)
async def list_datasets(who: NamedDependency[Principal]) -> ApiResponse[Datasets]:
    """Every dataset with its columns, filters, sorts, formats, and the least role for it."""
    return ApiResponse(Datasets(service.catalogue(who)))


@post(
    PATH,
    role=Role.VIEWER,
    summary="Submit an export",
    tags=TAGS,
    status_code=202,
    problems=(Forbidden, TooManyExports, TooManyRows),
    responses={200: _ESTIMATE, 202: _SUBMITTED},
)
async def submit(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    exports: NamedDependency[ExportContext],
    data: JSONBody[ExportRequest],
    validate_only: Annotated[
        bool, QueryParameter(description="true: submit nothing, and answer with what the export would be")
    ] = False,
) -> ApiResponse[Any]:
    """A worker makes the file; follow the job at `Location` until it has `succeeded`, then download it.

    A few exports of each user run at once, the others wait for their turn. The file holds everything that was
    committed before its `snapshot_at`, and nothing of what was committed later. The least role depends on the
    dataset.

    CSV is for machines: UTF-8, LF, a header, empty for null and `""` for an empty text, and cells that a spreadsheet
    would take for formulas are left as they are; `csv` says otherwise."""
    if validate_only:
        return ApiResponse(await service.estimate(write, who, exports.settings, data), status_code=200)
    return _accepted(await service.submit(write, who, exports.settings, data))


@get(PATH, role=Role.VIEWER, summary="List exports", tags=TAGS, problems=(Forbidden,))
async def list_exports(
    read: NamedDependency[ReadSession],
    who: NamedDependency[Principal],
    mine: Annotated[bool, QueryParameter(description="false: of everybody, for the role ADMIN")] = True,
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
    f"{ONE}/cancel", role=Role.VIEWER, summary="Cancel an export", tags=TAGS, status_code=200, problems=(ExportFinal,)
)
async def cancel(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    exports: NamedDependency[ExportContext],
    export_id: ExportId,
) -> ApiResponse[ExportJobOut]:
    """One that waits is `canceled` at once; one that runs is `canceling` and stops within a second."""
    return shown(await service.cancel(write, who, exports.settings, export_id))


@post(
    f"{ONE}/retry",
    role=Role.VIEWER,
    summary="Try an export again",
    tags=TAGS,
    status_code=202,
    problems=(Forbidden, ExportUnfinished, ExportSucceeded, TooManyExports, TooManyRows, FormatUnavailable),
)
async def retry(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    exports: NamedDependency[ExportContext],
    export_id: ExportId,
) -> ApiResponse[ExportJobOut]:
    """A failed, canceled or expired export, as a new job with a new snapshot."""
    return _accepted(await service.retry(write, who, exports.settings, export_id))


@delete(
    ONE, role=Role.VIEWER, summary="Delete an export", tags=TAGS, problems=(ExportUnfinished,), responses={204: _GONE}
)
async def delete_export(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    exports: NamedDependency[ExportContext],
    export_id: ExportId,
    if_match: IfMatch = None,
) -> ApiResponse[None]:
    """Removes the file now; the record stays, and is shown with `include_deleted=true`. Cancel it first if it runs."""
    require_match(if_match, (await queries.job(write, who, export_id)).version)
    key = await service.delete(write, who, export_id)
    # after the commit: a file must not be gone while its row still says that it is there
    remove = None if key is None else BackgroundTask(maintenance.remove_deleted, exports.database, exports.store, key)
    return ApiResponse(None, status_code=204, background=remove)


def shown(job: VersionedExport, **headers: str) -> ApiResponse[ExportJobOut]:
    return tagged(job.job, job.version, **({} if job.final else {"Retry-After": _POLL_SECONDS}), **headers)


def _accepted(shown: VersionedExport) -> ApiResponse[ExportJobOut]:
    headers = {"Location": shown.job.links.self, "ETag": etag(shown.version), "Retry-After": _POLL_SECONDS}
    return ApiResponse(shown.job, status_code=202, headers=headers)


ROUTES = [
    list_datasets,
    submit,
    list_exports,
    cancel,
    retry,
    delete_export,
]
