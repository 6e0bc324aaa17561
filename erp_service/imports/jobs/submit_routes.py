"""POST /api/v1/imports/jobs: the body is the file itself, which goes into the store while it arrives."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from litestar import Request
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType
from litestar.params import HeaderParameter, QueryParameter
from uuid_utils.compat import uuid7

from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.auth.credentials import Access, authority_of, no_longer_valid
from erp_service.errors import Fault, Invalid, Malformed, TooMany
from erp_service.exports.context import ExportContext
from erp_service.exports.problems import StoreFull, StoreUnavailable
from erp_service.exports.run.store_failures import remove
from erp_service.imports.jobs import service, upload
from erp_service.imports.jobs.problems import FileTooLarge, ImportQuota, NotAFile, TooManyImports, UploadTooSlow
from erp_service.imports.jobs.queries import PATH
from erp_service.imports.jobs.routes import SUBMISSIONS, TAGS, accepted_response
from erp_service.imports.jobs.schemas import ImportJobOut, ImportSpec, SeparatorName
from erp_service.imports.jobs.upload import Upload
from erp_service.imports.stored import Kind, Mode
from erp_service.timestamps import parse_zone
from erp_service.web import idempotency
from erp_service.web.responses import ApiResponse
from erp_service.web.routing import post

_EXAMPLE = "sku,name,unit\nTEA-EARL-100,Earl Grey 100 g,PCS\n"


def _file(description: str) -> Schema:
    # without the format, generated clients write code that sends a text, and fail on a file
    return Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY, description=description)


_BODIES = {
    "text/csv": OpenAPIMediaType(schema=_file("CSV with a header"), example=_EXAMPLE),
    "application/x-ndjson": OpenAPIMediaType(schema=_file("JSON Lines: an object a line")),
    "application/octet-stream": OpenAPIMediaType(schema=_file("either of them, compressed by gzip or zstd")),
}
_SUBMITTED = ResponseSpec(ImportJobOut, description="The new job", generate_examples=False)

_Dataset = Annotated[Kind, QueryParameter(description="what the file holds")]
_DryRun = Annotated[bool, QueryParameter(description="true: check everything, and keep nothing")]
_Mode = Annotated[
    Mode,
    QueryParameter(
        description="`create` refuses what exists, `update` what does not, `upsert` takes both; by sku or code. What"
        " exists gets the columns that the file has. Movements are only created"
    ),
]
_Delimiter = Annotated[SeparatorName | None, QueryParameter(description="between two cells; mostly recognised")]
_DecimalComma = Annotated[bool, QueryParameter(description="true: numbers are written 12,5 and not 12.5")]
_Timezone = Annotated[
    str | None,
    QueryParameter(max_length=64, description="the IANA time zone of times that state none, such as Europe/Berlin"),
]
_Encoding = Annotated[
    str | None,
    QueryParameter(max_length=40, description="such as cp1252; by default UTF-8, or UTF-16 with its mark"),
]
_Sort = Annotated[
    Literal["occurred_at", "id"] | None,
    QueryParameter(description="post movements in this order, not that of the file"),
]
_History = Annotated[
    bool,
    QueryParameter(
        description="true: the movements are of the past, and may concern items that are not active any more; for the"
        " role ADMIN"
    ),
]
_KeepCodes = Annotated[
    bool, QueryParameter(description="true: take skus and codes that a spreadsheet seems to have damaged")
]
_ContentEncoding = Annotated[
    str | None,
    HeaderParameter(name="Content-Encoding", max_length=100, description="gzip or zstd; recognised without it too"),
]
_ContentDisposition = Annotated[
    str | None,
    HeaderParameter(
        name="Content-Disposition", max_length=1000, description='the name of the file: `attachment; filename="a.csv"`'
    ),
]


@dataclass
class FileOperation(Operation):
    """Documents the file: the framework does not know of it, since the route reads it from the request itself."""

    def __post_init__(self) -> None:
        self.request_body = RequestBody(required=True, description="the file itself", content=dict(_BODIES))


@post(
    PATH,
    role=Role.STAFF,
    scope=Scope.IMPORTS_WRITE,
    summary="Import a file",
    tags=TAGS,
    status_code=202,
    problems=(
        *(Malformed, NotAFile, FileTooLarge, UploadTooSlow, TooManyImports, ImportQuota, TooMany),
        *(StoreFull, StoreUnavailable),
    ),
    streams_body=True,
    guards=[SUBMISSIONS],
    responses={202: _SUBMITTED},
    operation_id="submit_import",
    operation_class=FileOperation,
    headers={202: ("Location", "Retry-After")},
)
async def submit(
    request: Request[Principal, Any, Any],
    who: NamedDependency[Principal],
    exports: NamedDependency[ExportContext],
    access: NamedDependency[Access],
    dataset: _Dataset,
    dry_run: _DryRun = False,
    mode: _Mode = "create",
    delimiter: _Delimiter = None,
    decimal_comma: _DecimalComma = False,
    timezone: _Timezone = None,
    encoding: _Encoding = None,
    sort: _Sort = None,
    history: _History = False,
    keep_codes: _KeepCodes = False,
    content_encoding: _ContentEncoding = None,
    content_disposition: _ContentDisposition = None,
) -> ApiResponse[ImportJobOut]:
    """The body is the file itself: CSV with a header or JSON Lines, also compressed by gzip or zstd, as `erp import`
    takes it and as exports of items, locations and movements write it. It is stored while it arrives, and a worker
    imports all of it, or nothing; follow the job at `Location`.

    Every bad line is named: the first thousand in the job, all of them in its report. The same content is refused a
    second time in the mode `create`, also when a spreadsheet has saved it again. Movements need the role STAFF;
    adjustments, exports of movements, items and locations the role ADMIN. An API key needs the scope to write the
    dataset as well."""
    spec = ImportSpec(
        dry_run=dry_run,
        mode=mode,
        delimiter=delimiter,
        decimal_comma=decimal_comma,
        timezone=_zone(timezone),
        encoding=_encoding(encoding),
        sort=sort,
        history=history,
        keep_codes=keep_codes,
    )
    service.require_right(who, dataset)
    service.require_fits(who, dataset, spec)
    extension = upload.extension(request.content_type[0], content_encoding or "")
    name = upload.filename(content_disposition, dataset, extension)
    await service.require_room(exports.database.reader, who)
    file = await _received(request, exports, who, extension)
    try:
        return await _submit(request, exports, access, who, dataset, spec, name, file)
    except BaseException:
        await remove(exports.store, file.key)
        raise


async def _received(
    request: Request[Principal, Any, Any], exports: ExportContext, who: Principal, extension: str
) -> Upload:
    length = request.headers.get("Content-Length", "")
    if length.isdecimal() and int(length) > exports.settings.import_bytes:
        raise upload.too_large(exports.settings.import_bytes)
    with upload.counted(who.user_id):
        return await upload.store_body(exports, request.receive, uuid7(), extension)


async def _submit(
    request: Request[Principal, Any, Any],
    exports: ExportContext,
    access: Access,
    who: Principal,
    dataset: Kind,
    spec: ImportSpec,
    name: str,
    file: Upload,
) -> ApiResponse[ImportJobOut]:
    # who has lost their rights meanwhile must not act by the last byte of a body that they have held back
    if await authority_of(access, request.auth) is None:
        raise no_longer_valid(request.auth)
    async with idempotency.transaction(request, who, file.sha256.encode()) as db:
        job = await service.submit(db, who, dataset, spec, name, file)
        answer = accepted_response(job)
        answer.to_asgi_response(request=request)
    return answer


def _zone(name: str | None) -> str | None:
    """Raises Invalid."""
    if name is None:
        return None
    try:
        return parse_zone(name).key
    except ValueError as exc:
        raise Invalid(None, Fault(str(exc), parameter="timezone")) from None


def _encoding(name: str | None) -> str | None:
    """Raises Invalid."""
    if name is None:
        return None
    try:
        "a".encode(name)  # refuses what is no encoding of texts, such as base64
    except (LookupError, ValueError):
        fault = Fault("is not an encoding of texts, such as utf-8, cp1252 or utf-16", parameter="encoding")
        raise Invalid(None, fault) from None
    return name


ROUTES = [submit]
