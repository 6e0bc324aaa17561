"""A request for an export, checked completely while somebody can still correct it, and the queries that it needs."""

from collections.abc import Iterator

import msgspec

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.errors import Fault
from erp_service.exports import filenames
from erp_service.exports.formats import archive, registry
from erp_service.exports.formats.base import Format
from erp_service.exports.formats.csv_options import CsvOptions
from erp_service.exports.formats.registry import FORMATS
from erp_service.exports.planning.members import ALL, datasets_for, members, role_for
from erp_service.exports.planning.selection import Query, Spec
from erp_service.exports.problems import FormatUnavailable
from erp_service.exports.queries import ExportRow
from erp_service.exports.schemas import ExportRequest
from erp_service.settings import Settings


class PlannedExport(msgspec.Struct, frozen=True):
    """A request that can be fulfilled. `queries`, one for each dataset of the file, select the values as text; the run
    selects the same rows as the format renders them."""

    dataset: str
    format: Format
    compression: str
    spec: Spec
    retention_hours: int
    queries: list[Query]

    @property
    def datasets(self) -> list[str]:
        """Those that the file holds."""
        return self.spec.datasets or [self.dataset]

    def row_values(self) -> dict[str, object]:
        """The columns of the job's row that hold the request."""
        return {
            "dataset": self.dataset,
            "format": self.format.name,
            "compression": self.compression,
            "spec": msgspec.to_builtins(self.spec),
            "retention_hours": self.retention_hours,
        }


def read_request(who: Principal, settings: Settings, request: ExportRequest) -> PlannedExport:
    """Raises errors.Forbidden, and errors.Invalid that names every fault."""
    require_role(who, request.dataset)
    spec = Spec(
        columns=request.columns,
        filter=request.filter or {},
        sort=request.sort,
        csv=None if request.csv == CsvOptions() else request.csv,
        filename=request.filename,
        datasets=datasets_for(who.role) if request.dataset == ALL else None,
    )
    format_ = FORMATS[request.format]
    faults = [*_faults(settings, request, format_)]
    queries: list[Query] = []
    try:
        queries = _queries(request.dataset, spec)
    except errors.Invalid as exc:
        faults += exc.faults
    if faults:
        raise errors.Invalid(None, *faults)
    hours = settings.export_retention_hours if request.retention_hours is None else request.retention_hours
    return PlannedExport(request.dataset, format_, request.compression, spec, hours, queries)


def reread_request(who: Principal, settings: Settings, row: ExportRow) -> PlannedExport:
    """The request of an earlier job, for whoever tries it again, within today's limits.

    Raises errors.Forbidden, errors.Invalid, FormatUnavailable."""
    require_role(who, row.dataset)
    spec = msgspec.convert(row.spec, Spec)
    if row.dataset == ALL:
        spec = msgspec.structs.replace(spec, datasets=datasets_for(who.role))
    format_ = FORMATS[row.format]
    if (why := registry.unavailable(format_)) is not None:
        raise FormatUnavailable(f"cannot be written here: {why}")
    hours = min(row.retention_hours, settings.export_retention_hours)
    return PlannedExport(row.dataset, format_, row.compression, spec, hours, _queries(row.dataset, spec))


def require_role(who: Principal, dataset: str) -> None:
    """Raises errors.Forbidden."""
    least = role_for(dataset)
    if not who.role.includes(least):
        raise errors.Forbidden(f"Exporting {dataset} needs the role {least} or a higher one; yours is {who.role}.")


def _queries(dataset: str, spec: Spec) -> list[Query]:
    return [member.query for member in members(dataset, spec)]


def _faults(settings: Settings, request: ExportRequest, format_: Format) -> Iterator[Fault]:
    if request.retention_hours is not None and request.retention_hours > (most := settings.export_retention_hours):
        yield Fault(f"must be at most {most} here", pointer="/retention_hours")
    is_archive = request.dataset == ALL
    compression = "none" if is_archive else request.compression
    yield from registry.format_faults(format_, compression, request.csv)
    kind = registry.kind(format_, compression, request.csv or CsvOptions())
    if is_archive:
        yield from _archive_faults(request)
        kind = archive.KIND
    if request.filename is not None:
        faults = filenames.filename_faults(
            request.filename, dataset=request.dataset, format_=request.format, extension=kind.extension
        )
        yield from (Fault(fault, pointer="/filename") for fault in faults)


def _archive_faults(request: ExportRequest) -> Iterator[Fault]:
    """What has no meaning for all datasets together."""
    for name in ("columns", "filter", "sort"):
        if getattr(request, name):
            yield Fault("is for one dataset: for all of them, leave it out", pointer=f"/{name}")
    if request.compression != "none":
        yield Fault("must be none for all datasets: the archive is compressed already", pointer="/compression")
