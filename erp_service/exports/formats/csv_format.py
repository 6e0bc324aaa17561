"""CSV. Postgres renders the rows; the encoder adds the header, and converts line ends if the options say so."""

from collections.abc import Mapping, Sequence

from erp_service.exports.formats.base import About, Format, Options, Write, times_of
from erp_service.exports.formats.text_values import as_text, time_as_text
from erp_service.formulas import guarded_json_sql, guarded_sql
from erp_service.registry.datasets import Column

_BOM = b"\xef\xbb\xbf"


class CsvEncoder:
    """Writes the header, then what COPY writes."""

    def __init__(self, columns: Sequence[Column], options: Options, write: Write, _about: About) -> None:
        self._columns, self._options, self._write = columns, options, write
        self._in_quotes = False

    async def begin(self) -> None:
        # the names are plain words and need no quotes
        header = self._options.separator.join(column.name for column in self._columns) + "\n"
        start = _BOM if self._options.bom else b""
        if self._options.header:
            start += self._with_line_ends(header.encode())
        if start:
            await self._write(start)

    async def write(self, data: bytes) -> None:
        await self._write(self._with_line_ends(data))

    async def finish(self, rows: int) -> None:
        pass

    def _with_line_ends(self, data: bytes) -> bytes:
        """The data with the line ends of the options, except inside quotes.

        A quote within a quoted value is doubled, so counting every quote as a change of state is right."""
        if self._options.line_ending == "lf":
            return data
        pieces = data.split(b'"')
        for index in range(self._in_quotes, len(pieces), 2):
            pieces[index] = pieces[index].replace(b"\n", b"\r\n")
        self._in_quotes ^= len(pieces) % 2 == 0
        return b'"'.join(pieces)


def _select(columns: Sequence[Column], options: Options) -> str:
    return ", ".join(f"{_cell(column, options)} as {column.name}" for column in columns)


def _cell(column: Column, options: Options) -> str:
    cell = as_text(column)
    if column.type == "decimal" and options.decimal_comma:
        return f"replace(({cell})::text, '.', ',')"
    if column.type == "timestamp":
        return time_as_text(column, times_of(options))
    if column.type == "text" and options.formula_guard:
        return guarded_sql(cell)
    if column.type == "json" and options.formula_guard:
        return guarded_json_sql(cell)
    return cell


def _copy(options: Options) -> Mapping[str, str]:
    # COPY quotes every value that looks like the text for null, so readers can tell them apart
    return {"format": "csv", "encoding": "UTF8", "delimiter": options.separator, "null": options.null}


CSV = Format(
    name="csv",
    media_type="text/csv; charset=utf-8; header=present",
    extension="csv",
    select=_select,
    copy=_copy,
    encoder=CsvEncoder,
    compressible=True,
)
