"""Identifiers in files: those that look the same on paper, and those that a spreadsheet has damaged."""

import re

import regex

from erp_service.imports.files.faults import Faults
from erp_service.texts import nfc

_INVISIBLE = regex.compile(r"[\p{Default_Ignorable_Code_Point}\p{Cf}]")
_BLANKS = regex.compile(r"[\s\p{Z}\u2800]+")

# What spreadsheets write instead of a code that they took for a large number, a date, or a formula.
_DAMAGED = {
    re.compile(r"[0-9]([.,][0-9]+)?E\+[0-9]+"): "a large number that a spreadsheet has shortened",
    re.compile(r"[0-9]{1,2}[.\-/ ] ?[^\W\d_]{3,4}\.?"): "a date that a spreadsheet has made of it",
    re.compile(r"[^\W\d_]{3,4}[.\-/ ] ?[0-9]{2}"): "a date that a spreadsheet has made of it",
    re.compile(r"#(N/A|NV|REF!|BEZUG!|NAME\?|VALUE!|WERT!|DIV/0!|NUM!|ZAHL!|NULL!|SPILL!|CALC!)"): (
        "the error of a spreadsheet's formula"
    ),
}
# of the languages whose spreadsheets are common, as these abbreviate them
_ENGLISH_AND_GERMAN = "jan feb mar mär mrz apr may mai jun jul aug sep sept oct okt nov dec dez"
_OTHERS = "janv févr mars avr juin juil août déc ene abr ago dic gen mag giu lug set ott mrt mei fev out"
_MONTHS = frozenset(f"{_ENGLISH_AND_GERMAN} {_OTHERS}".split())


def on_paper(text: str) -> str:
    """What two texts have in common that look the same: composed letters, nothing invisible, single plain blanks."""
    if text.isascii() and text.isprintable() and "  " not in text:
        return text.strip()
    return nfc(_BLANKS.sub(" ", _INVISIBLE.sub("", nfc(text)))).strip()


def damage(text: str) -> str | None:
    """What a spreadsheet has probably made of the code that stood here; None if it looks whole."""
    for pattern, what in _DAMAGED.items():
        if pattern.fullmatch(text) is not None and ("date" not in what or _months(text) & _MONTHS):
            return what
    return None


def _months(text: str) -> set[str]:
    # spreadsheets write `05.Mar`; a code that people made is rather `MAR-05`
    return {letters.lower() for letters in re.findall(r"[^\W\d_]+", text) if not letters.isupper()}


CHANGED_MEANWHILE = "is in the way of what somebody else has changed at the same moment: import the file again"
"""Of a row whose identifiers were taken when it was stored, and are free a moment later."""


class Identifiers:
    """The identifiers of one column of a file, each with the line that has it first."""

    def __init__(self, column: str, faults: Faults, *, keep_damaged: bool) -> None:
        self._column, self._faults, self._keep_damaged = column, faults, keep_damaged
        self._first_lines: dict[str, tuple[int, str]] = {}

    def __contains__(self, text: str) -> bool:
        """Whether the file has exactly this identifier."""
        found = self._first_lines.get(on_paper(text))
        return found is not None and found[1] == text

    def add(self, line: int, text: str) -> None:
        """Names a fault if an earlier line has the same on paper, or if the text looks damaged."""
        first, first_text = self._first_lines.setdefault(on_paper(text), (line, text))
        if first != line:
            same = "is the same as" if text == first_text else "looks the same as what is"
            self._faults.add(line, self._column, f"{same} on line {first}")
        if (what := damage(text)) is None:
            return
        if self._keep_damaged:
            self._faults.warn(line, self._column, f"{text!r} is taken as it is, though it looks like {what}")
        else:
            hint = "put the code back, or import it as it is with --keep-codes"
            self._faults.add(line, self._column, f"{text!r} looks like {what}: {hint}")
