"""What looks the same on paper is the same text, and identifiers hold nothing that paper does not show."""

import sys
import unicodedata

import msgspec
import pytest

from erp_service.texts import Identifier, Label, Text, as_identifier, as_name, identifier_fault, nfc
from erp_service.validation import read_hook


class Note(Text):
    longest = 10


class Sku(Identifier):
    longest = 10


class Name(Label):
    longest = 10


def test_composed_and_decomposed_texts_are_one() -> None:
    assert nfc("CAFE\u0301") == "CAF\u00c9"
    assert as_identifier("CAFE\u0301") == as_identifier("CAF\u00c9") == "CAF\u00c9"
    assert as_name("A\u030angstro\u0308m") == "\u00c5ngstr\u00f6m"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "is empty"),
        ("A\u00a0B", "has a blank other than the plain one (U+00A0) at position 2"),
        ("A\u3000B", "has a blank other than the plain one (U+3000) at position 2"),
        ("A\u2028B", "has a blank other than the plain one (U+2028) at position 2"),
        ("A\u2800B", "has a blank other than the plain one (U+2800) at position 2"),
        ("A  B", "has two blanks in a row at position 2"),
        (" A", "begins with a blank"),
        ("A ", "ends with a blank"),
        ("A\tB", "has a control character (U+0009) at position 2"),
        ("A\n", "has a control character (U+000A) at position 2"),
        ("A\u200b", "has an invisible character (U+200B) at position 2"),
        ("A\u00ad", "has an invisible character (U+00AD) at position 2"),
        ("A\u200d", "has an invisible character (U+200D) at position 2"),
        ("A\u202e", "has an invisible character (U+202E) at position 2"),
        ("A\ufe0f", "has an invisible character (U+FE0F) at position 2"),
        ("A\U000e0041", "has an invisible character (U+E0041) at position 2"),
        ("A\U000e0101", "has an invisible character (U+E0101) at position 2"),
        ("A\u034f", "has an invisible character (U+034F) at position 2"),
        ("A\u3164", "has an invisible character (U+3164) at position 2"),
        ("A\uffa0", "has an invisible character (U+FFA0) at position 2"),
        ("A\ue000", "has a private-use character (U+E000) at position 2"),
        ("A\u0378", "has a character that Unicode does not define (U+0378) at position 2"),
        ("A\ufffe", "has a character that Unicode does not define (U+FFFE) at position 2"),
        ("A\ud800", "has half of a surrogate pair (U+D800) at position 2"),
        ("A\u2011B", "has a no-break character (U+2011) at position 2"),
    ],
)
def test_identifier_says_what_is_wrong_and_where(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=r"^") as refusal:
        as_identifier(text)
    assert str(refusal.value) == fault


@pytest.mark.parametrize("text", ["BOLT-M8", "M8 x 40", "Schraube Ä", "ΑΒΓ 12", "болт", "日本 語", "برغي", "नट", "½″"])
def test_identifier_may_be_of_any_script(text: str) -> None:
    assert as_identifier(text) == text


def test_no_identifier_holds_a_character_that_paper_does_not_show() -> None:
    """Every code point: those that stay are letters, marks, digits, signs and symbols, and the plain blank inside."""
    kept = [chr(code) for code in range(sys.maxunicode + 1) if identifier_fault(nfc(f"A{chr(code)}B")) is None]
    categories = {unicodedata.category(character)[0] for character in kept if character != " "}
    assert categories == {"L", "M", "N", "P", "S"}
    names = [unicodedata.name(character, "") for character in kept]
    hidden = ("VARIATION SELECTOR", "TAG ", "ZERO WIDTH", "HANGUL FILLER")
    assert not [name for name in names if name.startswith(hidden)]


def test_name_without_a_visible_character_is_refused() -> None:
    for text in ("", " ", "\t\n", "\u200b", "\u3164", "\u2800", "\u00a0\u2003", "\ufe0f", "\u0301"):
        with pytest.raises(ValueError, match="has no visible character"):
            as_name(text)
    assert as_name(" Bolt\nM8 ") == " Bolt\nM8 "


def test_lengths_count_the_characters_that_are_stored() -> None:
    composed = "\u00e9" * 10
    for kind in (Note, Sku, Name):
        assert kind.read("e\u0301" * 10) == composed
        for too_long in (composed + "x", "x" * 10_000_000):
            with pytest.raises(ValueError, match="is longer than 10 characters"):
                kind.read(too_long)
        with pytest.raises(ValueError, match="must be a string"):
            kind.read(1)


def test_struct_of_texts_normalises_and_names_the_fault() -> None:
    class Body(msgspec.Struct):
        sku: Sku
        name: Name | None = None

    body = msgspec.convert({"sku": "CAFE\u0301", "name": "e\u0301"}, Body, dec_hook=read_hook)
    assert (body.sku, body.name) == ("CAF\u00c9", "\u00e9")
    with pytest.raises(msgspec.ValidationError, match=r"has an invisible character \(U\+200B\) at position 2"):
        msgspec.json.decode('{"sku": "A\u200b"}', type=Body, dec_hook=read_hook)
