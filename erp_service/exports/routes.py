"""/api/v1/exports"""

from typing import Annotated, Any
from uuid import UUID

from litestar import Request
from litestar.background_tasks import BackgroundTask
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import HeaderParameter, JSONBody, PathParameter, QueryParameter
from litestar.response import Stream
from litestar.response.base import ASGIResponse

from erp_service.db import ReadSession, WriteSession
from erp_service.errors import Forbidden, RangeNotSatisfiable
from erp_service.exports import download as downloads
from erp_service.exports import queries, service, upkeep
from erp_service.exports.models import (
    ExportExpired,
    ExportFinal,
    ExportLost,
    ExportNotReady,
    ExportSucceeded,
    ExportUnfinished,
    Status,
    TooManyExports,
)
from erp_service.exports.queries import PATH, Shown
from erp_service.exports.schemas import DatasetName, Datasets, ExportJobOut, ExportJobPage, ExportRequest
from erp_service.paging import DEFAULT_LIMIT, Cursor, Limit
from erp_service.principals import Principal
from erp_service.roles import Role
from erp_service.routing import Answer, IfMatch, delete, demand, etag, get, get_or_head, post, tagged
from erp_service.telemetry import log

_ONE = f"{PATH}/{{export_id:uuid}}"
_TAGS = ["exports"]
_POLL_SECONDS = "1"

ExportId = Annotated[UUID, PathParameter(description="the export's id")]
IncludeDeleted = Annotated[bool, QueryParameter(description="also what was deleted")]


_BYTES = ResponseSpec(bytes, description="The file", media_type="text/csv", generate_examples=False)
_SOME_BYTES = ResponseSpec(
    bytes, description="The part that `Range` names", media_type="text/csv", generate_examples=False
)
_KNOWN = ResponseSpec(None, description="The file is the one that `If-None-Match` names", generate_examples=False)
_GONE = ResponseSpec(None, description="Deleted", generate_examples=False)


class FileStream(Stream):
    """A file's bytes, or for HEAD its headers only."""

    def to_asgi_response(self, app: Any, request: Request[Any, Any, Any], **options: Any) -> ASGIResponse:
        return super().to_asgi_response(app, request, **{**options, "is_head_response": request.method == "HEAD"})


@get("/api/v1/exports/datasets", role=Role.VIEWER, summary="What can be exported", tags=_TAGS)
async def list_datasets(who: NamedDependency[Principal]) -> Answer[Datasets]:
    """Every dataset with its columns, filters, sorts, formats, and the least role for it."""
    return Answer(Datasets(service.catalogue(who)))


@post(
    PATH,
    role=Role.VIEWER,
    summary="Submit an export",
    tags=_TAGS,
    status_code=202,
    problems=(Forbidden, TooManyExports),
)
async def submit(
    write: NamedDependency[WriteSession], who: NamedDependency[Principal], state: State, data: JSONBody[ExportRequest]
) -> Answer[ExportJobOut]:
    """A worker makes the file; follow the job at `Location` until it has `succeeded`, then download it.

    A few exports of each user run at once, the others wait for their turn. The file holds everything that was
    committed before its `snapshot_at`, and nothing of what was committed later. The least role depends on the
    dataset.

    CSV is for machines: UTF-8, LF, a header, empty for null and `""` for an empty text, and cells that a spreadsheet
    would take for formulas are left as they are."""
    return _accepted(await service.submit(write, who, state.settings, data))


