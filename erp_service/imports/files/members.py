"""Cells that hold JSON, and columns that a kind of file does not know: both become members of what is stored."""

from collections.abc import Iterable, Sequence

import msgspec

from erp_service import validation
from erp_service.texts import nfc


def json_cell(text: str) -> object:
    """The JSON value that the cell holds, with its texts in NFC. Raises ValueError."""
    try:
        value = _composed(msgspec.json.decode(text))
    except (msgspec.DecodeError, RecursionError):
        raise ValueError("is not JSON") from None
    if any(validation.nuls(value)):
        raise ValueError("must not contain NUL")
    return value


def metadata(cell: str, extras: Iterable[tuple[int, str]], record: Sequence[str]) -> dict[object, object]:
    """The members of the object that the cell holds, if it holds any, and those that the extra columns of the record
    add; an empty one adds none. Raises ValueError."""
    members: dict[object, object] = {}
    if cell not in ("", "{}"):
        value = json_cell(cell)
        if not isinstance(value, dict):
            raise ValueError("is not a JSON object")
        members |= value
    for index, name in extras:
        if not (text := record[index]):
            continue
        if members.setdefault(name, text) != text:
            raise ValueError(f"has a member {name}, and the column {name} says something else")
    return members


def _composed(value: object) -> object:
    # the cell is composed, but JSON may escape what composes
    match value:
        case str():
            return nfc(value)
        case list():
            return [_composed(item) for item in value]
        case dict():
            return {nfc(key): _composed(member) for key, member in value.items()}
    return value
