"""CSV for people: by the rules of COPY, but that no cell can be taken for a formula."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec

from erp_service.decimals import shortest
from erp_service.formulas import FORMULA_STARTS

_STARTS = tuple(FORMULA_STARTS)
_QUOTED = frozenset(',"\r\n')


def csv(kind: type[msgspec.Struct], rows: Iterable[msgspec.Struct]) -> Iterator[str]:
    """Lines with the fields' names first, in UTF-8's own alphabet, ending in LF.

    As COPY has it, null is empty and an empty text is `""`, and nothing is quoted without need. Texts that begin as a
    formula would get an apostrophe in front, which spreadsheets do not show; numbers are left alone."""
    fields = msgspec.structs.fields(kind)
    yield _line([field.encode_name for field in fields])
    names = [field.name for field in fields]
    for row in rows:
        yield _line([_cell(getattr(row, name)) for name in names])


def _line(cells: Sequence[str]) -> str:
    return ",".join(cells) + "\n"


def _cell(value: Any) -> str:
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
    if value.startswith(_STARTS):
        value = "'" + value
    if not value or not _QUOTED.isdisjoint(value):
        return '"' + value.replace('"', '""') + '"'
    return value
