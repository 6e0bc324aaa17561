"""How a file is written: separator, decimal point, time zone, encoding. Recognised only where it is certain.

A separator is certain if the header has all the columns that it must have with this one only, or if the first line is
`sep=;`, which spreadsheets write and read. Whether `1,000` is a thousand or one, and which zone a clock shows, no file
tells: the caller says it.
"""

import csv
import re
from collections.abc import Sequence
from typing import Literal, TypeAlias
from zoneinfo import ZoneInfo

import msgspec

from erp_service.texts import nfc

SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}

SortKey: TypeAlias = Literal["occurred_at", "id"]

_SEPARATOR_LINE = re.compile(r'"?sep=([^\w"\r\n])"?\r?\n?')


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller says about a file."""

    delimiter: str | None = None
    """None: recognised, or else a comma."""
    decimal_comma: bool = False
    zone: ZoneInfo | None = None
    """Of times that state none."""
    encoding: str | None = None
    """None: UTF-8, or UTF-16 if the file begins with its mark."""
    history: bool = False
    """The movements are of the past: they may concern items that are INACTIVE or DISCONTINUED by now."""
    sort: SortKey | None = None
    """Movements are posted in this order, instead of that of the file."""
    keep_codes: bool = False
    """Skus and codes that look as if a spreadsheet has damaged them are taken as they are."""


def separator_line(text: str) -> str | None:
    """The separator that a line `sep=;` names; None for any other line."""
    match = _SEPARATOR_LINE.fullmatch(text)
    return None if match is None else match[1]


def certain_separator(header: str, required: Sequence[Sequence[str]]) -> str | None:
    """The only separator with which the header has all columns of one of the sets `required`; None if none is."""
    fitting = []
    for separator in SEPARATORS.values():
        try:
            names = set(header_names(next(csv.reader([header], delimiter=separator), [])))
        except csv.Error:
            continue  # such as a carriage return in the middle; the reading of the file names it
        if any(names.issuperset(columns) for columns in required):
            fitting.append(separator)
    return fitting[0] if len(fitting) == 1 else None


def header_names(record: Sequence[str]) -> list[str]:
    """The names of columns: blanks around them and capitals do not matter."""
    return [nfc(name).strip().lower() for name in record]


def number_text(text: str, dialect: Dialect) -> str:
    """The text with a decimal point. Raises ValueError where it cannot be known what is meant."""
    if not dialect.decimal_comma:
        if "," in text:
            raise ValueError("has a comma: --decimal-comma reads it as the decimal point; thousands take no separator")
        return text
    if "." in text:
        raise ValueError(
            "has a point, but with --decimal-comma the comma is the decimal point, and thousands take none"
        )
    return text.replace(",", ".", 1)


def word(text: str, known: Sequence[str]) -> str:
    """The known word that the text is, in capitals or not. Raises ValueError that lists the words."""
    if (upper := text.strip().upper()) not in known:
        raise ValueError(f"{text!r} is not one of {', '.join(known)}" if text else "is missing")
    return upper
