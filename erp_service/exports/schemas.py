"""What clients send and get about exports."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType, field

from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.db.pagination import Page
from erp_service.exports import filenames
from erp_service.exports.catalogue import DATASETS
from erp_service.exports.eta import Progress
from erp_service.exports.formats.base import FormatName
from erp_service.exports.formats.compression import CompressionName
from erp_service.exports.formats.csv_options import CsvOptions
from erp_service.exports.models import Status
from erp_service.exports.planning.relative import GRAMMAR
from erp_service.registry.datasets import ColumnType

# the features register what can be exported; a type checker would need a literal list
DatasetName = Literal[(*DATASETS, "all")]  # type: ignore[valid-type]

_Name = Annotated[str, Meta(min_length=1, max_length=50)]
_FilterText = Annotated[str, Meta(max_length=200)]


class ExportRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """What to export. Without columns, filter and sort: everything, in the order of the key."""

    dataset: Annotated[
        DatasetName,
        Meta(
            description="`all`: every dataset that you may read, as of one point in time, in one zip archive with a"
            " manifest; without columns, filter, sort and compression"
        ),
    ]
    format: Annotated[FormatName, Meta(description="the format of the file")] = "csv"
    compression: Annotated[CompressionName, Meta(description="how the file is compressed; for csv and jsonl only")] = (
        "none"
    )
    columns: Annotated[
        Annotated[list[_Name], Meta(min_length=1, max_length=100)] | None,
        Meta(description="some of the dataset's columns, in this order", examples=[["sku", "quantity"]]),
    ] = None
    filter: Annotated[
        Annotated[dict[_Name, _FilterText | int | bool], Meta(max_length=20)] | None,
        Meta(
            description="the query parameters of the list endpoints; all must hold. A time may also be relative to the"
            f" moment at which the job is made, in `timezone`: {GRAMMAR}. The job keeps the time that this was",
            examples=[{"sku": "10002"}, {"from": "start of month -1 month", "to": "start of month"}],
        ),
    ] = None
    sort: Annotated[
        Annotated[str, Meta(min_length=1, max_length=50)] | None,
        Meta(description="one of the dataset's sorts, with a minus for descending order", examples=["-id"]),
    ] = None
    csv: Annotated[CsvOptions | None, Meta(description="how CSV is written; for the format csv only")] = None
    for_: Annotated[
        Annotated[str, Meta(max_length=20)] | None,
        Meta(
            description="`excel`, or `excel-` with its language, such as `excel-de` or `excel-de-CH`: a CSV that this"
            " Excel opens by a double click, in place of `csv`. Sets bom, crlf and formula_guard; semicolons and"
            " decimal commas if the language has them; and times as Excel reads them, in `timezone`, in whole seconds"
            " and without an offset",
            examples=["excel-de"],
        ),
    ] = field(name="for", default=None)
    timezone: Annotated[
        Annotated[str, Meta(max_length=64)] | None,
        Meta(
            description="the IANA time zone of times in CSV and XLSX, of `{date}` and `{time}` in the file name, and of"
            " relative times in `filter`; UTC without it. The last two are in a schedule's own zone, if its spec has"
            " none here. CSV shows the offset (2026-01-31T13:00:00.000000+01:00); jsonl and parquet are in UTC always",
            examples=["Europe/Berlin"],
        ),
    ] = None
    filename: Annotated[
        Annotated[str, Meta(min_length=1, max_length=filenames.MOST_CHARACTERS)] | None,
        Meta(
            description=f"the name of the file: a plain name with any of {filenames.MEANING}. Times are those of the"
            " snapshot, date and time in `timezone`, or in a schedule's; a missing extension is added",
            examples=["{dataset}-{date}.{ext}"],
        ),
    ] = None
    retention_hours: Annotated[
        Annotated[int, Meta(ge=1, le=8760)] | None,
        Meta(description="how long to keep the file; the operator sets the maximum, which is also the default"),
    ] = None
    force_new: Annotated[
        bool, Meta(description="true: a new job even while the same request of yours waits or runs")
    ] = False


class Result(Struct):
    """The file as it can be downloaded. `bytes` is its size, `sha256` its digest in hexadecimal."""

    rows: Annotated[int, Meta(description="how many rows the file has")]
    bytes: Annotated[int, Meta(description="its size")]
    sha256: Annotated[str, Meta(description="its digest, in hexadecimal")]
    media_type: Annotated[str, Meta(description="its media type")]
    filename: Annotated[str, Meta(description="its name")]


class ExportLinks(Struct, omit_defaults=True):
    """What can be done with the job now."""

    self: Annotated[str, Meta(description="the job")]
    download: Annotated[str | None, Meta(description="the file, once it is there")] = None
    cancel: Annotated[str | None, Meta(description="for POST, while it can be canceled")] = None
    retry: Annotated[str | None, Meta(description="for POST, once it has failed, was canceled or has expired")] = None


class ExportJobOut(Struct):
    """An export. `error` is a problem (RFC 9457), and null unless the export failed."""

    id: Annotated[UUID, Meta(description="the id")]
    dataset: Annotated[DatasetName, Meta(description="what is exported")]
    format: Annotated[FormatName, Meta(description="the format of the file")]
    compression: Annotated[CompressionName, Meta(description="how the file is compressed")]
    status: Annotated[
        Status, Meta(description="how far it is; `succeeded`, `failed`, `canceled` and `expired` are final")
    ]
    attempt: Annotated[int, Meta(description="how often its run has begun; 0 before the first time")]
    created_at: Annotated[datetime, Meta(description="when it was submitted")]
    started_at: Annotated[datetime | None, Meta(description="when its last attempt began; null before the first")]
    finished_at: Annotated[datetime | None, Meta(description="when it ended; null until then")]
    expires_at: Annotated[datetime | None, Meta(description="when the file is deleted")]
    snapshot_at: Annotated[datetime | None, Meta(description="the file holds what was committed before this time")]
    progress: Annotated[Progress, Meta(description="how far the attempt is")]
    result: Annotated[Result | None, Meta(description="the file; null until there is one")]
    error: Annotated[
        dict[str, Any] | None,
        Meta(description="why it failed; null unless it did", extra={"schema": "Problem"}),
    ]
    created_by: Annotated[int, Meta(description="the id of its owner")]
    retry_of: Annotated[UUID | None, Meta(description="the export that this one tries again")]
    deduplicated: Annotated[
        bool, Meta(description="true: the same request of yours was waiting or running already; this is its job")
    ]
    links: Annotated[ExportLinks, Meta(description="what can be done with it now")]
    filter: Annotated[
        dict[str, Any] | UnsetType,
        Meta(description="the filter, with the times that relative ones in the request were; absent if there is none"),
    ] = UNSET


class ExportJobPage(Page[ExportJobOut]):
    """Exports, newest first."""

    items: Annotated[list[ExportJobOut], Meta(description="exports, newest first")]


class Estimate(Struct, kw_only=True):
    """What the export would be if it were submitted and run now. Nothing was submitted."""

    valid: Annotated[Literal[True], Meta(description="always true: a request that cannot run is refused")] = True
    datasets: Annotated[list[str], Meta(description="what the file would hold")]
    rows: Annotated[int, Meta(description="how many rows the file would have")]
    rows_is_estimate: Annotated[bool, Meta(description="whether that is an estimate of Postgres")]
    bytes: Annotated[int, Meta(description="about how large the file would be")]
    bytes_from: Annotated[
        Literal["exports", "sample", "planner"],
        Meta(description="earlier exports like it; its first rows; or only the row width that Postgres expects"),
    ]
    seconds: Annotated[int, Meta(description="how long it would run once its turn has come")]
    seconds_from: Annotated[
        Literal["exports", "typical"], Meta(description="earlier exports like it, or a typical rate")
    ]
    size: Annotated[Literal["small", "large"], Meta(description="small exports pass large ones that run and wait")]


class ExportEvent(Struct):
    """One event of a stream, in the format of the HTML Living Standard."""

    event: Annotated[
        Literal["progress", "done", "expired"],
        Meta(description="`done` is the last; after `expired`, go on with another address or token"),
    ]
    id: Annotated[str, Meta(description="for `Last-Event-ID`")]
    data: Annotated[
        str, Meta(description="the job as JSON, as `GET` of it gives it; of `expired`, what has expired and what to do")
    ]


class SignedAddress(Struct):
    """Addresses that need no token until `expires_at`. They begin with the path if the operator set no public URL."""

    url: Annotated[str, Meta(description="of the file, for GET and HEAD")]
    events_url: Annotated[str, Meta(description="of the job's server-sent events")]
    expires_at: Annotated[datetime, Meta(description="until when both work")]


class DatasetColumn(Struct):
    name: Annotated[str, Meta(description="for `columns`")]
    type: Annotated[ColumnType, Meta(description="the type of its values")]
    description: Annotated[str, Meta(description="what it holds")]


class DatasetFilter(Struct):
    name: Annotated[str, Meta(description="for `filter`")]
    type: Annotated[str, Meta(description="the type of its value")]
    description: Annotated[str, Meta(description="what it selects")]
    choices: Annotated[list[str] | None, Meta(description="what a text must be one of; null if it can be any")]


class FormatOut(Struct):
    """`unavailable` says why the answering instance cannot write the format, which is then not among `formats`."""

    name: Annotated[str, Meta(description="for `format`")]
    media_type: Annotated[str, Meta(description="of the file, uncompressed")]
    extension: Annotated[str, Meta(description="of the name of the file")]
    compressions: Annotated[list[str], Meta(description="how it can be compressed")]
    most_rows: Annotated[int | None, Meta(description="the most rows that it can hold; null if there is no limit")]
    unavailable: Annotated[str | None, Meta(description="why the answering instance cannot write it; null if it can")]


class DatasetOut(Struct):
    """`role` is the least one that may export the dataset, `scope` what an API key needs; `allowed` says whether yours
    are enough."""

    name: Annotated[str, Meta(description="for `dataset`")]
    description: Annotated[str, Meta(description="what it holds")]
    role: Annotated[Role, Meta(description="the least role that may export it")]
    scope: Annotated[
        Scope | None,
        Meta(
            description="the scope that an API key needs to export it and to read the file, beside that of the"
            " endpoint; null for `all`, which holds what its scopes allow"
        ),
    ]
    allowed: Annotated[bool, Meta(description="whether yours are enough")]
    columns: Annotated[list[DatasetColumn], Meta(description="in the order of the file")]
    filters: Annotated[list[DatasetFilter], Meta(description="what can be selected by")]
    sorts: Annotated[list[str], Meta(description="for `sort`; a minus in front sorts downwards")]
    formats: Annotated[list[str], Meta(description="the formats that can be written now")]
    compressions: Annotated[list[str], Meta(description="how text formats can be compressed")]
    format_details: Annotated[list[FormatOut], Meta(description="every format, also those that cannot be written now")]


class Datasets(Struct):
    """The catalogue."""

    items: Annotated[list[DatasetOut], Meta(description="every dataset")]
