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
from litestar.types import Receive, Scope, Send

from erp_service.auth.refusals import AddressRefused
from erp_service.db import ReadSession, WriteSession
from erp_service.errors import Forbidden, RangeNotSatisfiable
from erp_service.exports import download as downloads
from erp_service.exports import queries, service, upkeep
from erp_service.exports.allowed import RightsGone, while_allowed
from erp_service.exports.models import (
    ExportExpired,
    ExportFinal,
    ExportLost,
    ExportNotReady,
    ExportSucceeded,
    ExportUnfinished,
    FormatUnavailable,
    Status,
    StoreUnavailable,
    TooManyExports,
    TooManyRows,
)
from erp_service.exports.queries import PATH, Shown
from erp_service.exports.schemas import DatasetName, Datasets, Estimate, ExportJobOut, ExportJobPage, ExportRequest
from erp_service.exports.storage.registry import address, held
from erp_service.page_parameters import DEFAULT_LIMIT, Cursor, Limit
from erp_service.principals import Principal
from erp_service.roles import Role
from erp_service.routing import Answer, IfMatch, delete, demand, etag, get, get_or_head, post, tagged
from erp_service.telemetry import log

ONE = f"{PATH}/{{export_id:uuid}}"
TAGS = ["exports"]
_POLL_SECONDS = "1"

ExportId = Annotated[UUID, PathParameter(description="the export's id")]
IncludeDeleted = Annotated[bool, QueryParameter(description="also what was deleted")]


_BYTES = ResponseSpec(bytes, description="The file", media_type="*/*", generate_examples=False)
_SOME_BYTES = ResponseSpec(bytes, description="The part that `Range` names", media_type="*/*", generate_examples=False)
_KNOWN = ResponseSpec(None, description="The file is the one that `If-None-Match` names", generate_examples=False)
_SUBMITTED = ResponseSpec(ExportJobOut, description="Submitted, or one that waits or runs already")
_ESTIMATE = ResponseSpec(Estimate, description="With `validate_only`: nothing was submitted", generate_examples=False)
_ELSEWHERE = ResponseSpec(
    None,
    description="The file at the object store itself, if the operator set it so: `Location` is an address that needs no"
    " token and lives five minutes. Do not send yours there. Its `ETag` is the object store's own",
    generate_examples=False,
)
_GONE = ResponseSpec(None, description="Deleted", generate_examples=False)


class FileStream(Stream):
    """A file's bytes, or for HEAD its headers only."""

    def to_asgi_response(self, app: Any, request: Request[Any, Any, Any], **options: Any) -> Any:
        options["is_head_response"] = request.method == "HEAD"
        answer = super().to_asgi_response(app, request, **options)

        async def answered(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await answer(scope, receive, send)
            except* RightsGone:
                # the server closes what was not sent to its end, so nobody takes it for whole
                log.info("download ended, its reader's rights have changed")

        return answered


@get("/api/v1/exports/datasets", role=Role.VIEWER, summary="What can be exported", tags=TAGS)
async def list_datasets(who: NamedDependency[Principal]) -> Answer[Datasets]:
    """Every dataset with its columns, filters, sorts, formats, and the least role for it."""
    return Answer(Datasets(service.catalogue(who)))


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
    state: State,
    data: JSONBody[ExportRequest],
    validate_only: Annotated[
        bool, QueryParameter(description="true: submit nothing, and answer with what the export would be")
    ] = False,
) -> Answer[Any]:
    """A worker makes the file; follow the job at `Location` until it has `succeeded`, then download it.

    A few exports of each user run at once, the others wait for their turn. The file holds everything that was
    committed before its `snapshot_at`, and nothing of what was committed later. The least role depends on the
    dataset.

    CSV is for machines: UTF-8, LF, a header, empty for null and `""` for an empty text, and cells that a spreadsheet
    would take for formulas are left as they are; `csv` says otherwise."""
    if validate_only:
        return Answer(await service.estimate(write, who, state.settings, data), status_code=200)
    return _accepted(await service.submit(write, who, state.settings, data))


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


@post(
    f"{ONE}/cancel", role=Role.VIEWER, summary="Cancel an export", tags=TAGS, status_code=200, problems=(ExportFinal,)
)
async def cancel(
    write: NamedDependency[WriteSession], who: NamedDependency[Principal], state: State, export_id: ExportId
) -> Answer[ExportJobOut]:
    """One that waits is `canceled` at once; one that runs is `canceling` and stops within a second."""
    return shown(await service.cancel(write, who, state.settings, export_id))


