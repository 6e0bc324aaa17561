"""XLSX: one sheet with typed cells. Postgres renders the rows as XML, and they are zipped as they arrive.

No value is changed silently. A value that Excel cannot represent exactly becomes a text with the exact value:

- numbers of more than 15 significant digits, since Excel's cells are binary doubles;
- times before 1 March 1900, as Excel's calendar has a 29 February 1900, and times after the year 9999.

Times are dates in the time zone of the options, else in UTC, stored and shown in whole milliseconds: the microseconds
are cut off, and nothing is rounded up, so the last moment of a year stays in that year. Null is no cell,
an empty text is a cell with an empty text. Texts are inline strings, which no program takes for formulas, in cells
formatted as text, so that they stay texts when somebody edits them. Rows after 1,048,576 and texts of more than 32,767
UTF-16 units, which Excel would cut, fail the export with an error that says so.

With Postgres and zlib, a row takes about a tenth of the time that XlsxWriter needs."""

import asyncio
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape, quoteattr

from erp_service.exports.formats.base import About, Format, Options, Write, times_of
from erp_service.exports.formats.xlsx_cells import MOST_UNITS, ROW_NUMBER, TOO_LONG, cell
from erp_service.exports.formats.zip_stream import Zip
from erp_service.exports.problems import CellTooLong, TooManyRows
from erp_service.registry.datasets import Column, ColumnType

MOST_ROWS = 1_048_575
"""Without the header."""

PIECE = 256 * 1024

_LEVEL = 2  # of zlib: level 6 takes four times as long for a file that is 15 % smaller
_NUMBER, _TOO_LONG = ROW_NUMBER.encode(), TOO_LONG.encode()
_WIDTHS: Mapping[ColumnType, int] = {
    "integer": 10,
    "decimal": 14,
    "text": 24,
    "timestamp": 24,
    "boolean": 8,
    "uuid": 38,
    "json": 40,
}
_HEADER = 2  # cellXfs in _STYLES; those of the other cells are in xlsx_cells


def _select(columns: Sequence[Column], options: Options) -> str:
    cells = ", ".join(
        cell(column, f"{letters(index)}\\x03", times_of(options).sql_zone) for index, column in enumerate(columns, 1)
    )
    return f"""concat(E'<row r="\\x03">', {cells}, '</row>') as row"""


def _copy(_options: Options) -> Mapping[str, str]:
    # one column, one row per line, unchanged: the rendered text contains no line break and neither of these bytes
    return {"format": "csv", "quote": "\x01", "delimiter": "\x02", "encoding": "UTF8"}


def letters(index: int) -> str:
    """The name of a column counted from 1: A, Z, AA."""
    name = ""
    while index:
        index, digit = divmod(index - 1, 26)
        name = chr(ord("A") + digit) + name
    return name


class XlsxEncoder:
    """Numbers the rows and zips them, in pieces and in threads; holds two pieces at most."""

    def __init__(self, columns: Sequence[Column], options: Options, write: Write, about: About) -> None:
        self._columns, self._write, self._about = columns, write, about
        self._timezone = times_of(options).timezone
        self._zip = Zip(_LEVEL)
        self._buffer = bytearray()
        self._rows = 0

    async def begin(self) -> None:
        book = b"".join(
            self._zip.whole(name, _XML + part.encode()) for name, part in _parts(self._about, self._timezone)
        )
        sheet = self._zip.begin("xl/worksheets/sheet1.xml")
        await self._write(book + sheet + self._zip.add(_XML + _head(self._columns).encode()))

    async def write(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) >= PIECE and (end := self._buffer.rfind(b"\n") + 1):
            piece = bytes(self._buffer[:end])
            del self._buffer[:end]
            await self._write(await asyncio.to_thread(self._packed, piece))

    async def finish(self, rows: int) -> None:
        last = await asyncio.to_thread(self._packed, bytes(self._buffer))
        if self._rows != rows:
            raise RuntimeError(f"{self._rows} rows arrived of the {rows} that the server copied")
        column, row = letters(len(self._columns)), rows + 1
        end = f'</sheetData><autoFilter ref="A1:{column}{row}"/></worksheet>'
        tail = self._zip.add(end.encode()) + self._zip.end()
        book = _workbook(self._about.dataset, f"$A$1:${column}${row}")
        tail += self._zip.whole("xl/workbook.xml", _XML + book.encode())
        await self._write(last + tail + self._zip.directory())

    def _packed(self, piece: bytes) -> bytes:
        rows = piece.split(b"\n")
        if rows.pop():
            raise RuntimeError("the last row was cut")
        first = self._rows + 2
        self._rows += len(rows)
        if self._rows > MOST_ROWS:
            raise TooManyRows
        if _TOO_LONG in piece:
            raise _too_long(rows, first)
        numbered = [row.replace(_NUMBER, b"%d" % number) for number, row in enumerate(rows, first)]
        return self._zip.add(b"".join(numbered))


def _too_long(rows: Sequence[bytes], first: int) -> CellTooLong:
    number, row = next((number, row) for number, row in enumerate(rows, first) if _TOO_LONG in row)
    column = row.split(_TOO_LONG)[1].decode()
    return CellTooLong(
        f"Row {number} has a text in {column} that is longer than the {MOST_UNITS:,} characters a cell can hold."
    )


_XML = b'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006"
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_TYPES = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_CORE = "application/vnd.openxmlformats-package.core-properties+xml"

