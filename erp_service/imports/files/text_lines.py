"""The lines of a file as text, for the csv module."""

import csv
from collections.abc import Iterator
from typing import BinaryIO

from erp_service.imports.files.faults import Faults

MAX_RECORD = 128 * 1024  # characters; the csv module's own limit for one field


class TextLines:
    """Bytes that are not text are a fault, and are replaced."""

    def __init__(self, file: BinaryIO, faults: Faults) -> None:
        self._file = file
        self._faults = faults
        self.seek(1, 0)
        self.record_length = 0  # characters since the record began; Table sets it back

    def seek(self, line: int, offset: int) -> None:
        """The next line is `line`, which begins at this byte."""
        self._file.seek(offset)
        self.number, self.offset = line - 1, offset

    def peek(self) -> str:
        """The first line of the file, which stays to be read."""
        raw = self._file.readline(4 * MAX_RECORD + 2)
        self.seek(1, 0)
        return raw.decode("utf-8-sig", errors="replace").replace("\0", "")

    def quietly(self) -> Iterator[str]:
        """All lines from the first, without a fault; afterwards the first is the next again. A line that is too long
        ends it."""
        self.seek(1, 0)
        while raw := self._file.readline(4 * MAX_RECORD + 2):
            text = raw.decode("utf-8-sig" if self._file.tell() == len(raw) else "utf-8", errors="replace")
            if len(text) > MAX_RECORD:
                break
            yield text
        self.seek(1, 0)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        raw = self._file.readline(4 * MAX_RECORD + 2)
        if not raw:
            raise StopIteration
        self.number += 1
        self.offset += len(raw)
        try:
            text = raw.decode("utf-8-sig" if self.number == 1 else "utf-8")
        except UnicodeDecodeError:
            self._faults.add(self.number, None, "is not UTF-8; what older spreadsheets save, --encoding cp1252 reads")
            text = raw.decode("utf-8", errors="replace")
        if "\0" in text:
            self._faults.add(self.number, None, "holds a NUL character")
            text = text.replace("\0", "")
        self.record_length += len(text)
        if self.record_length > MAX_RECORD:
            raise csv.Error("field limit")
        return text
