"""The report of bad lines: a CSV file with all of them, which a spreadsheet opens without running anything in it."""

import csv
import io
import tempfile
from collections.abc import Iterator
from typing import BinaryIO, Self

from erp_service.formulas import guarded
from erp_service.imports.files.faults import LineFault

COLUMNS = ("line", "column", "value", "detail")
MOST = 1_000_000
"""Faults that are written: a file with more is wrong as a whole."""
_PIECE = 256 * 1024


class Report:
    """Faults are added as they are found, in a temporary file; a thread may add them."""

    def __init__(self) -> None:
        self._file: BinaryIO = tempfile.TemporaryFile(prefix="erp-import-report-")  # noqa: SIM115 `close` closes it
        self.count = 0
        self._write(COLUMNS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, fault: LineFault) -> None:
        self.count += 1
        if self.count == MOST + 1:
            self._write(("", "", "", f"There are more than {MOST:,} faults: the others are left out."))
        if self.count <= MOST:
            line = "" if fault.line is None else str(fault.line)
            texts = (fault.column or "", fault.value or "", fault.detail)
            self._write((line, *(guarded(text.replace("\0", "")) for text in texts)))

    def pieces(self) -> Iterator[bytes]:
        self._file.seek(0)
        while piece := self._file.read(_PIECE):
            yield piece

    @property
    def bytes(self) -> int:
        return self._file.seek(0, 2)

    def _write(self, cells: tuple[str, ...]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(cells)
        self._file.write(text.getvalue().encode("utf-8", "replace"))
