"""The formats by name, and which parts of a request do not fit a format."""

import importlib.util
from collections.abc import Iterator, Mapping

from erp_service.errors import Fault
from erp_service.exports.formats.base import Format, Kind, Options
from erp_service.exports.formats.compression import COMPRESSIONS, CompressionName
from erp_service.exports.formats.csv_format import CSV
from erp_service.exports.formats.csv_options import CsvOptions, csv_option_faults
from erp_service.exports.formats.json_lines import JSONL
from erp_service.exports.formats.parquet import PARQUET
from erp_service.exports.formats.xlsx import XLSX

FORMATS: Mapping[str, Format] = {known.name: known for known in (CSV, JSONL, XLSX, PARQUET)}


def unavailable(format_: Format) -> str | None:
    """Why this instance cannot write the format, or None. Looks for the library and does not load it."""
    if format_.needs is None or importlib.util.find_spec(format_.needs) is not None:
        return None
    return f"The library {format_.needs} is not installed here: pip install 'erp-service[{format_.name}]'."


def compressions(format_: Format) -> list[CompressionName]:
    """Those that can be combined with the format: one that is compressed already would only become slower."""
    return ["none", *(known.name for known in COMPRESSIONS.values())] if format_.compressible else ["none"]


def kind(format_: Format, compression: str, options: Options) -> Kind:
    if compression != "none":
        around = COMPRESSIONS[compression]
        return Kind(around.media_type, f"{format_.extension}.{around.extension}")
    # RFC 4180, section 3
    media_type = format_.media_type if options.header else format_.media_type.replace("=present", "=absent")
    return Kind(media_type, format_.extension)


def format_faults(format_: Format, compression: CompressionName, csv: CsvOptions | None) -> Iterator[Fault]:
    """What cannot be combined, or not on this instance."""
    if (why := unavailable(format_)) is not None:
        yield Fault(f"cannot be written here: {why}", pointer="/format")
    if compression not in (known := compressions(format_)):
        yield Fault(f"must be {' or '.join(known)} for {format_.name}", pointer="/compression")
    if csv is not None and format_.name != "csv":
        yield Fault(f"is for the format csv, and this is {format_.name}", pointer="/csv")
    elif csv is not None:
        yield from csv_option_faults(csv)
