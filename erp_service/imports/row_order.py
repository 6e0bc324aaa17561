"""The order in which movements are posted: that of the file, or by a column. Keeps a row's position, not the row."""

from collections.abc import Iterator
from typing import Any, Protocol

from erp_service.imports.csv_table import Position, Row, Table
from erp_service.imports.files.dialect import SortKey


class Comparable(Protocol):
    def __lt__(self, other: Any, /) -> bool: ...


class RowOrder:
    """Filled while the file is read for the first time; `read` is the second reading."""

    def __init__(self, sort: SortKey | None) -> None:
        self.sorts = sort is not None
        self._keys: list[Comparable] = []
        self._positions: list[Position] = []
        self._last: Comparable | None = None
        self.ascending, self.descending = True, True

    def add(self, key: Comparable, position: Position) -> None:
        if self._last is not None and key != self._last:
            if key < self._last:
                self.ascending = False
            else:
                self.descending = False
        self._last = key
        if self.sorts:
            self._keys.append(key)
            self._positions.append(position)

    def read(self, table: Table) -> Iterator[Row]:
        """All rows. A file that has the newest first is read from its end, so that rows of one time turn around, too;
        of others, rows of one time stay as they stand."""
        if not self.sorts:
            return iter(table)
        indexes = range(len(self._keys))
        ordered = reversed(indexes) if self.descending else sorted(indexes, key=self._keys.__getitem__)
        return table.at(self._positions[index] for index in ordered)
