"""What became of the rows of a file."""

from typing import Literal, NamedTuple, TypeAlias

ImportDataset: TypeAlias = Literal["items", "locations", "movements"]
Kind: TypeAlias = ImportDataset

ImportMode: TypeAlias = Literal["create", "update", "upsert"]
Mode: TypeAlias = ImportMode
"""What is done with a row whose sku or code exists: refused, updated, updated; and with one that is new: created,
refused, created."""


class Counts(NamedTuple):
    rows: int
    blank_rows: int
    created: int = 0
    updated: int = 0
    unchanged: int = 0

    def plus(self, other: "Counts") -> "Counts":
        return Counts(*(one + more for one, more in zip(self, other, strict=True)))
