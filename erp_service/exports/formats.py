"""The formats that exports come in: what each is made of, and the registry of them.

Every format is a COPY of a select list that Postgres renders, then an encoder over its bytes. A large export may run as
several COPYs of key ranges on one snapshot; an encoder sees one stream of rows, in order, and never knows.
"""

import importlib
import importlib.util
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple, Protocol

from erp_service.errors import Fault
from erp_service.exports.compression import COMPRESSIONS, CompressionName
from erp_service.exports.datasets import Column
from erp_service.exports.options import CsvOptions
from erp_service.exports.options import faults as option_faults

FormatName = Literal["csv", "jsonl", "xlsx", "parquet"]

Options = CsvOptions
"""What formats are told besides the columns. Only CSV heeds it."""

Write = Callable[[bytes], Awaitable[None]]


class About(NamedTuple):
    """What a file says of itself, in the formats that have a place for it. `dataset` is a plain word."""

    dataset: str
    description: str
    snapshot_at: datetime


class Encoder(Protocol):
    """Turns the bytes of COPY into those of the file, and hands them on as they come."""

    async def begin(self) -> None:
        """What stands before the first row."""

    async def write(self, data: bytes) -> None:
        """Rows in order, cut anywhere."""

    async def finish(self, rows: int) -> None:
        """What stands after the last row; `rows` is how many the server counted."""


class Format(NamedTuple):
    """`select` gives a list of constants with no `$` and no line break; `copy` the options of asyncpg's
    `copy_from_query`, which never ask for a header: encoders write it, so that parts join.

    The module of a format with `needs` can be imported without that library: the encoder loads it when it is made."""

    name: str
    media_type: str
    extension: str
    select: Callable[[Sequence[Column], Options], str]
    copy: Callable[[Options], Mapping[str, Any]]
    encoder: Callable[[Sequence[Column], Options, Write, About], Encoder]
    compressible: bool = False
    most_rows: int | None = None
    needs: str | None = None


class _Formats(Mapping[str, Format]):
    """Each is loaded by name when it is first asked for, since its module imports this one."""

    def __init__(self, homes: Mapping[str, tuple[str, str]]) -> None:
        self._homes = homes
        self._loaded: dict[str, Format] = {}

    def __getitem__(self, name: str) -> Format:
        if name not in self._loaded:
            module, attribute = self._homes[name]
            self._loaded[name] = getattr(importlib.import_module(module), attribute)
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._homes)

    def __len__(self) -> int:
        return len(self._homes)


FORMATS: Mapping[str, Format] = _Formats(
    {
        "csv": ("erp_service.exports.text", "CSV"),
        "jsonl": ("erp_service.exports.text", "JSONL"),
        "xlsx": ("erp_service.exports.xlsx", "FORMAT"),
        "parquet": ("erp_service.exports.parquet", "FORMAT"),
    }
)


class Kind(NamedTuple):
    """What a file is to those who get it."""

    media_type: str
    extension: str


def unavailable(format_: Format) -> str | None:
    """Why this instance cannot write the format, or None. Looks for the library and does not load it."""
    if format_.needs is None or importlib.util.find_spec(format_.needs) is not None:
        return None
    return f"The library {format_.needs} is not installed here: pip install 'erp-service[{format_.name}]'."


def compressions(format_: Format) -> list[CompressionName]:
    """Those that go with it: what is compressed already only gets slower by it."""
    return ["none", *(known.name for known in COMPRESSIONS.values())] if format_.compressible else ["none"]


def kind(format_: Format, compression: str, options: Options) -> Kind:
    if compression != "none":
        around = COMPRESSIONS[compression]
        return Kind(around.media_type, f"{format_.extension}.{around.extension}")
    # RFC 4180, section 3
    media_type = format_.media_type if options.header else format_.media_type.replace("=present", "=absent")
    return Kind(media_type, format_.extension)


def faults(format_: Format, compression: CompressionName, csv: CsvOptions | None) -> Iterator[Fault]:
    """What of a request does not go together, or not on this instance."""
    if (why := unavailable(format_)) is not None:
        yield Fault(f"cannot be written here: {why}", pointer="/format")
    if compression not in (known := compressions(format_)):
        yield Fault(f"must be {' or '.join(known)} for {format_.name}", pointer="/compression")
    if csv is not None and format_.name != "csv":
        yield Fault(f"is for the format csv, and this is {format_.name}", pointer="/csv")
    elif csv is not None:
        yield from option_faults(csv)
