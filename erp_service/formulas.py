"""What makes a spreadsheet read a text as a formula, and how a text is written so that none does.

The source is OWASP's page on CSV Injection, which asks to look at separators and quotes as well as at the beginning.

A spreadsheet splits a file by its own separator, whatever the file's is: where semicolons are usual, `a;=1+2;b` is
three cells, the second of them a formula, though the file's commas make it one. So a text is guarded at its beginning
and after every character that may end a cell."""

import re

FORMULA_STARTS = "=+-@\t\r\n＝＋－＠\ufeff"
"""The first characters of a formula (OWASP, CSV Injection), also in full width; and the byte order mark, which readers
remove at the beginning of a file, so that the next character is the first."""

_SIGNS = "=+-@＝＋－＠"


def _escaped(characters: str) -> str:
    """For a bracket expression, in the escapes that Python and Postgres have in common."""
    return "".join(f"\\u{ord(character):04x}" for character in characters)


# commas, semicolons, tabs, bars and line ends
_SEPARATORS = f"[{_escaped(',;|')}\\u0009-\\u000d\\u0085\\u2028\\u2029]"
# What programs drop before they look at a cell: quotes, blanks, control and invisible characters. No separator is among
# them, so that the time for a text stays proportional to its length.
_DROPPED = (
    '["\\u0001-\\u0008\\u000e-\\u0020\\u007f-\\u0084\\u0086-\\u00a0\\u00ad\\u1680\\u2000-\\u200f\\u202a-\\u202f'
    "\\u205f-\\u206f\\u3000\\ufeff]"
)
# the last alternative is an instruction of Excel, in a file's first line, that makes any character the separator
_START = f"^(?:[{_escaped(FORMULA_STARTS)}]|{_DROPPED}*[{_escaped(_SIGNS)}]|[sS][eE][pP]=)"
_MIDDLE = f"({_SEPARATORS})(?={_DROPPED}*[{_escaped(_SIGNS)}])"
_AT_START, _IN_THE_MIDDLE = re.compile(_START), re.compile(_MIDDLE)
_GUARDED = re.compile(f"^'{_START.removeprefix('^')}|{_SEPARATORS}'{_DROPPED}*[{_escaped(_SIGNS)}]")


def guarded(text: str) -> str:
    """The text with an apostrophe before all that could be the beginning of a formula."""
    start = "'" if _AT_START.match(text) else ""
    return start + _IN_THE_MIDDLE.sub(r"\1'", text)


def looks_guarded(text: str) -> bool:
    """Whether `guarded` could have written this. It may be the text itself as well: an apostrophe does not tell."""
    return "'" in text and _GUARDED.search(text) is not None


def guarded_sql(cell: str) -> str:
    """The same for an SQL expression of a text, as an expression of constants in one line."""
    start = f"case when {cell} ~ '{_START}' then '''' else '' end"
    middle = rf"regexp_replace({cell}, '{_MIDDLE}', '\1''', 'g')"
    return f"case when {cell} ~ '{_START}|{_MIDDLE}' then {start} || {middle} else {cell} end"


def guarded_json_sql(cell: str) -> str:
    """The same for an expression of a `jsonb` as text: the characters become their escapes, which keeps the value.

    Postgres writes a comma and a blank between two values; a negative number behind them remains a number."""
    number = r"(?!(?:, )?-[0-9]+(?:\.[0-9]+)?(?:[],}]|\Z))"
    result = cell
    for sign in _SIGNS:
        before = f"({number}(?:^|{_SEPARATORS}){_DROPPED}*)"
        result = rf"regexp_replace({result}, '{before}{_escaped(sign)}', '\1\\u{ord(sign):04x}', 'g')"
    return f"case when {cell} ~ '(?:^|{_SEPARATORS}){_DROPPED}*[{_escaped(_SIGNS)}]' then {result} else {cell} end"