@post(
    f"{ONE}/retry",
    role=Role.VIEWER,
    summary="Try an export again",
    tags=TAGS,
    status_code=202,
    problems=(Forbidden, ExportUnfinished, ExportSucceeded, TooManyExports, TooManyRows, FormatUnavailable),
)
async def retry(
    write: NamedDependency[WriteSession], who: NamedDependency[Principal], state: State, export_id: ExportId
) -> Answer[ExportJobOut]:
    """A failed, canceled or expired export, as a new job with a new snapshot."""
    return _accepted(await service.retry(write, who, state.settings, export_id))


@delete(
    ONE, role=Role.VIEWER, summary="Delete an export", tags=TAGS, problems=(ExportUnfinished,), responses={204: _GONE}
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
    f"{ONE}/download",
    role=Role.VIEWER,
    summary="Download an export",
    tags=TAGS,
    problems=(
        Forbidden,
        AddressRefused,
        ExportNotReady,
        ExportExpired,
        ExportLost,
        RangeNotSatisfiable,
        StoreUnavailable,
    ),
    signed=True,
    responses={200: _BYTES, 206: _SOME_BYTES, 304: _KNOWN, 307: _ELSEWHERE},
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
) -> FileStream | Answer[None] | Answer[bytes]:
    """The whole file, or what is missing of it. `ETag` is its SHA-256, and `Repr-Digest` too, also for a part.

    The role for the dataset is looked at again each time, and a download that is under way ends when it goes."""
    file = await service.file(write, who, export_id)
    tag = downloads.strong_etag(file.sha256)
    if _knows(request, tag):
        return Answer(None, status_code=304, headers={"ETag": tag, "Cache-Control": "private, no-store"})
    size = await held(state.store, file.key)
    if size != file.bytes:
        log.error("export's file is lost", export_id=str(export_id), expected=file.bytes, found=size)
        raise ExportLost
    part = None
    if request.method == "GET":
        part = downloads.wanted(range_, if_range, tag, file.bytes)
        await service.downloaded(write, who, export_id, part)
    if state.settings.export_store_redirect and (elsewhere := await address(state.store, file.key, request.method)):
        return Answer(None, status_code=307, headers={"Location": elsewhere, "Cache-Control": "private, no-store"})
    headers = downloads.headers(
        media_type=file.media_type, sha256=file.sha256, filename=file.filename, size=file.bytes, part=part
    )
    if (place := _sent_by_nginx(request, state, str(file.key), part)) is not None:
        return Answer(b"", headers={**headers, "Content-Length": "0", "X-Accel-Redirect": place})
    start, stop = (0, file.bytes) if part is None else (part.start, part.stop)
    pieces = while_allowed(state.store.read(file.key, start, stop), state.authorities, request.auth, file.least)
    return FileStream(pieces, status_code=200 if part is None else 206, headers=headers)


def _sent_by_nginx(request: Request[Any, Any, Any], state: State, key: str, part: downloads.Part | None) -> str | None:
    if request.method != "GET":
        return None
    # uvicorn puts an address without a port there if, and only if, it believed a trusted proxy's X-Forwarded-For
    forwarded = request.client is not None and request.client.port == 0
    return downloads.accelerated(
        state.settings.export_store_accel,
        request.headers.get("X-Accel-Offload"),
        forwarded=forwarded,
        key=key,
        part=part,
    )


def _knows(request: Request[Any, Any, Any], tag: str) -> bool:
    sent = request.headers.get("If-None-Match")
    return sent is not None and (sent.strip() == "*" or tag in (t.strip().removeprefix("W/") for t in sent.split(",")))


def shown(job: Shown, **headers: str) -> Answer[ExportJobOut]:
    return tagged(job.job, job.version, **({} if job.final else {"Retry-After": _POLL_SECONDS}), **headers)


def _accepted(shown: Shown) -> Answer[ExportJobOut]:
    headers = {"Location": shown.job.links.self, "ETag": etag(shown.version), "Retry-After": _POLL_SECONDS}
    return Answer(shown.job, status_code=202, headers=headers)


ROUTES = [
    list_datasets,
    submit,
    list_exports,
    cancel,
    retry,
    delete_export,
    download,
]
