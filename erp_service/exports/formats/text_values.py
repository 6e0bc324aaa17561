"""The contract's text of a value of each type, rendered by Postgres: what CSV and JSON Lines are made of."""

from collections.abc import Mapping, Sequence

from erp_service.exports.formats.base import Times
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


def time_as_text(column: Column, times: Times) -> str:
    """A time as people in another zone read it, in RFC 3339 with the zone's offset, or plain for spreadsheets."""
    local = f"({column.sql}) at time zone '{times.sql_zone}'"
    if times.plain:
        return f"to_char({local}, 'YYYY-MM-DD HH24:MI:SS')"
    if times.timezone == "UTC":
        return as_text(column)
    offset = f"(({local}) - ({column.sql}) at time zone 'UTC')"
    sign = f"case when {offset} < interval '0' then '-' else '+' end"
    size = f"to_char(greatest({offset}, -{offset}), 'HH24:MI')"
    shown = f"""to_char({local}, 'YYYY-MM-DD"T"HH24:MI:SS.US') || {sign} || {size}"""
    # RFC 3339 has no seconds in offsets, such as those of local mean time before 1900
    is_exact = f"isfinite({column.sql}) and extract(second from {offset}) = 0"
    return f"case when {is_exact} then {shown} else {as_text(column)} end"


def text_select_list(columns: Sequence[Column], _options: CsvOptions | None = None) -> str:
    """The select list that renders every value as its text."""
    return ", ".join(f"{as_text(column)} as {column.name}" for column in columns)
