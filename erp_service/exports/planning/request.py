"""What is asked for, checked all at once while there is somebody to tell, and what it reads."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.errors import Fault
from erp_service.exports import filenames
from erp_service.exports.catalogue import DATASETS
from erp_service.exports.formats import archive, registry
from erp_service.exports.formats.base import Format
from erp_service.exports.formats.csv_options import CsvOptions
from erp_service.exports.formats.registry import FORMATS
from erp_service.exports.planning.selection import Query, Spec
from erp_service.exports.problems import FormatUnavailable
from erp_service.exports.schemas import ExportRequest
from erp_service.settings import Settings


class PlannedExport(NamedTuple):
    """`values` are the row's; `queries` are what the file is made of, without the format's rendering."""

    values: dict[str, Any]
    format: Format
    queries: list[Query]


def read_request(who: Principal, settings: Settings, request: ExportRequest) -> PlannedExport:
    """Raises errors.Forbidden, and errors.Invalid that names every fault."""
    names_ = archive.readable(who.role) if request.dataset == archive.NAME else None
    spec = Spec(
        columns=request.columns,
        filter=request.filter or {},
        sort=request.sort,
        csv=None if request.csv == CsvOptions() else request.csv,
        filename=request.filename,
        datasets=names_,
    )
    format_ = FORMATS[request.format]
    demand_role(who, request.dataset)
    faults = [*_faults(settings, request, format_)]
    try:
        found = _queries(request.dataset, spec)
    except errors.Invalid as exc:
        found, faults = [], [*faults, *exc.faults]
    if faults:
        raise errors.Invalid(None, *faults)
    hours = settings.export_retention_hours if request.retention_hours is None else request.retention_hours
    values = {
        "dataset": request.dataset,
        "format": request.format,
        "compression": request.compression,
        "spec": msgspec.to_builtins(spec),
        "retention_hours": hours,
    }
    return PlannedExport(values, format_, found)


def reread_request(who: Principal, settings: Settings, row: Any) -> PlannedExport:
    """The request of a job's row, for whoever tries it again, by the limits of now.

    Raises errors.Forbidden, errors.Invalid."""
    spec = msgspec.convert(row.spec, Spec)
    if row.dataset == archive.NAME:
        spec = msgspec.structs.replace(spec, datasets=archive.readable(who.role))
    demand_role(who, row.dataset)
    format_ = FORMATS[row.format]
    if (why := registry.unavailable(format_)) is not None:
        raise FormatUnavailable(f"cannot be written here: {why}")
    values = {name: getattr(row, name) for name in ("dataset", "format", "compression")}
    hours = min(row.retention_hours, settings.export_retention_hours)
    values |= {"spec": msgspec.to_builtins(spec), "retention_hours": hours}
    return PlannedExport(values, format_, _queries(row.dataset, spec))


def demand_role(who: Principal, dataset: str) -> None:
    """Raises errors.Forbidden. `all` is for everybody: it holds what the role allows."""
    least = archive.ROLE if dataset == archive.NAME else DATASETS[dataset].role
    if not who.role.includes(least):
        raise errors.Forbidden(f"Exporting {dataset} needs the role {least} or a higher one; yours is {who.role}.")


def _faults(settings: Settings, request: ExportRequest, format_: Format) -> Iterator[Fault]:
    if request.retention_hours is not None and request.retention_hours > (most := settings.export_retention_hours):
        yield Fault(f"must be at most {most} here", pointer="/retention_hours")
    whole = request.dataset == archive.NAME
    compression = "none" if whole else request.compression
    yield from registry.format_faults(format_, compression, request.csv)
    kind = registry.kind(format_, compression, request.csv or CsvOptions())
    if whole:
        yield from archive.archive_faults(request.columns, request.filter, request.sort, request.compression)
        kind = archive.KIND
    if request.filename is not None:
        found = filenames.filename_faults(
            request.filename, dataset=request.dataset, format_=request.format, extension=kind.extension
        )
        yield from (Fault(fault, pointer="/filename") for fault in found)


def _queries(dataset: str, spec: Spec) -> list[Query]:
    return [member.query for member in archive.members(dataset, spec)]
