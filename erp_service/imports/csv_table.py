"""CSV as records with line numbers, and what is wrong with them: every fault is collected, none stops the reading."""

import csv
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import BinaryIO

import msgspec

MAX_FAULTS = 100
MAX_RECORD = 128 * 1024  # the csv module's own limit for one field, in characters
MAX_EXTRAS = 16


class LineFault(msgspec.Struct, frozen=True):
    """What is wrong with one line, counted from 1 with the header; `line` is None for the file as a whole."""

    detail: str
    line: int | None = None
    column: str | None = None

    def __str__(self) -> str:
        place = [f"line {self.line}"] if self.line else []
        place += [self.column] if self.column else []
        return f"{', '.join(place)}: {self.detail}" if place else self.detail


class ImportRefused(Exception):
    """Nothing was imported. `faults` are the first hundred that were found, `total` is how many there are."""

    def __init__(self, faults: Sequence[LineFault], total: int) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults
        self.total = total

    @classmethod
    def because(cls, detail: str) -> "ImportRefused":
        return cls([LineFault(detail)], 1)


class Faults:
    """Collects: the first hundred in full, the rest as a number."""

    def __init__(self) -> None:
        self.first: list[LineFault] = []
        self.total = 0

    def add(self, line: int | None, column: str | None, detail: str) -> None:
        self.total += 1
        if len(self.first) < MAX_FAULTS:
            self.first.append(LineFault(detail, line, column))

    def check(self) -> None:
        """Raises ImportRefused if there is any."""
        if self.total:
            raise ImportRefused(sorted(self.first, key=lambda fault: fault.line or 0), self.total)


class Layout(msgspec.Struct, frozen=True):
    """The columns of one kind of file. What it does not know is kept as an extra, or refused."""

    required: tuple[str, ...]
    optional: tuple[str, ...]
    keeps_extras: bool = False

    @property
    def known(self) -> tuple[str, ...]:
        return self.required + self.optional


class Table:
    """The records of a file under its header.

    Raises ImportRefused when the header itself is wrong: then nothing below it can be read."""

    def __init__(self, file: BinaryIO, layout: Layout, faults: Faults) -> None:
        self._faults = faults
        file.seek(0)
        self._lines = _Lines(file, faults)
        self._reader = csv.reader(self._lines, strict=True)
        first = next(self._records(), None)
        if first is None:
            faults.check()
            raise ImportRefused.because("The file is empty.")
        self._header = [name.strip() for name in first[1]]
        _check_header(self._header, layout)
        # A column that the file does not have is read from the empty value that is put behind each record.
        self._pick = itemgetter(
            *(self._header.index(c) if c in self._header else len(self._header) for c in layout.known)
        )
        self.extras = [(place, name) for place, name in enumerate(self._header) if name not in layout.known]

    def __iter__(self) -> Iterator[tuple[int, tuple[str, ...], list[str]]]:
        """Each record's line, its known columns in the layout's order ("" for none), and the record as it stands."""
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
            lines.taken = 0
            try:
                record = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                self._faults.add(line, None, _explained(str(error)))
                if lines.taken > MAX_RECORD:
                    return  # nobody can tell where the next record starts
                continue
            if record:  # an empty line is none
                yield line, record


class _Lines:
    """Lines of text for the csv module; what is no text is a fault, and is read on as something harmless."""

    def __init__(self, file: BinaryIO, faults: Faults) -> None:
        self._file = file
        self._faults = faults
        self._number = 0
        self.taken = 0  # characters since the record began

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
        self.taken += len(text)
        if self.taken > MAX_RECORD:
            raise csv.Error("field limit")
        return text


def _explained(error: str) -> str:
    if "limit" in error:
        return f"is longer than {MAX_RECORD} characters; perhaps a quote before it never closes. Reading stopped here"
    if "unexpected end" in error:
        return "has a quote that never closes"
    if "expected after" in error:
        return "goes on after a closing quote: write a quote inside quotes twice"
    if "new-line" in error:
        return "holds a carriage return outside quotes"
    return f"is not CSV: {error}"


def _check_header(header: list[str], layout: Layout) -> None:
    faults = Faults()
    for name in layout.required:
        if name not in header:
            faults.add(1, name, f"the column is missing; there must be {', '.join(layout.required)}")
    if faults.total and len(header) == 1 and ";" in header[0]:
        faults.add(1, None, "the columns are separated by semicolons; separate them by commas")
    for place, name in enumerate(header):
        if not name:
            faults.add(1, None, f"column {place + 1} has no name")
        elif name in header[:place]:
            faults.add(1, name, "the column is there twice")
    extras = [name for name in header if name and name not in layout.known]
    if not layout.keeps_extras:
        for name in extras:
            faults.add(1, name, f"is no column of such a file; known are {', '.join(layout.known)}")
    elif len(extras) > MAX_EXTRAS:
        faults.add(1, None, f"{len(extras)} columns are not known, and only {MAX_EXTRAS} can be kept as metadata")
    faults.check()
