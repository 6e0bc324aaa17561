"""What a format is made of.

Every format is a COPY of a select list that Postgres renders, followed by an encoder over its bytes. A large export may
run as several COPYs of key ranges on one snapshot; the encoder sees one stream of rows in order and cannot tell.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Literal, NamedTuple, Protocol

from erp_service.exports.formats.csv_options import CsvOptions
from erp_service.registry.datasets import Column
from erp_service.timestamps import postgres_zone

FormatName = Literal["csv", "jsonl", "xlsx", "parquet"]

Options = CsvOptions
"""What formats get besides the columns. Only CSV uses it, and only CSV and XLSX what FileOptions adds."""


class Times(NamedTuple):
    """How times are shown to people. `timezone` is the checked name of a zone that Postgres knows.

    `plain`: as local times without a zone, which spreadsheets read as times."""

    timezone: str = "UTC"
    plain: bool = False

    @property
    def sql_zone(self) -> str:
        """For a constant of SQL."""
        return postgres_zone(self.timezone)


class FileOptions(CsvOptions, frozen=True, kw_only=True, omit_defaults=True):
    """Options of one file."""

    times: Times = Times()


def times_of(options: Options) -> Times:
    return options.times if isinstance(options, FileOptions) else Times()


Write = Callable[[bytes], Awaitable[None]]


class About(NamedTuple):
    """What a file says of itself, in formats that can hold it. `dataset` is a plain word."""

    dataset: str
    description: str
    snapshot_at: datetime


class Encoder(Protocol):
    """Turns the bytes of COPY into those of the file, and passes them on as they come."""

    async def begin(self) -> None:
        """Write what comes before the first row."""

    async def write(self, data: bytes) -> None:
        """Take rows in order, cut at any byte."""

    async def finish(self, rows: int) -> None:
        """Write what comes after the last row; `rows` is how many the server counted."""


class Format(NamedTuple):
    """`select` gives a select list of constants with no `$` and no line break; `copy` the options of asyncpg's
    `copy_from_query`, which never ask for a header: encoders write it, so that ranges can be joined.

    The module of a format with `needs` can be imported without that library: the encoder loads it when it is created.
    """

    name: str
    media_type: str
    extension: str
    select: Callable[[Sequence[Column], Options], str]
    copy: Callable[[Options], Mapping[str, str]]
    encoder: Callable[[Sequence[Column], Options, Write, About], Encoder]
    compressible: bool = False
    most_rows: int | None = None
    needs: str | None = None


class Kind(NamedTuple):
    """How a file is labelled for those who get it."""

    media_type: str
    extension: str
