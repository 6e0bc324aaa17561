"""JSON Lines as records of texts: each object is a row and its members are the columns, so the rules of CSV apply.

A number keeps its digits as they are written, `null` and an absent member are an empty cell, and an object or an array
is its JSON."""

from collections.abc import Iterator

import msgspec

from erp_service.imports.files.faults import ImportRefused
from erp_service.imports.files.text_lines import MAX_RECORD, TextLines

_MOST_COLUMNS = 300
_Object = dict[str, msgspec.Raw]
_decode = msgspec.json.Decoder(_Object).decode
_decode_text = msgspec.json.Decoder(str).decode


class NotAnObject(Exception):
    """The line is no row; the message says why."""


def looks_like_objects(first_line: str) -> bool:
    return first_line.lstrip().startswith("{")


class JsonLines:
    """The rows in the order of `header`: all members that any line has, in the order in which they first appear.

    Raises NotAnObject for a line that is none, and ImportRefused for too many members."""

    def __init__(self, lines: TextLines) -> None:
        self._lines = lines
        names: dict[str, None] = {}
        # a line that cannot be read is named when its turn comes
        for text in lines.quietly():
            if (members := _members(text)) is not None and not names.keys() >= members.keys():
                names |= dict.fromkeys(members)
                if len(names) > _MOST_COLUMNS:
                    raise ImportRefused.because(f"The lines have more than {_MOST_COLUMNS} different members.")
        self.header = list(names)

    def __iter__(self) -> Iterator[list[str]]:
        return self

    def __next__(self) -> list[str]:
        text = next(self._lines)
        if not text.strip():
            return []
        if (members := _members(text)) is None:
            raise NotAnObject("is not a JSON object")
        try:
            record = [_cell(members[name]) if name in members else "" for name in self.header]
        except msgspec.DecodeError:
            raise NotAnObject("is not valid JSON") from None
        if any("\0" in cell for cell in record):
            raise NotAnObject("holds a NUL character")
        return record


def _members(text: str) -> _Object | None:
    if len(text) > MAX_RECORD:
        return None
    try:
        return _decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return None


def _cell(value: msgspec.Raw) -> str:
    raw = bytes(value)
    if raw.startswith(b'"'):
        return _decode_text(raw)
    return "" if raw == b"null" else raw.decode()
