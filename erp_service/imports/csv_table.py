"""A file of CSV or JSON Lines as records with line numbers. Every fault is collected, and none stops the reading.

A record (RFC 4180) is what the file holds of one row of the table; with line feeds in quotes it spans several lines.
"""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import BinaryIO, TypeAlias

from erp_service.formulas import looks_guarded
from erp_service.imports.files.dialect import Dialect, certain_separator, header_names, separator_line
from erp_service.imports.files.faults import Faults, ImportRefused
from erp_service.imports.files.header import Layout, check_header
from erp_service.imports.files.json_lines import JsonLines, NotAnObject, looks_like_objects
from erp_service.imports.files.text_lines import MAX_RECORD, TextLines
from erp_service.texts import nfc

Row: TypeAlias = tuple[int, tuple[str, ...], list[str]]
Position: TypeAlias = tuple[int, int]
"""The line of a record, and the offset of its first byte in the file."""

AS_OURS = Dialect()

RowProgress: TypeAlias = Callable[[int, str], None]
"""Called now and then with the number of rows that are done, and the phase."""


class Table:
    """The records of a file under its header. `extras` are the positions and names of the columns not in the layout.

    Of several layouts, the one whose required columns are all there is used, or else the first; `layout` is that one.
    Raises ImportRefused if the header is wrong: then nothing below it can be read."""

    def __init__(
        self, file: BinaryIO, layouts: Layout | Sequence[Layout], faults: Faults, dialect: Dialect = AS_OURS
    ) -> None:
        layouts = (layouts,) if isinstance(layouts, Layout) else layouts
        self._file, self._faults = file, faults
        self.dialect = dialect
        self.blank_rows = 0
        self._warned = False  # once for a file, which may be read twice
        self._lines = TextLines(file, faults)
        names = self._begin(layouts)
        self._header = header_names(names)
        while self._header and not self._header[-1]:
            self._header.pop()  # a separator at the end of each line
        self.layout = next((one for one in layouts if set(one.required) <= set(self._header)), layouts[0])
        check_header(self._header, self.layout)
        # A column that the file does not have is read from the empty value that is appended to each record.
        self._pick = itemgetter(
            *(self._header.index(c) if c in self._header else len(self._header) for c in self.layout.known)
        )
        self._unnamed = [index for index, name in enumerate(self._header) if not name]
        passed_over = {"", *self.layout.known, *self.layout.read_only}
        self.extras = [(i, nfc(names[i]).strip()) for i, name in enumerate(self._header) if name not in passed_over]
        self.has = frozenset(self._header).__contains__
        faults.header = self._header
        self.position: Position = (0, 0)
        """Of the record that was read last."""

    def _begin(self, layouts: Sequence[Layout]) -> list[str]:
        """Open the reader of CSV or of JSON Lines, positioned at the first row; returns the names of its columns."""
        self._reader: Iterator[list[str]]
        if looks_like_objects(self._lines.peek()):
            self._reader = lines = JsonLines(self._lines)
            return lines.header
        self._reader = csv.reader(self._lines, strict=True, delimiter=self._separator(layouts))
        if (first := next(self._records(), None)) is None:
            self._faults.check()
            raise ImportRefused.because("The file is empty.")
        return first[1]

    def _separator(self, layouts: Sequence[Layout]) -> str:
        """Positions the lines at the header. What the caller says wins over what is recognised."""
        first = self._lines.peek()
        if (separator := separator_line(first)) is not None:
            next(self._lines)
        else:
            separator = certain_separator(first, [layout.required for layout in layouts])
        return self.dialect.delimiter or separator or ","

    def column_of(self, pointer: str | None) -> str:
        """The column that a fault of a body is in. A member of the metadata has a column of its own, unless the file
        has a column `metadata`."""
        path = (pointer or "").removeprefix("/")
        return path if self.has("metadata") else path.removeprefix("metadata/")

    def again(self, faults: Faults) -> "Table":
        """The same file from its beginning. This one is not read any further: both have one position."""
        return Table(self._file, self.layout, faults, self.dialect)

    def __iter__(self) -> Iterator[Row]:
        """The line of each record, the texts of its known columns in the layout's order ("" for none), the record."""
        return self._rows(self._records())

    def at(self, positions: Iterable[Position]) -> Iterator[Row]:
        """The same for the records at these positions, in this order."""
        return self._rows(self._records_at(positions))

    def _rows(self, records: Iterator[tuple[int, list[str]]]) -> Iterator[Row]:
        width, pick, add = len(self._header), self._pick, self._faults.add
        for line, cells in records:
            record = cells
            if len(record) > width and not any(record[width:]):
                del record[width:]
            self._faults.line, self._faults.record = line, record
            text = "".join(record)
            if not text.isascii():
                # not before the record is split: there are characters whose composed form is a separator
                record = [nfc(cell) for cell in record]
            if not text.strip():
                self.blank_rows += 1
            elif len(record) != width:
                add(line, None, f"has {len(record)} values, but the header names {width} columns")
            else:
                for index in self._unnamed:
                    if record[index]:
                        add(line, f"column {index + 1}", f"has no name in the header, and holds {record[index]!r}")
                if "'" in text and not self._warned and any(map(looks_guarded, record)):
                    self._warned = True
                    self._faults.warn(line, None, _GUARDED)
                record.append("")
                yield line, pick(record), record

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        lines, reader = self._lines, self._reader
        while True:
            line, offset = lines.number + 1, lines.offset
            lines.record_length = 0
            try:
                record = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                self._faults.add(line, None, _explanation(str(error)))
                if lines.record_length > MAX_RECORD:
                    return  # it cannot be known where the next record starts
                continue
            except NotAnObject as error:
                self._faults.add(line, None, str(error))
                continue
            if record:
                self.position = line, offset
                yield line, record
            else:
                self.blank_rows += 1

    def _records_at(self, positions: Iterable[Position]) -> Iterator[tuple[int, list[str]]]:
        for line, offset in positions:
            self._lines.seek(line, offset)
            self._lines.record_length = 0
            yield line, next(self._reader)


_GUARDED = (
    "has an apostrophe before what would be a formula, as an export with `formula_guard` or `for` writes it, and is"
    " taken as it is: export without these to import it elsewhere. There may be more such lines"
)


def _explanation(error: str) -> str:
    """The csv module's message in words for the author of the file."""
    if "limit" in error:
        return f"is longer than {MAX_RECORD} characters; perhaps a quote before it never closes. Reading stopped here"
    if "unexpected end" in error:
        return "has a quote that never closes"
    if "expected after" in error:
        return "goes on after a closing quote: write a quote inside quotes twice"
    if "new-line" in error:
        return "holds a carriage return outside quotes"
    return f"is not CSV: {error}"
