"""The contract's text of a value of each type, rendered by Postgres: what CSV and JSON Lines are made of."""

from collections.abc import Mapping, Sequence

from erp_service.exports.formats.csv_options import CsvOptions
from erp_service.registry.datasets import Column, ColumnType

# Shortest numbers, RFC 3339 in UTC, JSON's booleans. Independent of the session's settings, so that psql on any host
# writes the same bytes.
_AS_TEXT: Mapping[ColumnType, str] = {
    "decimal": "trim_scale({})",
    "timestamp": """to_char({} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')""",
    "boolean": "({})::text",
    "json": "({})::text",
}


def as_text(column: Column) -> str:
    """The SQL expression of the value's text."""
    return _AS_TEXT.get(column.type, "{}").format(column.sql)


def text_select_list(columns: Sequence[Column], _options: CsvOptions | None = None) -> str:
    """The select list that renders every value as its text."""
    return ", ".join(f"{as_text(column)} as {column.name}" for column in columns)
