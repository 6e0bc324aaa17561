"""What is wrong with a file, by line. Every fault is collected, and none of them stops the reading."""

from collections.abc import Callable, Sequence

import msgspec

MAX_FAULTS = 100
EXCERPT = 100
"""Characters of a cell that its fault repeats."""


class LineFault(msgspec.Struct, frozen=True):
    """A fault of one line, counted from 1 with the header; `line` is None for a fault of the file as a whole. `value`
    is the beginning of the cell, if the fault is one of a cell."""

    detail: str
    line: int | None = None
    column: str | None = None
    value: str | None = None

    def __str__(self) -> str:
        position = [f"line {self.line}"] if self.line else []
        position += [self.column] if self.column else []
        return f"{', '.join(position)}: {self.detail}" if position else self.detail


class ImportRefused(Exception):
    """Nothing was imported. `faults` are the first faults, `total` is the number of all of them."""

    def __init__(self, faults: Sequence[LineFault], total: int) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults
        self.total = total

    @classmethod
    def because(cls, detail: str) -> "ImportRefused":
        return cls([LineFault(detail)], 1)


class Faults:
    """Collects faults: the first of them in full, the others as a number. `report` gets each of them at once."""

    def __init__(self, most: int = MAX_FAULTS, report: Callable[[LineFault], object] | None = None) -> None:
        self.most, self._report = most, report
        self.first: list[LineFault] = []
        self.total = 0
        self.warnings: list[LineFault] = []
        """What was taken although it looks wrong: the first hundred."""
        self.header: Sequence[str] = ()
        self.line, self.record = 0, list[str]()
        """The record that is being read: its faults repeat what is in the cell."""

    def apart(self) -> "Faults":
        """Others of the same file, which are counted apart until `extend` takes them in."""
        return Faults(self.most, self._report)

    def warn(self, line: int, column: str | None, detail: str) -> None:
        if len(self.warnings) < MAX_FAULTS:
            self.warnings.append(LineFault(detail, line, column))

    def add(self, line: int | None, column: str | None, detail: str, value: str | None = None) -> None:
        """`value` is what stands there, if the line is not the one that is being read."""
        self.total += 1
        if len(self.first) >= self.most and self._report is None:
            return
        if line == self.line and column in self.header and (index := self.header.index(column)) < len(self.record):
            value = self.record[index]
        fault = LineFault(detail, line, column, None if value is None else value[:EXCERPT])
        if len(self.first) < self.most:
            self.first.append(fault)
        if self._report is not None:
            self._report(fault)

    def extend(self, others: "Faults") -> None:
        self.total += others.total
        self.first += others.first[: self.most - len(self.first)]

    def check(self) -> None:
        """Raises ImportRefused if there is any fault."""
        if self.total:
            raise ImportRefused(sorted(self.first, key=lambda fault: fault.line or 0), self.total)
