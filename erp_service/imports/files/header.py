"""The columns that a kind of file has, and what may be wrong with a header."""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from itertools import chain
from typing import TypeAlias

import msgspec

from erp_service.imports.files.dialect import SEPARATORS
from erp_service.imports.files.faults import Faults
from erp_service.inventory.schemas import METADATA_KEY_LENGTH, METADATA_MEMBERS


class Layout(msgspec.Struct, frozen=True):
    """The columns of one kind of file. Other columns (extras) are kept as metadata, or refused."""

    required: tuple[str, ...]
    optional: tuple[str, ...]
    keeps_extras: bool = False
    read_only: tuple[str, ...] = ()
    """Columns of our own exports that say nothing to an import; they are passed over."""
    checked: tuple[str, ...] = ()
    """Columns of our own exports that an import only looks at, to refuse what it cannot do."""

    @property
    def known(self) -> tuple[str, ...]:
        return self.required + self.optional + self.checked


def name_misspelt(extras: Iterable[tuple[int, str]], layout: Layout, faults: Faults) -> None:
    """Warns of columns that are kept as metadata, and whose names are almost those of columns that are read."""
    for _, name in extras:
        for known in get_close_matches(name.lower(), layout.known, 1, cutoff=_ALMOST):
            faults.warn(1, name, f"is kept as metadata, since it is not a column of such a file: {known} is one")


_ALMOST = 0.8  # one letter in five may be another

_HeaderFault: TypeAlias = tuple[str | None, str]
"""A column, or None for the header as a whole, and what is wrong."""


def check_header(header: list[str], layout: Layout) -> None:
    """Raises ImportRefused that names every fault of the header."""
    faults = Faults()
    for column, detail in chain(_missing(header, layout), _misnamed(header), _unknown(header, layout)):
        faults.add(1, column, detail)
    faults.check()


def _missing(header: list[str], layout: Layout) -> Iterator[_HeaderFault]:
    missing = [name for name in layout.required if name not in header]
    for name in missing:
        yield name, f"the column is missing; there must be {', '.join(layout.required)}"
    for name, separator in SEPARATORS.items():
        if missing and len(header) == 1 and separator in header[0]:
            yield None, f"the columns seem to be separated by {name}s: say --delimiter {name}"


def _misnamed(header: list[str]) -> Iterator[_HeaderFault]:
    for index, name in enumerate(header):
        if name and name in header[:index]:
            yield name, "the column is there twice; capitals make no difference"


def _unknown(header: list[str], layout: Layout) -> Iterator[_HeaderFault]:
    extras = [name for name in header if name and name not in layout.known and name not in layout.read_only]
    if not layout.keeps_extras:
        for name in extras:
            columns = ", ".join(layout.required + layout.optional)
            yield name, f"is not a column of this kind of file: remove it; the columns are {columns}"
    elif len(extras) > METADATA_MEMBERS:
        yield None, f"{len(extras)} columns are not known, and only {METADATA_MEMBERS} can be kept as metadata"
    else:
        for index, name in enumerate(header, 1):
            if len(name) > METADATA_KEY_LENGTH:
                yield f"column {index}", f"has a name of more than {METADATA_KEY_LENGTH} characters"
