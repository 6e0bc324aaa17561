"""The cells of a sheet: for each type of column the SQL expression that renders a value as a cell's XML.

Two control characters, which no XML contains, stand in it for xlsx.py: in place of ROW_NUMBER it puts the row's number,
and it fails at TOO_LONG, which encloses the name of a column with a text that no cell can hold."""

from erp_service.registry.datasets import Column

ROW_NUMBER, TOO_LONG = "\x03", "\x04"

MOST_UNITS = 32_767
"""UTF-16 units of a text in a cell."""

_TIME, _TEXT = 1, 3  # cellXfs of the styles in xlsx.py

# What XML or Excel would read as something else, as regular expressions of Postgres. Excel reads a literal `_x0041_` as
# an A, also if its last underscore is the first one of an escaped control character.
_CONTROL = r"\x01-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff"
_ESCAPE_LIKE = rf"_(?=x[0-9A-Fa-f]{{4}}[_{_CONTROL}])"
_SPECIAL = rf"[&<>\n\r{_CONTROL}]|{_ESCAPE_LIKE}"
_REFERENCES = (("'&'", "&amp;"), ("'<'", "&lt;"), ("'>'", "&gt;"), ("E'\\n'", "&#10;"), ("E'\\r'", "&#13;"))
_UNPRINTABLE = [*range(0x01, 0x09), 0x0B, 0x0C, *range(0x0E, 0x20), 0xFFFE, 0xFFFF]


def _text(sql: str, cell: str, *, name: str, is_plain: bool = False) -> str:
    value = sql if is_plain else _escaped(sql, name)
    return f"""E'<c r="{cell}" s="{_TEXT}" t="inlineStr"><is><t xml:space="preserve">' || {value} || '</t></is></c>'"""


def _escaped(sql: str, name: str) -> str:
    # in UTF-16 a character outside the basic plane takes two units; no text has more units than bytes
    units = rf"length({sql}) + length(regexp_replace({sql}, '[^\U00010000-\U0010FFFF]', '', 'g'))"
    controls = rf"regexp_replace({sql}, '{_ESCAPE_LIKE}', '_x005F_', 'g')"
    for code in _UNPRINTABLE:
        controls = f"replace({controls}, U&'\\{code:04X}', '_x{code:04X}_')"
    inner = f"case when {sql} ~ '[{_CONTROL}]|{_ESCAPE_LIKE}' then {controls} else {sql} end"
    for plain, reference in _REFERENCES:
        inner = f"replace({inner}, {plain}, '{reference}')"
    return (
        f"case when octet_length({sql}) > {MOST_UNITS} and {units} > {MOST_UNITS} then E'\\x04{name}\\x04'"
        f" when {sql} ~ '{_SPECIAL}' then {inner} else {sql} end"
    )


def _integer(sql: str, cell: str, name: str) -> str:
    number = f"""E'<c r="{cell}"><v>' || {sql} || '</v></c>'"""
    text = _text(f"({sql})::text", cell, name=name, is_plain=True)
    return f"case when {sql} between -999999999999999 and 999999999999999 then {number} else {text} end"


def _decimal(sql: str, cell: str, name: str) -> str:
    # the first condition decides for most numbers, so their digits are not counted; NaN and infinity fail both
    shortest = f"trim_scale({sql})"
    digits = f"length(btrim(replace({shortest}::text, '.', ''), '-0'))"
    is_exact = (
        f"(abs({sql}) < 1000000000 and scale({sql}) <= 6)"
        f" or (abs({sql}) < 1e300 and scale({sql}) < 300 and {digits} <= 15)"
    )
    number = f"""E'<c r="{cell}"><v>' || {shortest} || '</v></c>'"""
    text = _text(f"{shortest}::text", cell, name=name, is_plain=True)
    return f"case when {is_exact} then {number} else {text} end"


def _timestamp(sql: str, cell: str, name: str, timezone: str) -> str:
    # Excel's dates are days since 30 December 1899, as a double. Whole milliseconds, because every program rounds to
    # them when it reads or shows the number: the microseconds of a year's last moment would make it the next year's.
    local = f"({sql} at time zone '{timezone}')"
    days = f"(date_part('epoch', date_trunc('milliseconds', {local})) / 86400 + 25569)"
    number = f"""E'<c r="{cell}" s="{_TIME}"><v>' || {days} || '</v></c>'"""
    exact = f"""to_char({sql} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
    text = _text(f"case when isfinite({sql}) then {exact} else ({sql})::text end", cell, name=name, is_plain=True)
    return f"case when {local} >= '1900-03-01' and {local} < '10000-01-01' then {number} else {text} end"


def _boolean(sql: str, cell: str) -> str:
    return f"""E'<c r="{cell}" t="b"><v>' || ({sql})::int || '</v></c>'"""


def cell(column: Column, at: str, timezone: str) -> str:
    """The cell of `column`, whose reference is `at`; an empty text or null if the value is null.

    Times are shown in `timezone`, the checked name of a zone that Postgres knows."""
    sql, name = f"({column.sql})", column.name
    match column.type:
        case "integer":
            return _integer(sql, at, name)
        case "decimal":
            return _decimal(sql, at, name)
        case "timestamp":
            return _timestamp(sql, at, name, timezone)
        case "boolean":
            return _boolean(sql, at)
        case "uuid":
            return _text(f"({sql})::text", at, name=name, is_plain=True)
        case "text":
            return _text(sql, at, name=name)
        case "json":
            return _text(f"({sql})::text", at, name=name)
