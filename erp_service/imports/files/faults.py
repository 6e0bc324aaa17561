"""What is wrong with a file, by line. Every fault is collected, and none of them stops the reading."""

from collections.abc import Sequence

import msgspec

MAX_FAULTS = 100


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
        self.warnings: list[LineFault] = []
        """What was taken although it looks wrong: the first hundred."""

    def warn(self, line: int, column: str | None, detail: str) -> None:
        if len(self.warnings) < MAX_FAULTS:
            self.warnings.append(LineFault(detail, line, column))

    def add(self, line: int | None, column: str | None, detail: str) -> None:
        self.total += 1
        if len(self.first) < MAX_FAULTS:
            self.first.append(LineFault(detail, line, column))

    def extend(self, others: "Faults") -> None:
        self.total += others.total
        self.first += others.first[: MAX_FAULTS - len(self.first)]

    def check(self) -> None:
        """Raises ImportRefused if there is any fault."""
        if self.total:
            raise ImportRefused(sorted(self.first, key=lambda fault: fault.line or 0), self.total)
