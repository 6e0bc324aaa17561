"""CSV and JSON Lines, rendered by Postgres: what is done here is a header, and another line end for those who ask."""

from collections.abc import Mapping, Sequence
from typing import Any

from erp_service.exports.formats.base import About, Format, Options, Write
from erp_service.exports.planning.selection import as_text
from erp_service.formulas import FORMULA_STARTS
from erp_service.registry.datasets import Column

_BOM = b"\xef\xbb\xbf"
_GUARDED = ", ".join(str(ord(character)) for character in FORMULA_STARTS)


class CsvEncoder:
    """The header, then what COPY wrote."""

    def __init__(self, columns: Sequence[Column], options: Options, write: Write, _about: About) -> None:
        self._columns, self._options, self._write = columns, options, write
        self._quoted = False

    async def begin(self) -> None:
        # names are plain words, which need no quotes
        header = self._options.delimiter.join(column.name for column in self._columns) + "\n"
        before = _BOM if self._options.bom else b""
        if self._options.header:
            before += self._ended(header.encode())
        if before:
            await self._write(before)

    async def write(self, data: bytes) -> None:
        await self._write(self._ended(data))

    async def finish(self, rows: int) -> None:
        pass

    def _ended(self, data: bytes) -> bytes:
        """With the line ends that were asked for. A quote within quotes stands twice, so it opens what it closes."""
        if self._options.line_ending == "lf":
            return data
        pieces = data.split(b'"')
        for place in range(self._quoted, len(pieces), 2):
            pieces[place] = pieces[place].replace(b"\n", b"\r\n")
        self._quoted ^= len(pieces) % 2 == 0
        return b'"'.join(pieces)


def _csv_select(columns: Sequence[Column], options: Options) -> str:
    return ", ".join(f"{_csv_cell(column, options)} as {column.name}" for column in columns)


def _csv_cell(column: Column, options: Options) -> str:
    cell = as_text(column)
    if column.type == "decimal" and options.decimal_comma:
        return f"replace(({cell})::text, '.', ',')"
    if column.type == "text" and options.formula_guard:
        return f"case when ascii({cell}) in ({_GUARDED}) then '''' || {cell} else {cell} end"
    return cell


def _csv_copy(options: Options) -> Mapping[str, Any]:
    # a null in quotes would be a text: COPY quotes every other value that looks like it
    return {"format": "csv", "encoding": "UTF8", "delimiter": options.delimiter, "null": options.null}


CSV = Format(
    name="csv",
    media_type="text/csv; charset=utf-8; header=present",
    extension="csv",
    select=_csv_select,
    copy=_csv_copy,
    encoder=CsvEncoder,
    compressible=True,
)


class JsonLinesEncoder:
    """What COPY wrote."""

    def __init__(self, _columns: Sequence[Column], _options: Options, write: Write, _about: About) -> None:
        self._write = write

    async def begin(self) -> None:
        pass

    async def write(self, data: bytes) -> None:
        await self._write(data)

    async def finish(self, rows: int) -> None:
        pass


def _json_select(columns: Sequence[Column], _options: Options) -> str:
    """One text a row: joining strings costs less than building JSON and rendering it."""
    members = [f"""'"{column.name}":' || coalesce({_json_value(column)}, 'null')""" for column in columns]
    return "'{' || " + " || ',' || ".join(members) + " || '}'"


def _json_value(column: Column) -> str:
    """As the API answers it: quantities and money are strings, which no reader takes for binary floats."""
    text = as_text(column)
    match column.type:
        case "integer" | "boolean" | "json":
            return f"({text})::text"
        case "text":
            # the one type that needs escapes; it leaves no line end and no control character
            return f"to_json({text})::text"
        case _:
            return f"""'"' || ({text})::text || '"'"""


def _json_copy(_options: Options) -> Mapping[str, Any]:
    # COPY's text format would double backslashes. CSV of one column leaves it as it is, if the quote and the delimiter
    # are bytes that JSON never holds.
    return {"format": "csv", "encoding": "UTF8", "quote": "\x01", "delimiter": "\x02"}


JSONL = Format(
    name="jsonl",
    media_type="application/jsonl",
    extension="jsonl",
    select=_json_select,
    copy=_json_copy,
    encoder=JsonLinesEncoder,
    compressible=True,
)
