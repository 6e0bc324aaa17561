"""What clients send and get about exports."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import Meta, Struct

from erp_service.access.roles import Role
from erp_service.db.pagination import Page
from erp_service.exports import filenames
from erp_service.exports.catalogue import DATASETS
from erp_service.exports.eta import Progress
from erp_service.exports.formats.base import FormatName
from erp_service.exports.formats.compression import CompressionName
from erp_service.exports.formats.csv_options import CsvOptions
from erp_service.exports.models import Status
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
    format: FormatName = "csv"
    compression: CompressionName = "none"
    columns: Annotated[
        Annotated[list[_Name], Meta(min_length=1, max_length=100)] | None,
        Meta(description="some of the dataset's columns, in this order", examples=[["sku", "quantity"]]),
    ] = None
    filter: Annotated[
        Annotated[dict[_Name, _FilterText | int | bool], Meta(max_length=20)] | None,
        Meta(description="the query parameters of the list endpoints; all must hold", examples=[{"sku": "10002"}]),
    ] = None
    sort: Annotated[
        Annotated[str, Meta(min_length=1, max_length=50)] | None,
        Meta(description="one of the dataset's sorts, with a minus for descending order", examples=["-id"]),
    ] = None
    csv: Annotated[CsvOptions | None, Meta(description="how CSV is written; for the format csv only")] = None
    filename: Annotated[
        Annotated[str, Meta(min_length=1, max_length=filenames.MOST_CHARACTERS)] | None,
        Meta(
            description=f"the name of the file: a plain name with any of {filenames.MEANING}. Times are those of the"
            " snapshot, in UTC; a missing extension is added",
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

    rows: int
    bytes: int
    sha256: str
    media_type: str
    filename: str


class ExportLinks(Struct, omit_defaults=True):
    """What can be done with the job now."""

    self: str
    download: str | None = None
    cancel: str | None = None
    retry: str | None = None


class ExportJobOut(Struct):
    """An export. `error` is a problem (RFC 9457), and null unless the export failed."""

    id: UUID
    dataset: DatasetName
    format: FormatName
    compression: CompressionName
    status: Status
    attempt: Annotated[int, Meta(description="how often its run has begun; 0 before the first time")]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: Annotated[datetime | None, Meta(description="when the file is deleted")]
    snapshot_at: Annotated[datetime | None, Meta(description="the file holds what was committed before this time")]
    progress: Progress
    result: Result | None
    error: Annotated[
        dict[str, Any] | None,
        Meta(description="why it failed; null unless it did", extra={"schema": "Problem"}),
    ]
    created_by: Annotated[int, Meta(description="the id of its owner")]
    retry_of: UUID | None
    deduplicated: Annotated[
        bool, Meta(description="true: the same request of yours was waiting or running already; this is its job")
    ]
    links: ExportLinks


class ExportJobPage(Page[ExportJobOut]):
    """Exports, newest first."""

    items: list[ExportJobOut]


class Estimate(Struct, kw_only=True):
    """What the export would be if it were submitted and run now. Nothing was submitted."""

    valid: Literal[True] = True
    datasets: Annotated[list[str], Meta(description="what the file would hold")]
    rows: int
    rows_is_estimate: bool
    bytes: int
    bytes_from: Annotated[
        Literal["exports", "sample", "planner"],
        Meta(description="earlier exports like it; its first rows; or only the row width that Postgres expects"),
    ]
    seconds: Annotated[int, Meta(description="how long it would run once its turn has come")]
    seconds_from: Annotated[
        Literal["exports", "typical"], Meta(description="earlier exports like it, or a typical rate")
    ]
    size: Annotated[Literal["small", "large"], Meta(description="small exports pass large ones that run and wait")]


class SignedAddress(Struct):
    """Addresses that need no token until `expires_at`. They begin with the path if the operator set no public URL."""

    url: Annotated[str, Meta(description="of the file, for GET and HEAD")]
    events_url: Annotated[str, Meta(description="of the job's server-sent events")]
    expires_at: datetime


class DatasetColumn(Struct):
    name: str
    type: ColumnType
    description: str


class DatasetFilter(Struct):
    name: str
    type: str
    description: str


class FormatOut(Struct):
    """`unavailable` says why the answering instance cannot write the format, which is then not among `formats`."""

    name: str
    media_type: str
    extension: str
    compressions: list[str]
    most_rows: int | None
    unavailable: str | None


class DatasetOut(Struct):
    """`role` is the least one that may export the dataset; `allowed` says whether yours is enough."""

    name: str
    description: str
    role: Role
    allowed: bool
    columns: list[DatasetColumn]
    filters: list[DatasetFilter]
    sorts: list[str]
    formats: list[str]
    compressions: list[str]
    format_details: list[FormatOut]


class Datasets(Struct):
    """The catalogue."""

    items: list[DatasetOut]
