"""CSV for spreadsheets: what COPY would write, but no cell can be taken for a formula."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from decimal import Decimal

import msgspec

from erp_service.decimals import shortest
from erp_service.formulas import guarded

_QUOTED = frozenset(',"\r\n')


def csv(kind: type[msgspec.Struct], rows: Iterable[msgspec.Struct]) -> Iterator[str]:
    """The lines of the file, each with its LF; the first one holds the names of the fields.

    As with COPY, null is empty, an empty text is `""`, and nothing is quoted without need. All that could
    be a formula in a text gets an apostrophe in front, also where another separator would split it; numbers stay."""
    fields = msgspec.structs.fields(kind)
    yield _line([field.encode_name for field in fields])
    names = [field.name for field in fields]
    for row in rows:
        yield _line([_cell(getattr(row, name)) for name in names])


def _line(cells: Sequence[str]) -> str:
    return ",".join(cells) + "\n"


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case str():
            return _text(value)
        case Decimal():
            return shortest(value)
        case date():
            return value.isoformat()
        case int():
            return str(value)
    raise TypeError(type(value))


def _text(value: str) -> str:
    value = guarded(value)
    if not value or not _QUOTED.isdisjoint(value):
        return '"' + value.replace('"', '""') + '"'
    return value