_CONTENT_TYPES = (
    f'<Types xmlns="{_PACKAGE}/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="xml" ContentType="application/xml"/>'
    f'<Override PartName="/xl/workbook.xml" ContentType="{_TYPES}.sheet.main+xml"/>'
    f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{_TYPES}.worksheet+xml"/>'
    f'<Override PartName="/xl/styles.xml" ContentType="{_TYPES}.styles+xml"/>'
    f'<Override PartName="/docProps/core.xml" ContentType="{_CORE}"/></Types>'
)
_RELATIONS = (
    f'<Relationships xmlns="{_PACKAGE}/relationships">'
    f'<Relationship Id="rId1" Type="{_OFFICE}/relationships/officeDocument" Target="xl/workbook.xml"/>'
    f'<Relationship Id="rId2" Type="{_PACKAGE}/relationships/metadata/core-properties" Target="docProps/core.xml"/>'
    "</Relationships>"
)
_BOOK_RELATIONS = (
    f'<Relationships xmlns="{_PACKAGE}/relationships">'
    f'<Relationship Id="rId1" Type="{_OFFICE}/relationships/worksheet" Target="worksheets/sheet1.xml"/>'
    f'<Relationship Id="rId2" Type="{_OFFICE}/relationships/styles" Target="styles.xml"/></Relationships>'
)
_STYLES = (
    f'<styleSheet xmlns="{_MAIN}">'
    '<numFmts count="1"><numFmt numFmtId="164" formatCode="yyyy\\-mm\\-dd\\ hh:mm:ss.000"/></numFmts>'
    '<fonts count="2"><font><sz val="11"/><name val="Calibri"/><family val="2"/></font>'
    '<font><b/><sz val="11"/><name val="Calibri"/><family val="2"/></font></fonts>'
    '<fills count="3"><fill><patternFill patternType="none"/></fill><fill><patternFill patternType="gray125"/></fill>'
    '<fill><patternFill patternType="solid"><fgColor rgb="FFE7ECF2"/><bgColor indexed="64"/></patternFill></fill>'
    "</fills>"
    '<borders count="1"><border><left/><right/><top/><bottom/><diagonal/></border></borders>'
    '<cellStyleXfs count="1"><xf numFmtId="0" fontId="0" fillId="0" borderId="0"/></cellStyleXfs>'
    '<cellXfs count="4"><xf numFmtId="0" fontId="0" fillId="0" borderId="0" xfId="0"/>'
    '<xf numFmtId="164" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1"/>'
    '<xf numFmtId="49" fontId="1" fillId="2" borderId="0" xfId="0" applyNumberFormat="1" applyFont="1" applyFill="1"/>'
    '<xf numFmtId="49" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1"/></cellXfs>'
    '<cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles></styleSheet>'
)


def _parts(about: About, timezone: str) -> list[tuple[str, str]]:
    """The parts of a workbook besides its sheet. The first one lists the others, and identifies the kind of file."""
    return [
        ("[Content_Types].xml", _CONTENT_TYPES),
        ("_rels/.rels", _RELATIONS),
        ("xl/_rels/workbook.xml.rels", _BOOK_RELATIONS),
        ("xl/styles.xml", _STYLES),
        ("docProps/core.xml", _properties(about, timezone)),
    ]


def _properties(about: About, timezone: str) -> str:
    at = f"{about.snapshot_at:%Y-%m-%dT%H:%M:%SZ}"
    return (
        f'<cp:coreProperties xmlns:cp="{_PACKAGE}/metadata/core-properties" xmlns:dc="http://purl.org/dc/elements/1.1/"'
        ' xmlns:dcterms="http://purl.org/dc/terms/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
        f"<dc:title>{escape(about.dataset)}</dc:title>"
        f"<dc:description>{escape(about.description)} As of {at}. All times are in {timezone}.</dc:description>"
        f'<dcterms:created xsi:type="dcterms:W3CDTF">{at}</dcterms:created></cp:coreProperties>'
    )


def _head(columns: Sequence[Column]) -> str:
    """The sheet up to its second row."""
    # the button of the filter is as wide as four letters
    widths = [max(_WIDTHS[column.type], len(column.name) + 4) for column in columns]
    cols = "".join(f'<col min="{n}" max="{n}" width="{width}" customWidth="1"/>' for n, width in enumerate(widths, 1))
    cells = "".join(
        f'<c r="{letters(n)}1" s="{_HEADER}" t="inlineStr"><is><t>{escape(column.name)}</t></is></c>'
        for n, column in enumerate(columns, 1)
    )
    return (
        f'<worksheet xmlns="{_MAIN}"><sheetViews><sheetView tabSelected="1" workbookViewId="0">'
        '<pane ySplit="1" topLeftCell="A2" activePane="bottomLeft" state="frozen"/></sheetView></sheetViews>'
        f'<cols>{cols}</cols><sheetData><row r="1">{cells}</row>'
    )


def _workbook(sheet: str, area: str) -> str:
    """With the hidden name that Excel itself gives to the range of a filter, and the header on each printed page."""
    return (
        f'<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}/relationships"><bookViews><workbookView/></bookViews>'
        f'<sheets><sheet name={quoteattr(sheet)} sheetId="1" r:id="rId1"/></sheets><definedNames>'
        f'<definedName name="_xlnm._FilterDatabase" localSheetId="0" hidden="1">{sheet}!{area}</definedName>'
        f'<definedName name="_xlnm.Print_Titles" localSheetId="0">{sheet}!$1:$1</definedName>'
        "</definedNames></workbook>"
    )


XLSX = Format(
    name="xlsx",
    media_type=f"{_TYPES}.sheet",
    extension="xlsx",
    select=_select,
    copy=_copy,
    encoder=XlsxEncoder,
    most_rows=MOST_ROWS,
)
