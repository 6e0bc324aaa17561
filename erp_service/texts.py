"""Texts that people and machines send: one form for what looks the same, and which characters an identifier may hold.

`CAFÉ` composed and decomposed is equal on paper and unequal to every program, so each text is normalised to NFC
(UAX #15) before it is stored or compared. Identifiers also hold nothing that paper does not show. That is decided by
Unicode properties, so that a new version of Unicode needs no new list here. Letters of different scripts that look
alike (Latin A, Cyrillic А) stay different: a rule against them (UTS #39) would refuse Greek and Cyrillic part numbers.
"""

import asyncio
import re
import unicodedata
from collections.abc import Iterator
from typing import ClassVar

import msgspec
import regex

from erp_service import errors

# `re` and `unicodedata` do not know the property Default_Ignorable_Code_Point: zero-width characters, variation
# selectors, tag letters, the combining grapheme joiner, Hangul fillers.
_INVISIBLE = regex.compile(r"\p{Default_Ignorable_Code_Point}")
_VISIBLE = regex.compile(r"[\p{L}\p{N}\p{P}\p{S}--\p{Default_Ignorable_Code_Point}--\u2800]", regex.VERSION1)
# Sorting the marks of one letter takes the square of their number, so a text of nothing but marks could stop a process
# for minutes. Of more than 30 in a row, groups are made with U+034F (UAX #15, Stream-Safe Text Format).
_MOST_MARKS = 30
_MARK = regex.compile(r"\P{Canonical_Combining_Class=0}")
_MANY_MARKS = regex.compile(rf"({_MARK.pattern}{{{_MOST_MARKS}}})(?={_MARK.pattern})")
_BRAILLE_BLANK = "\u2800"
"""A symbol (So) by its property, and a blank on paper: the one such character."""
_NO_BREAK = "a no-break character"
_KINDS = {
    "Cc": "a control character",
    "Cf": "an invisible character",
    "Co": "a private-use character",
    "Cn": "a character that Unicode does not define",
    "Cs": "half of a surrogate pair",
}


def nfc(text: str) -> str:
    """The text in Unicode's composed form; one that is in it already is returned itself."""
    if text.isascii():
        return text
    # a longer row of marks has one at a multiple of 30; looking at those alone is 30 times as fast
    if len(text) > _MOST_MARKS and _MARK.search(text[::_MOST_MARKS]) is not None:
        text = _MANY_MARKS.sub("\\1\u034f", text)
    return unicodedata.normalize("NFC", text)


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
        return _NO_BREAK
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


def appearance(text: str) -> str:
    """The identifier that paper shows like this text: in NFC, blanks single and inside, without what nobody sees."""
    shown = []
    for character in nfc(text):
        if character.isspace() or character == _BRAILLE_BLANK:
            shown.append(" ")
        elif (kind := _unfit(character)) is None:
            shown.append(character)
        elif kind == _NO_BREAK:
            shown.append(unicodedata.normalize("NFKC", character))
    return " ".join("".join(shown).split())


def as_name(text: str) -> str:
    """The text in NFC, as a name or a reason; raises ValueError if it has no visible character."""
    text = nfc(text)
    if _VISIBLE.search(text) is None:
        raise ValueError("has no visible character")
    return text


class _PlainText(type):
    """Every str is an instance: msgspec checks what `read` made, and can decode and compare subclasses, not encode
    them, so none is ever made."""

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, str)


class Text(str, metaclass=_PlainText):
    """The type of a text in a request body; subclasses say how long it may be, in characters after normalisation.

    Its values are plain strings in NFC. msgspec has them made by `validation.read_hook`, so that no schema that uses
    the type can forget the rule."""

    __slots__ = ()
    shortest: ClassVar[int] = 1
    longest: ClassVar[int]
    pattern: ClassVar[str | None] = None
    """What a regular expression can say of the rule, for the OpenAPI document."""

    @classmethod
    def read(cls, value: object) -> str:
        """From a decoded JSON value; raises ValueError that says what is wrong with it."""
        if not isinstance(value, str):
            raise ValueError("must be a string")
        # composing leaves a quarter of the characters at least, so what is longer is too long in any form
        if len(value) <= 4 * cls.longest:
            value = cls.checked(value)
        if len(value) > cls.longest:
            raise ValueError(f"is longer than {cls.longest} characters")
        return value

    @staticmethod
    def checked(text: str) -> str:
        return nfc(text)


