"""/api/v1/imports/jobs: submission, lists, cancel, delete, undo, and the report of bad lines."""

from typing import Annotated
from uuid import UUID

from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import JSONBody, PathParameter, QueryParameter
from litestar.response import Stream

from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.company.current import setting
from erp_service.db.sessions import ReadSession, WriteSession
from erp_service.errors import Forbidden, TooMany
from erp_service.exports.context import ExportContext
from erp_service.exports.delivery import http_range
from erp_service.exports.models import Status
from erp_service.exports.problems import StoreUnavailable
from erp_service.exports.storage.base import FileKey
from erp_service.exports.storage.registry import size_for_request
from erp_service.imports.jobs import queries, service
from erp_service.imports.jobs.problems import (
    ImportFinal,
    ImportQuota,
    ImportUndone,
    ImportUnfinished,
    NoReport,
    NothingToUndo,
    TooManyImports,
)
from erp_service.imports.jobs.queries import PATH, VersionedImport
from erp_service.imports.jobs.schemas import ImportJobOut, ImportJobPage, Undo
from erp_service.imports.stored import Kind
from erp_service.web.query_params import DEFAULT_LIMIT, Cursor, Limit
from erp_service.web.quotas import HOUR, at_most
from erp_service.web.responses import ApiResponse, etag, require_match, tagged
from erp_service.web.routing import IfMatch, delete, get, post

ONE = f"{PATH}/{{job_id:uuid}}"
TAGS = ["imports"]
_POLL_SECONDS = "1"

SUBMISSIONS = at_most(
    "imports",
    setting(lambda settings: settings.import_submissions_per_hour),
    seconds=HOUR,
    what="submissions of imports",
    instead="One file may have many lines.",
)

JobId = Annotated[UUID, PathParameter(description="the import's id")]
IncludeDeleted = Annotated[bool, QueryParameter(description="also deleted ones")]
_SUBMITTED = ResponseSpec(ImportJobOut, description="The new job")
_DELETED = ResponseSpec(None, description="Deleted", generate_examples=False)
_REPORT = ResponseSpec(bytes, description="The report", media_type="text/csv", generate_examples=False)


@get(PATH, role=Role.STAFF, scope=Scope.IMPORTS_READ, summary="List imports", tags=TAGS, problems=(Forbidden,))
async def list_imports(
    read: NamedDependency[ReadSession],
    who: NamedDependency[Principal],
    mine: Annotated[bool, QueryParameter(description="false: those of everybody, for the role ADMIN")] = True,
    status: Annotated[Status | None, QueryParameter(description="only with this status")] = None,
    dataset: Annotated[Kind | None, QueryParameter(description="only of this dataset")] = None,
    include_deleted: IncludeDeleted = False,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> ApiResponse[ImportJobPage]:
    """Newest first, without their bad lines."""
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
    role=Role.STAFF,
    scope=Scope.IMPORTS_WRITE,
    summary="Cancel an import",
    tags=TAGS,
    status_code=200,
    problems=(ImportFinal,),
    operation_id="cancel_import",
    headers={200: ("Retry-After",)},
)
async def cancel(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    job_id: JobId,
) -> ApiResponse[ImportJobOut]:
    """One that waits is `canceled` at once; one that runs is `canceling` and stops within a second. Nothing of it was
    imported then."""
    return import_response(await service.cancel(write, who, job_id))


@post(
    f"{ONE}/undo",
    role=Role.ADMIN,
    scope=Scope.IMPORTS_WRITE,
    summary="Undo an import of movements",
    tags=TAGS,
    status_code=202,
    problems=(NothingToUndo, ImportUndone, TooManyImports, ImportQuota, TooMany),
    guards=[SUBMISSIONS],
    operation_id="undo_import",
    headers={202: ("Location", "Retry-After")},
    example={"reason": "the wrong file"},
)
async def undo(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    job_id: JobId,
    data: JSONBody[Undo],
) -> ApiResponse[ImportJobOut]:
    """Submits a job that reverses all documents of the import, all of them or none: it fails, and says why, if the
    stock is not there any more. An import can be undone once, and its file can then be imported again."""
    return accepted_response(await service.undo(write, who, job_id, data.reason))


@delete(
    ONE,
    role=Role.STAFF,
    scope=Scope.IMPORTS_WRITE,
    summary="Delete an import",
    tags=TAGS,
    problems=(ImportUnfinished,),
    responses={204: _DELETED},
)
async def delete_import(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    job_id: JobId,
    if_match: IfMatch = None,
) -> ApiResponse[None]:
    """Removes the file and the report, and hides the job. What was imported stays: `POST .../undo` takes movements
    back."""
    require_match(if_match, (await queries.job(write, who, job_id)).version)
    await service.delete(write, who, job_id)
    return ApiResponse(None, status_code=204)


@get(
    f"{ONE}/report",
    role=Role.STAFF,
    scope=Scope.IMPORTS_READ,
    summary="All bad lines of an import",
    tags=TAGS,
    problems=(NoReport, StoreUnavailable),
    responses={200: _REPORT},
    operation_id="download_import_report",
    headers={200: ("Cache-Control", "Content-Disposition", "Content-Length")},
)
async def report(
    read: NamedDependency[ReadSession],
    who: NamedDependency[Principal],
    exports: NamedDependency[ExportContext],
    job_id: JobId,
) -> Stream:
    """CSV with the columns line, column, value and detail. No cell is a formula for a spreadsheet."""
    row = await queries.readable(read, who, job_id)
    key = FileKey.read(row.report_key or "")
    size = None if key is None else await size_for_request(exports.store, key)
    if key is None or size is None:
        raise NoReport
    headers = {
        "Content-Disposition": http_range.disposition(f"{row.dataset}-{str(job_id)[-8:]}-report.csv"),
        "Content-Length": str(size),
        "Cache-Control": "no-store",
    }
    return Stream(exports.store.read(key, 0, size), media_type="text/csv; charset=utf-8", headers=headers)


def import_response(job: VersionedImport, **headers: str) -> ApiResponse[ImportJobOut]:
    return tagged(job.job, job.version, **({} if job.final else {"Retry-After": _POLL_SECONDS}), **headers)


def accepted_response(job: VersionedImport) -> ApiResponse[ImportJobOut]:
    """202 with the address of a job that was submitted."""
    headers = {"Location": job.job.links.self, "ETag": etag(job.version), "Retry-After": _POLL_SECONDS}
    return ApiResponse(job.job, status_code=202, headers=headers)


ROUTES = [list_imports, cancel, undo, delete_import, report]
