"""/api/v1/exports/jobs/{id}/download"""

from typing import Annotated, Any

from litestar import Request
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import HeaderParameter
from litestar.response import Stream
from litestar.types import Receive, Send
from litestar.types import Scope as ASGIScope

from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.auth.credentials import Access
from erp_service.auth.problems import AddressRefused
from erp_service.company.current import setting
from erp_service.db.sessions import WriteSession
from erp_service.errors import Forbidden, RangeNotSatisfiable, TooMany
from erp_service.exports import service
from erp_service.exports.context import ExportContext
from erp_service.exports.delivery import http_range
from erp_service.exports.delivery.download_audit import record_download
from erp_service.exports.delivery.revocation import RightsRevoked, while_allowed
from erp_service.exports.problems import (
    ExportExpired,
    ExportLost,
    ExportNotReady,
    StoreUnavailable,
)
from erp_service.exports.routes import ONE, TAGS, ExportId
from erp_service.exports.storage.registry import address_for_request, size_for_request
from erp_service.observability.telemetry import log
from erp_service.settings import Settings
from erp_service.web.quotas import MINUTE, at_most
from erp_service.web.responses import ApiResponse, etag_matches
from erp_service.web.routing import get_or_head

_BYTES = ResponseSpec(bytes, description="The file", media_type="*/*", generate_examples=False)
_SOME_BYTES = ResponseSpec(bytes, description="The part that `Range` names", media_type="*/*", generate_examples=False)
_OF_FILE = ("Accept-Ranges", "Cache-Control", "Content-Disposition", "Content-Length", "ETag", "Repr-Digest")
_HEADERS = {
    200: _OF_FILE,
    206: (*_OF_FILE, "Content-Range"),
    304: ("ETag", "Cache-Control"),
    307: ("Location", "Cache-Control"),
}
_SAME = ResponseSpec(None, description="The file is the one that `If-None-Match` names", generate_examples=False)
_ELSEWHERE = ResponseSpec(
    None,
    description="The file at the object store itself, if the operator set it so: `Location` is an address that needs no"
    " token and lives five minutes. Do not send yours there. Its `ETag` is the object store's own",
    generate_examples=False,
)


_QUOTA = at_most(
    "downloads",
    setting(lambda settings: settings.export_downloads_per_minute),
    seconds=MINUTE,
    what="requests for files of exports",
    instead="Fewer and larger ranges need fewer of them.",
)


class FileStream(Stream):
    """A file's bytes, or for HEAD its headers only."""

    def to_asgi_response(self, app: Any, request: Request[Any, Any, Any], **options: Any) -> Any:
        options["is_head_response"] = request.method == "HEAD"
        response = super().to_asgi_response(app, request, **options)

        async def respond(scope: ASGIScope, receive: Receive, send: Send) -> None:
            try:
                await response(scope, receive, send)
            except* RightsRevoked:
                # the server closes the connection of an incomplete response, so no client takes the file for whole
                log.info("download ended, its reader's rights have changed")

        return respond


@get_or_head(
    f"{ONE}/download",
    role=Role.VIEWER,
    scope=Scope.EXPORTS_READ,
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
        TooMany,
    ),
    signed=True,
    guards=[_QUOTA],
    responses={200: _BYTES, 206: _SOME_BYTES, 304: _SAME, 307: _ELSEWHERE},
    operation_id="download_export",
    headers=_HEADERS,
)
async def download(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    request: Request[Any, Any, Any],
    exports: NamedDependency[ExportContext],
    access: NamedDependency[Access],
    export_id: ExportId,
    range_: Annotated[
        str | None, HeaderParameter(name="Range", max_length=200, description="one range of bytes; others are ignored")
    ] = None,
    if_range: Annotated[
        str | None, HeaderParameter(name="If-Range", max_length=200, description="the `ETag` of what you have of it")
    ] = None,
    if_match: Annotated[
        str | None, HeaderParameter(name="If-Match", max_length=1000, description="412 if the file is another one")
    ] = None,
) -> FileStream | ApiResponse[None] | ApiResponse[bytes]:
    """The whole file, or the part of it that `Range` names. `ETag` and `Repr-Digest` are the SHA-256 of the whole file,
    also for a part.

    The role for the dataset is checked again on each request, and a download in progress ends when the role is lost."""
    file, store = await service.file(write, who, export_id), exports.store
    tag = http_range.strong_etag(file.sha256)
    http_range.require_file(if_match, tag)
    if etag_matches(request.headers.get("If-None-Match"), tag):
        return ApiResponse(None, status_code=304, headers={"ETag": tag, "Cache-Control": http_range.CACHE_CONTROL})
    size = await size_for_request(store, file.key)
    if size != file.bytes:
        log.error("export's file is lost", export_id=str(export_id), expected=file.bytes, found=size)
        raise ExportLost
    part = None
    if request.method == "GET":
        part = http_range.requested_part(range_, if_range, tag, file.bytes)
        await record_download(write, who, export_id, file)
    if exports.settings.export_store_redirect and (url := await address_for_request(store, file.key, request.method)):
        return ApiResponse(b"", status_code=307, headers={"Location": url, "Cache-Control": "private, no-store"})
    headers = http_range.headers(
        media_type=file.media_type, sha256=file.sha256, filename=file.filename, size=file.bytes, part=part
    )
    if (path := _nginx_path(request, exports.settings, str(file.key), part)) is not None:
        return ApiResponse(b"", headers={**headers, "Content-Length": "0", "X-Accel-Redirect": path})
    start, stop = (0, file.bytes) if part is None else (part.start, part.stop)
    pieces = while_allowed(store.read(file.key, start, stop), access, request.auth, file.needed.role)
    return FileStream(pieces, status_code=200 if part is None else 206, headers=headers)


def _nginx_path(
    request: Request[Any, Any, Any], settings: Settings, key: str, part: http_range.Part | None
) -> str | None:
    if request.method != "GET":
        return None
    # uvicorn sets a client address without a port if, and only if, it took it from a trusted proxy's X-Forwarded-For
    forwarded = request.client is not None and request.client.port == 0
    return http_range.accel_path(
        settings.export_store_accel,
        request.headers.get("X-Accel-Offload"),
        forwarded=forwarded,
        key=key,
        part=part,
    )


ROUTES = [download]