class Identifier(Text):
    """What names one thing among others: a sku, a code, a unit."""

    __slots__ = ()
    pattern = r"^\S+( \S+)*$"
    checked = staticmethod(as_identifier)


class Label(Text):
    """What people read: a name, a reason. It holds at least one visible character."""

    __slots__ = ()
    pattern = r"\S"
    checked = staticmethod(as_name)


_PIECE = 16_384  # characters that are normalised at once: the worst of them take some milliseconds
_STRINGS = 1_000  # that are normalised at once, some microseconds each
_MOST_STRINGS = 20_000

_ESCAPE = b"\\u"
# a control character, a quote or a backslash, which must stay escaped
_NEEDED_ESCAPE = re.compile(r"\\u00(?:[01][0-9a-fA-F]|22|5[cC])")
# the letter of an escape is no letter that the mark could join
_MARKED_ESCAPE = regex.compile(r"\\[bfnrt]\p{M}")
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
# a letter that no character before it can join, nor be sorted behind
_BOUNDARY = regex.compile(r"[\p{NFC_Quick_Check=Yes}&&\p{Canonical_Combining_Class=0}]", regex.VERSION1)


async def normalised_json(body: bytes) -> bytes:
    """The same JSON with every string in NFC, keys too; a body that is not JSON is returned as it is, to be refused.

    Done here, to the whole body, so that no schema can forget it. Every part of a normalised text is normalised
    (UAX #15, closure under substringing), so mostly one look at the whole is enough. Raises errors.Invalid."""
    if body.isascii() and _ESCAPE not in body:
        return body
    try:
        text = body.decode()
        plain = _unescaped(text) if _ESCAPE in body else text
    except UnicodeError:
        return body
    composed = await _in_pieces(plain)
    if composed == plain:
        return body
    if _NEEDED_ESCAPE.search(text) is None and _MARKED_ESCAPE.search(plain) is None:
        return composed.encode()
    if text.count('"') > 2 * _MOST_STRINGS:
        raise errors.Invalid(
            f"The body has more than {_MOST_STRINGS} strings and is not in Unicode's form NFC: send NFC."
        )
    return (await _string_by_string(text)).encode()


def _unescaped(text: str) -> str:
    r"""With the characters that `\uXXXX` stands for, also as surrogate pairs. Raises UnicodeError."""
    units = text.encode("raw_unicode_escape").decode("raw_unicode_escape")
    return units.encode("utf-16-le", "surrogatepass").decode("utf-16-le")


async def _in_pieces(text: str) -> str:
    """In NFC. Between the pieces other requests have their turn."""
    pieces: list[str] = []
    for piece in _pieces(text):
        if pieces:
            await asyncio.sleep(0)
        pieces.append(nfc(piece))
    return "".join(pieces)


async def _string_by_string(text: str) -> str:
    """The JSON text with each string decoded, normalised and encoded again."""
    parts, start = [], 0
    for count, found in enumerate(_STRING.finditer(text), 1):
        parts += [text[start : found.start()], _normalised_string(found[0])]
        start = found.end()
        if not count % _STRINGS:
            await asyncio.sleep(0)
    return "".join([*parts, text[start:]])


def _pieces(text: str) -> Iterator[str]:
    """The text, cut where nothing can join. Raises errors.Invalid if there is no such place for thousands of
    characters, which is no text of any language."""
    start = 0
    while len(text) - start > 2 * _PIECE:
        cut = _BOUNDARY.search(text, start + _PIECE, start + 2 * _PIECE)
        if cut is None:
            raise errors.Invalid("A string of the body is nothing but combining characters: send text in NFC.")
        yield text[start : cut.start()]
        start = cut.start()
    yield text[start:]


def _normalised_string(string: str) -> str:
    try:
        text = msgspec.json.decode(string, type=str)
    except msgspec.DecodeError:
        return string
    return msgspec.json.encode(nfc(text)).decode()
