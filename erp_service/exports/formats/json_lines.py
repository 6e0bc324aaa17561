"""JSON Lines: each row is one JSON object, which Postgres renders as text."""

from collections.abc import Mapping, Sequence

from erp_service.exports.formats.base import About, Format, Options, Write
from erp_service.exports.formats.text_values import as_text
from erp_service.registry.datasets import Column


class JsonLinesEncoder:
    """Passes on what COPY writes: the lines are complete."""

    def __init__(self, _columns: Sequence[Column], _options: Options, write: Write, _about: About) -> None:
        self._write = write

    async def begin(self) -> None:
        pass

    async def write(self, data: bytes) -> None:
        await self._write(data)

    async def finish(self, rows: int) -> None:
        pass


def _select(columns: Sequence[Column], _options: Options) -> str:
    """One text per row: concatenating strings costs less than building JSON and rendering it."""
    members = [f"""'"{column.name}":' || coalesce({_value(column)}, 'null')""" for column in columns]
    return "'{' || " + " || ',' || ".join(members) + " || '}'"


def _value(column: Column) -> str:
    """As the API writes it: quantities and money are strings, which no reader turns into binary floats."""
    text = as_text(column)
    match column.type:
        case "integer" | "boolean" | "json":
            return f"({text})::text"
        case "text":
            # the only type that needs escapes; to_json leaves no line end and no control character
            return f"to_json({text})::text"
        case _:
            return f"""'"' || ({text})::text || '"'"""


def _copy(_options: Options) -> Mapping[str, str]:
    # COPY's text format would double backslashes. CSV with one column leaves it as it is, if the quote and the
    # delimiter are bytes that JSON never contains.
    return {"format": "csv", "encoding": "UTF8", "quote": "\x01", "delimiter": "\x02"}


JSONL = Format(
    name="jsonl",
    media_type="application/jsonl",
    extension="jsonl",
    select=_select,
    copy=_copy,
    encoder=JsonLinesEncoder,
    compressible=True,
)
