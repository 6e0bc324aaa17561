"""Texts that people and machines send: one form for what looks the same, and which characters an identifier may hold.

`CAFÉ` composed and decomposed is equal on paper and unequal to every program, so each text is normalised to NFC
(UAX #15) before it is stored or compared. Identifiers also hold nothing that paper does not show. That is decided by
Unicode properties, so that a new version of Unicode needs no new list here. Letters of different scripts that look
alike (Latin A, Cyrillic А) stay different: a rule against them (UTS #39) would refuse Greek and Cyrillic part numbers.
"""

import unicodedata
from typing import ClassVar, Self

import regex

# `re` and `unicodedata` do not know the property Default_Ignorable_Code_Point: zero-width characters, variation
# selectors, tag letters, the combining grapheme joiner, Hangul fillers.
_INVISIBLE = regex.compile(r"\p{Default_Ignorable_Code_Point}")
_VISIBLE = regex.compile(r"[\p{L}\p{N}\p{P}\p{S}--\p{Default_Ignorable_Code_Point}--\u2800]", regex.VERSION1)
_BRAILLE_BLANK = "\u2800"
"""A symbol (So) by its property, and a blank on paper: the one such character."""
_KINDS = {
    "Cc": "a control character",
    "Cf": "an invisible character",
    "Co": "a private-use character",
    "Cn": "a character that Unicode does not define",
    "Cs": "half of a surrogate pair",
}


def nfc(text: str) -> str:
    """The text in Unicode's composed form; one that is in it already is returned itself."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def identifier_fault(text: str) -> str | None:
    """What is wrong with a text as an identifier, and where (positions count from 1); None if nothing is.

    An identifier is in NFC and not empty. It holds no control, format, private-use, unassigned or default-ignorable
    character, and no blank but single plain ones between others."""
    if not text:
        return "is empty"
    if text.isascii() and text.isprintable():
        return _blank_fault(text)
    for position, character in enumerate(text, 1):
        if (kind := _unfit(character)) is not None:
            return f"has {kind} (U+{ord(character):04X}) at position {position}"
    if not unicodedata.is_normalized("NFC", text):
        return "is not in Unicode's composed form (NFC)"
    return _blank_fault(text)


def _unfit(character: str) -> str | None:
    """What kind of character it is, if identifiers may not hold it."""
    if character.isascii() and character.isprintable():
        return None
    category = unicodedata.category(character)
    # before the categories: most of them are format characters, some are letters or marks
    if _INVISIBLE.match(character):
        return "an invisible character"
    if category in _KINDS:
        return _KINDS[category]
    if category[0] == "Z" or character == _BRAILLE_BLANK:
        return "a blank other than the plain one"
    # the no-break hyphen, which paper shows as a hyphen
    if unicodedata.decomposition(character).startswith("<noBreak>"):
        return "a no-break character"
    return None


def _blank_fault(text: str) -> str | None:
    if text[0] == " ":
        return "begins with a blank"
    if text[-1] == " ":
        return "ends with a blank"
    if (index := text.find("  ")) >= 0:
        return f"has two blanks in a row at position {index + 1}"
    return None


def as_identifier(text: str) -> str:
    """The text in NFC, as an identifier; raises ValueError that says what is wrong with it, and where."""
    text = nfc(text)
    if (fault := identifier_fault(text)) is not None:
        raise ValueError(fault)
    return text


def as_name(text: str) -> str:
    """The text in NFC, as a name or a reason; raises ValueError if it has no visible character."""
    text = nfc(text)
    if _VISIBLE.search(text) is None:
        raise ValueError("has no visible character")
    return text


class Text(str):
    """A text of a request body, in NFC; subclasses say how long it may be, in characters after normalisation.

    msgspec builds them through `validation.read_hook`, so that no schema that uses them can forget the rule."""

    __slots__ = ()
    shortest: ClassVar[int] = 1
    longest: ClassVar[int]

    @classmethod
    def read(cls, value: object) -> Self:
        """From a decoded JSON value; raises ValueError that says what is wrong with it."""
        if not isinstance(value, str):
            raise ValueError("must be a string")
        # composing leaves a quarter of the characters at least, so what is longer is too long in any form
        if len(value) <= 4 * cls.longest:
            value = cls.checked(value)
        if len(value) > cls.longest:
            raise ValueError(f"is longer than {cls.longest} characters")
        return cls(value)

    @staticmethod
    def checked(text: str) -> str:
        return nfc(text)


class Identifier(Text):
    """What names one thing among others: a sku, a code, a unit."""

    __slots__ = ()
    checked = staticmethod(as_identifier)


class Label(Text):
    """What people read: a name, a reason. It holds at least one visible character."""

    __slots__ = ()
    checked = staticmethod(as_name)
