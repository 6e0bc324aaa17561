"""The parser and printer of numbers: it accepts exactly its grammar and loses no digit."""

import re
from decimal import Decimal

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from erp_service import errors, validation
from erp_service.decimals import (
    JsonNumber,
    Level,
    Money,
    Number,
    Quantity,
    SignedMoney,
    SignedQuantity,
    UnitCost,
    parse,
    rounded,
    shortest,
    trimmed,
)

KINDS: list[type[Number]] = [Quantity, SignedQuantity, Level, UnitCost]
_ALPHABET = "0123456789.-+eE_, \n\tnaNinfx٣५０\u00a0\u2212"
texts = st.one_of(
    st.text(_ALPHABET, max_size=45), st.from_regex(r"-?[0-9]{0,20}\.?[0-9]{0,12}", fullmatch=True), st.text()
)


def fits(text: str, scale: int) -> bool:
    """The grammar in another form: checked by hand, character by character."""
    if len(text) > 40:
        return False
    whole, point, decimals = text.removeprefix("-").partition(".")
    if not whole or any(c not in "0123456789" for c in whole + decimals) or bool(point) != bool(decimals):
        return False
    return len(whole.lstrip("0") or "0") <= 18 - scale and len(decimals.rstrip("0")) <= scale


@given(texts, st.sampled_from([4, 6]))
@example("1\n", 6)
@example("-0", 6)
@example("0" * 39 + "1", 6)
@example("0" * 40 + "1", 6)
@example("1.", 6)
@example(".5", 6)
@example("--1", 6)
@example("999999999999.9999990", 6)
@example("1000000000000", 6)
def test_parse_takes_exactly_its_grammar(text: str, scale: int) -> None:
    if fits(text, scale):
        assert parse(text, scale=scale) == Decimal(text)
    else:
        with pytest.raises(ValueError, match=r"^(is|has) "):
            parse(text, scale=scale)


numbers = st.integers(-(10**18) + 1, 10**18 - 1).map(lambda n: Decimal(n).scaleb(-6))


@given(numbers)
@example(Decimal("-0.000000"))
@example(Decimal("1E+2"))
@example(Decimal("0E-6"))
def test_what_is_printed_is_read_again_and_is_the_shortest(number: Decimal) -> None:
    text = shortest(number)
    assert re.fullmatch(r"0|-?(0|[1-9][0-9]*)(\.[0-9]*[1-9])?", text)
    assert text != "-0"
    again = parse(text, scale=6)
    assert again == number
    assert shortest(again) == text
    assert str(trimmed(number)) == text


@given(numbers, st.integers(0, 6))
def test_rounding_is_half_away_from_zero_like_postgres(number: Decimal, scale: int) -> None:
    whole, rest = divmod(abs(number) * 10**scale, 1)
    away = whole + (1 if rest * 2 >= 1 else 0)
    assert abs(rounded(number, scale)) == away / 10**scale
    assert rounded(number, scale) * number >= 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "value",
    [
        "NaN",
        "nan",
        "Infinity",
        "-Infinity",
        "inf",
        "sNaN",
        "1_000",
        "1,5",
        "٣",
        "１",
        "1e5",
        "1E-30",
        "+1",
        " 1",
        "1 ",
        "1\n",
        "",
        "-",
        ".",
        "0x10",
        "1" * 13,
        "1" * 41,
        "0.1234567",
        "1\u0000",
        10**12 * 10**6,
        10**400,
        1.5,
        float("nan"),
        True,
        False,
        None,
        [],
        {},
        b"1",
        JsonNumber("1e5"),
        JsonNumber("1E400"),
        JsonNumber("0.1234567"),
    ],
    ids=lambda value: repr(getattr(value, "text", value))[:20],
)
def test_what_is_no_plain_number_is_refused(kind: type[Number], value: object) -> None:
    # 13 digits before the point are too many for a quantity, and 7 after it; a cost has 14 and 10
    if kind is UnitCost and value == "1" * 13:
        value = "1" * 15
    if kind is UnitCost and "0.1234567" in (value, getattr(value, "text", None)):
        value = "0.12345678901"
    with pytest.raises(ValueError):
        kind.read(value)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (Quantity, ["0.000001", "999999999999.999999", 1, JsonNumber("2.50")], ["0", "-1", 0, "-0.0", "0.0000000"]),
        (SignedQuantity, ["-999999999999.999999", "0", -1, JsonNumber("-2.5")], ["1000000000000", "-0.0000001"]),
        (Level, ["0", "-0", "-0.000", 0, "12.500000000"], ["-0.000001", -1]),
        (UnitCost, ["0", "99999999999999.9999999999", "1.00010"], ["-0.0001", "0.00000000001", 10**14]),
        (Money, ["0", "99999999999999.9999", "1.00010"], ["-0.0001", "0.00001", 10**14]),
        (SignedMoney, ["0", "-99999999999999.9999", "-1.00010"], ["0.00001", -(10**14)]),
    ],
)
def test_each_kind_holds_to_the_limits_of_its_column(kind: type[Number], good: list[object], bad: list[object]) -> None:
    for value in good:
        number = kind.read(value)
        assert type(number) is kind
        assert number == Decimal(value.text if isinstance(value, JsonNumber) else str(value))
        assert not (number.is_zero() and number.is_signed())
    for value in bad:
        with pytest.raises(ValueError):
            kind.read(value)


class Body(msgspec.Struct):
    quantity: SignedQuantity


@given(numbers)
def test_a_body_may_say_a_number_as_a_string_or_as_a_number_and_never_as_a_binary_float(number: Decimal) -> None:
    text = f"{number:f}"
    for written in (f'"{text}"', text, shortest(number)):
        body = validation.decode(Body, b'{"quantity": %b}' % written.encode())
        assert body.quantity == number
        assert msgspec.json.encode(trimmed(body.quantity)) == f'"{shortest(number)}"'.encode()


@pytest.mark.parametrize("written", ["1e5", "1E5", "1e-3", "1.0e0", "-1e400", "1e999999999", "NaN", "Infinity", "01"])
def test_a_body_with_a_number_that_is_not_plain_is_refused(written: str) -> None:
    with pytest.raises((errors.Invalid, errors.Malformed)):
        validation.decode(Body, b'{"quantity": %b}' % written.encode())
