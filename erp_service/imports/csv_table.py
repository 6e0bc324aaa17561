"""A CSV file as records with line numbers. Every fault is collected, and none of them stops the reading.

A record (RFC 4180) is what the file holds of one row of the table; with line feeds in quotes it spans several lines.
"""

import csv
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from operator import itemgetter
from typing import BinaryIO, TypeAlias

import msgspec

from erp_service.inventory.stock_schemas import METADATA_MEMBERS

MAX_FAULTS = 100
MAX_RECORD = 128 * 1024  # characters; the csv module's own limit for one field

RowProgress: TypeAlias = Callable[[int, str], None]
"""Called now and then with the number of rows that are done, and the phase."""


class LineFault(msgspec.Struct, frozen=True):
    """A fault of one line, counted from 1 with the header; `line` is None for a fault of the file as a whole."""

    detail: str
    line: int | None = None
    column: str | None = None

    def __str__(self) -> str:
        position = [f"line {self.line}"] if self.line else []
        position += [self.column] if self.column else []
        return f"{', '.join(position)}: {self.detail}" if position else self.detail


class ImportRefused(Exception):
    """Nothing was imported. `faults` are the first hundred faults, `total` is the number of all of them."""

    def __init__(self, faults: Sequence[LineFault], total: int) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults
        self.total = total

    @classmethod
    def because(cls, detail: str) -> "ImportRefused":
        return cls([LineFault(detail)], 1)


class Faults:
    """Collects faults: the first hundred in full, the others as a number."""

    def __init__(self) -> None:
        self.first: list[LineFault] = []
        self.total = 0

    def add(self, line: int | None, column: str | None, detail: str) -> None:
        self.total += 1
        if len(self.first) < MAX_FAULTS:
            self.first.append(LineFault(detail, line, column))

    def check(self) -> None:
        """Raises ImportRefused if there is any fault."""
        if self.total:
            raise ImportRefused(sorted(self.first, key=lambda fault: fault.line or 0), self.total)


class Layout(msgspec.Struct, frozen=True):
    """The columns of one kind of file. Other columns (extras) are kept as metadata, or refused."""

    required: tuple[str, ...]
    optional: tuple[str, ...]
    keeps_extras: bool = False

    @property
    def known(self) -> tuple[str, ...]:
        return self.required + self.optional


class Table:
    """The records of a file under its header. `extras` are the positions and names of the columns not in the layout.

    Raises ImportRefused if the header is wrong: then nothing below it can be read."""

    def __init__(self, file: BinaryIO, layout: Layout, faults: Faults) -> None:
        self._faults = faults
        file.seek(0)
        self._lines = _TextLines(file, faults)
        self._reader = csv.reader(self._lines, strict=True)
        first = next(self._records(), None)
        if first is None:
            faults.check()
            raise ImportRefused.because("The file is empty.")
        self._header = [name.strip() for name in first[1]]
        _check_header(self._header, layout)
        # A column that the file does not have is read from the empty value that is appended to each record.
        self._pick = itemgetter(
            *(self._header.index(c) if c in self._header else len(self._header) for c in layout.known)
        )
        self.extras = [(index, name) for index, name in enumerate(self._header) if name not in layout.known]

    def __iter__(self) -> Iterator[tuple[int, tuple[str, ...], list[str]]]:
        """The line of each record, the texts of its known columns in the layout's order ("" for none), the record."""
        width, pick, add = len(self._header), self._pick, self._faults.add
        for line, record in self._records():
            if len(record) == width:
                record.append("")
                yield line, pick(record), record
            else:
                add(line, None, f"has {len(record)} values, but the header names {width} columns")

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        lines, reader = self._lines, self._reader
        while True:
            line = reader.line_num + 1
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
            if record:  # an empty line is no record
                yield line, record


class _TextLines:
    """The lines of the file as text, for the csv module. Bytes that are not text are a fault, and are replaced."""

    def __init__(self, file: BinaryIO, faults: Faults) -> None:
        self._file = file
        self._faults = faults
        self._number = 0
        self.record_length = 0  # characters since the record began; Table sets it back

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        raw = self._file.readline(4 * MAX_RECORD + 2)
        if not raw:
            raise StopIteration
        self._number += 1
        try:
            text = raw.decode("utf-8-sig" if self._number == 1 else "utf-8")
        except UnicodeDecodeError:
            self._faults.add(self._number, None, "is not UTF-8")
            text = raw.decode("utf-8", errors="replace")
        if "\0" in text:
            self._faults.add(self._number, None, "holds a NUL character")
            text = text.replace("\0", "")
        self.record_length += len(text)
        if self.record_length > MAX_RECORD:
            raise csv.Error("field limit")
        return text


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


_HeaderFault: TypeAlias = tuple[str | None, str]
"""A column, or None for the header as a whole, and what is wrong."""


def _check_header(header: list[str], layout: Layout) -> None:
    """Raises ImportRefused that names every fault of the header."""
    faults = Faults()
    for column, detail in chain(_missing(header, layout), _misnamed(header), _unknown(header, layout)):
        faults.add(1, column, detail)
    faults.check()


def _missing(header: list[str], layout: Layout) -> Iterator[_HeaderFault]:
    missing = [name for name in layout.required if name not in header]
    for name in missing:
        yield name, f"the column is missing; there must be {', '.join(layout.required)}"
    if missing and len(header) == 1 and ";" in header[0]:
        yield None, "the columns are separated by semicolons; separate them by commas"


def _misnamed(header: list[str]) -> Iterator[_HeaderFault]:
    for index, name in enumerate(header):
        if not name:
            yield None, f"column {index + 1} has no name"
        elif name in header[:index]:
            yield name, "the column is there twice"


def _unknown(header: list[str], layout: Layout) -> Iterator[_HeaderFault]:
    extras = [name for name in header if name and name not in layout.known]
    if not layout.keeps_extras:
        for name in extras:
            yield name, f"is not a column of this kind of file; its columns are {', '.join(layout.known)}"
    elif len(extras) > METADATA_MEMBERS:
        yield None, f"{len(extras)} columns are not known, and only {METADATA_MEMBERS} can be kept as metadata"
