"""A request for an export, checked completely while somebody can still correct it, and the queries that it needs."""

from collections.abc import Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import msgspec

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.company.settings import CompanySettings
from erp_service.errors import Fault
from erp_service.exports import filenames
from erp_service.exports.catalogue import DATASETS
from erp_service.exports.formats import archive, presets, registry
from erp_service.exports.formats.base import Format
from erp_service.exports.formats.csv_options import CsvOptions
from erp_service.exports.formats.registry import FORMATS
from erp_service.exports.planning.members import ALL, datasets_for, members, role_for
from erp_service.exports.planning.relative import Moment, resolve
from erp_service.exports.planning.selection import Query, Spec
from erp_service.exports.problems import FormatUnavailable
from erp_service.exports.queries import ExportRow
from erp_service.exports.schemas import ExportRequest
from erp_service.registry.datasets import FilterValue, a_time
from erp_service.timestamps import UTC_ZONE, is_date, parse_time, parse_zone, text_of


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


def read_request(
    who: Principal,
    settings: CompanySettings,
    request: ExportRequest,
    moment: Moment | None = None,
    company: ZoneInfo = UTC_ZONE,
) -> PlannedExport:
    """Dates and relative times are resolved at `moment`, by default now, in the zone of the request, else in that of
    `moment`, else in that of the company. Raises errors.Forbidden, and errors.Invalid that names every fault."""
    require_rights(who, request.dataset)
    format_ = FORMATS[request.format]
    faults = [*_faults(settings, request, format_)]
    at = datetime.now(UTC)
    days = _moment(request, moment or Moment(at, company), faults)
    moment = days if request.timezone else moment or Moment(at, UTC_ZONE)
    spec = Spec(
        columns=request.columns,
        filter=_resolved_filter(request, days, faults),
        sort=request.sort,
        csv=_csv(request, faults),
        filename=request.filename,
        datasets=datasets_for(who) if request.dataset == ALL else None,
        timezone=None if request.timezone == "UTC" else request.timezone,
        plain_times=request.for_ is not None and request.format == "csv",
        filename_timezone=_filename_timezone(request, moment),
    )
    queries: list[Query] = []
    try:
        queries = _queries(request.dataset, spec)
    except errors.Invalid as exc:
        faults += exc.faults
    if faults:
        raise errors.Invalid(None, *faults)
    hours = settings.export_retention_hours if request.retention_hours is None else request.retention_hours
    return PlannedExport(request.dataset, format_, request.compression, spec, hours, queries)


def reread_request(who: Principal, settings: CompanySettings, row: ExportRow) -> PlannedExport:
    """The request of an earlier job, for whoever tries it again, within today's limits.

    Raises errors.Forbidden, errors.Invalid, FormatUnavailable."""
    require_rights(who, row.dataset)
    spec = msgspec.convert(row.spec, Spec)
    if row.dataset == ALL:
        spec = msgspec.structs.replace(spec, datasets=datasets_for(who))
    format_ = FORMATS[row.format]
    if (why := registry.unavailable(format_)) is not None:
        raise FormatUnavailable(f"cannot be written here: {why}")
    hours = min(row.retention_hours, settings.export_retention_hours)
    return PlannedExport(row.dataset, format_, row.compression, spec, hours, _queries(row.dataset, spec))


def require_rights(who: Principal, dataset: str) -> None:
    """Raises errors.Forbidden, errors.KeyScopeMissing."""
    least = role_for(dataset)
    if not who.role.includes(least):
        raise errors.Forbidden(f"Exporting {dataset} needs the role {least} or a higher one; yours is {who.role}.")
    if dataset != ALL:
        who.require_scope(DATASETS[dataset].scope)
    elif not datasets_for(who):
        raise errors.KeyScopeMissing("The key has no scope that a dataset needs.")


def _queries(dataset: str, spec: Spec) -> list[Query]:
    return [member.query for member in members(dataset, spec)]


def _faults(settings: CompanySettings, request: ExportRequest, format_: Format) -> Iterator[Fault]:
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


def _moment(request: ExportRequest, moment: Moment, faults: list[Fault]) -> Moment:
    """With the zone of the request, if it has one."""
    if request.timezone is None:
        return moment
    try:
        return Moment(moment.at, parse_zone(request.timezone))
    except ValueError as exc:
        faults.append(Fault(str(exc), pointer="/timezone"))
        return moment


def _resolved_filter(request: ExportRequest, moment: Moment, faults: list[Fault]) -> dict[str, FilterValue]:
    """The filter with times in place of dates and relative ones, which only a dataset's filters of times take."""
    values = dict(request.filter or {})
    for name, exc in _without_time(request):
        value = str(values[name])
        try:
            values[name] = text_of(parse_time(value, moment.zone) if is_date(value) else resolve(value, moment))
        except ValueError as why:
            del values[name]
            detail = f"is not a value of this filter: it {exc}; or it {why}"
            faults.append(Fault(detail, pointer=f"/filter/{name}"))
    for since, until in (("from", "to"), ("recorded_from", "recorded_to")):
        times = [a_time(values[name]) for name in (since, until) if name in values and name in _time_filters(request)]
        if len(times) == 2 and times[0] > times[1]:
            faults.append(Fault(f"must not be after `{until}`", pointer=f"/filter/{since}"))
    return values


def _without_time(request: ExportRequest) -> Iterator[tuple[str, ValueError]]:
    """The filters of times whose values are no times with a zone, and what is wrong with them as such."""
    for name, value in (request.filter or {}).items():
        if name not in _time_filters(request):
            continue
        try:
            a_time(value)
        except ValueError as exc:
            yield name, exc


def _time_filters(request: ExportRequest) -> set[str]:
    filters = [] if request.dataset == ALL else DATASETS[request.dataset].filters
    return {each.name for each in filters if each.read is a_time}


def needs_zone(request: ExportRequest) -> bool:
    """Whether a filter holds a day that the request has no zone for."""
    return request.timezone is None and any(_without_time(request))


def _filename_timezone(request: ExportRequest, moment: Moment) -> str | None:
    """The zone of `moment`, if it decides what is in the name. Requests that make the same file have the same spec."""
    has_local_time = any(f"{{{name}}}" in (request.filename or "") for name in filenames.LOCAL)
    return moment.zone.key if request.timezone is None and has_local_time and moment.zone != UTC_ZONE else None


def _csv(request: ExportRequest, faults: list[Fault]) -> CsvOptions | None:
    if request.for_ is None:
        return None if request.csv == CsvOptions() else request.csv
    try:
        options = presets.options_for(request.for_)
    except ValueError as exc:
        faults.append(Fault(str(exc), pointer="/for"))
        return None
    if request.format not in ("csv", "xlsx"):
        faults.append(Fault(f"is for the format csv or xlsx, and this is {request.format}", pointer="/for"))
    if request.csv is not None:
        faults.append(Fault("stands in place of `csv`: give one or the other", pointer="/for"))
    return options if request.format == "csv" else None


def _archive_faults(request: ExportRequest) -> Iterator[Fault]:
    """What has no meaning for all datasets together."""
    for name in ("columns", "filter", "sort"):
        if getattr(request, name):
            yield Fault("is for one dataset: for all of them, leave it out", pointer=f"/{name}")
    if request.compression != "none":
        yield Fault("must be none for all datasets: the archive is compressed already", pointer="/compression")