@get(PATH, role=Role.VIEWER, summary="List exports", tags=_TAGS, problems=(Forbidden,))
async def list_exports(
    read: NamedDependency[ReadSession],
    who: NamedDependency[Principal],
    mine: Annotated[bool, QueryParameter(description="false: of everybody, for the role ADMIN")] = True,
    status: Annotated[Status | None, QueryParameter(description="only with this status")] = None,
    dataset: Annotated[DatasetName | None, QueryParameter(description="only of this dataset")] = None,
    include_deleted: IncludeDeleted = False,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Answer[ExportJobPage]:
    """Newest first."""
    return Answer(
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


@get(_ONE, role=Role.VIEWER, summary="An export", tags=_TAGS)
async def get_export(
    read: NamedDependency[ReadSession],
    who: NamedDependency[Principal],
    export_id: ExportId,
    include_deleted: IncludeDeleted = False,
) -> Answer[ExportJobOut]:
    """200 whatever became of it: see `status` and `error`. Until it has ended, `Retry-After` says when to ask again."""
    return _shown(await queries.job(read, who, export_id, include_deleted=include_deleted))


@post(
    f"{_ONE}/cancel", role=Role.VIEWER, summary="Cancel an export", tags=_TAGS, status_code=200, problems=(ExportFinal,)
)
async def cancel(
    write: NamedDependency[WriteSession], who: NamedDependency[Principal], state: State, export_id: ExportId
) -> Answer[ExportJobOut]:
    """One that waits is `canceled` at once; one that runs is `canceling` and stops within a second."""
    return _shown(await service.cancel(write, who, state.settings, export_id))


@post(
    f"{_ONE}/retry",
    role=Role.VIEWER,
    summary="Try an export again",
    tags=_TAGS,
    status_code=202,
    problems=(Forbidden, ExportUnfinished, ExportSucceeded, TooManyExports),
)
async def retry(
    write: NamedDependency[WriteSession], who: NamedDependency[Principal], state: State, export_id: ExportId
) -> Answer[ExportJobOut]:
    """A failed, canceled or expired export, as a new job with a new snapshot."""
    return _accepted(await service.retry(write, who, state.settings, export_id))


@delete(
    _ONE, role=Role.VIEWER, summary="Delete an export", tags=_TAGS, problems=(ExportUnfinished,), responses={204: _GONE}
)
async def delete_export(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    state: State,
    export_id: ExportId,
    if_match: IfMatch = None,
) -> Answer[None]:
    """Removes the file now; the record stays, and is shown with `include_deleted=true`. Cancel it first if it runs."""
    demand(if_match, (await queries.job(write, who, export_id)).version)
    key = await service.delete(write, who, export_id)
    # after the commit: a file must not be gone while its row still says that it is there
    remove = None if key is None else BackgroundTask(upkeep.remove_deleted, state.database, state.store, key)
    return Answer(None, status_code=204, background=remove)


@get_or_head(
    f"{_ONE}/download",
    role=Role.VIEWER,
    summary="Download an export",
    tags=_TAGS,
    problems=(Forbidden, ExportNotReady, ExportExpired, ExportLost, RangeNotSatisfiable),
    responses={200: _BYTES, 206: _SOME_BYTES, 304: _KNOWN},
)
async def download(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    request: Request[Any, Any, Any],
    state: State,
    export_id: ExportId,
    range_: Annotated[
        str | None, HeaderParameter(name="Range", max_length=200, description="one range of bytes; others are ignored")
    ] = None,
    if_range: Annotated[
        str | None, HeaderParameter(name="If-Range", max_length=200, description="the `ETag` of what you have of it")
    ] = None,
) -> FileStream | Answer[None]:
    """The whole file, or what is missing of it. `ETag` is its SHA-256, and `Repr-Digest` too, also for a part.

    The role for the dataset is looked at again each time."""
    file = await service.file(write, who, export_id)
    tag = downloads.strong_etag(file.sha256)
    if _knows(request, tag):
        return Answer(None, status_code=304, headers={"ETag": tag, "Cache-Control": "private, no-store"})
    size = await state.store.size(file.key)
    if size != file.bytes:
        log.error("export's file is lost", export_id=str(export_id), expected=file.bytes, found=size)
        raise ExportLost
    part = None
    if request.method == "GET":
        part = downloads.wanted(range_, if_range, tag, file.bytes)
        await service.downloaded(write, who, export_id, part)
    start, stop = (0, file.bytes) if part is None else (part.start, part.stop)
    return FileStream(
        state.store.read(file.key, start, stop),
        status_code=200 if part is None else 206,
        headers=downloads.headers(
            media_type=file.media_type, sha256=file.sha256, filename=file.filename, size=file.bytes, part=part
        ),
    )


def _knows(request: Request[Any, Any, Any], tag: str) -> bool:
    sent = request.headers.get("If-None-Match")
    return sent is not None and (sent.strip() == "*" or tag in (t.strip().removeprefix("W/") for t in sent.split(",")))


def _shown(shown: Shown) -> Answer[ExportJobOut]:
    return tagged(shown.job, shown.version, **({} if shown.final else {"Retry-After": _POLL_SECONDS}))


def _accepted(shown: Shown) -> Answer[ExportJobOut]:
    headers = {"Location": shown.job.links.self, "ETag": etag(shown.version), "Retry-After": _POLL_SECONDS}
    return Answer(shown.job, status_code=202, headers=headers)


ROUTES = [
    list_datasets,
    submit,
    list_exports,
    get_export,
    cancel,
    retry,
    delete_export,
    download,
]
