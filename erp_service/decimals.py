"""The one parser and the one printer of quantities and money.

`Decimal("NaN")`, `Decimal("1_000")`, Arabic digits and `1E-30` all pass Python's own parser, and for Postgres
`'NaN' >= 0` is true, so nothing else in the project may turn text into a number that is stored.
"""

import re
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import ClassVar

PATTERN = r"^-?[0-9]{1,18}(\.[0-9]{1,18})?$"
# zeros that say nothing are not in the groups
_NUMBER = re.compile(r"(-?)0*([0-9]+)(?:\.(?=[0-9])([0-9]*?)0*)?", re.ASCII)
_MAX_LENGTH = 40

# Products of two stored numbers have 36 digits; Python's default context would round them at 28.
EXACT = Context(prec=80, rounding=ROUND_HALF_UP)

_ZERO = Decimal(0)

QUANTITY_SCALE = 6
MONEY_SCALE = 4
COST_SCALE = 10
PRECISION = 18


class JsonNumber:
    """The text of a JSON number that is not an integer, unchanged: it never becomes a binary float."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


def parse(text: str, *, scale: int, precision: int = PRECISION) -> Decimal:
    """An exact decimal with at most `scale` decimals and `precision` digits in all; raises ValueError that says why.

    Only ASCII digits, one point and a leading minus are numbers: no exponent, sign `+`, blank, underscore, NaN."""
    if len(text) > _MAX_LENGTH:
        raise ValueError("is too long for a number")
    if (match := _NUMBER.fullmatch(text)) is None:
        raise ValueError("is not a plain decimal number such as 12.5")
    sign, whole, decimals = match.groups("")
    if len(decimals) > scale:
        raise ValueError(f"has more than {scale} decimals")
    if len(whole) > precision - scale:
        raise ValueError(f"has more than {precision - scale} digits before the point")
    number = Decimal(f"{sign}{whole}.{decimals}" if decimals else f"{sign}{whole}")
    return number or Decimal(0)  # no negative zero


def shortest(number: Decimal) -> str:
    """The shortest exact text: `12.5`, not `12.500000`; `100`, not `1E+2`; never `-0`."""
    text = f"{number:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def trimmed(number: Decimal) -> Decimal:
    """The same number with no trailing zeros, so that every printer prints it in the shortest form."""
    whole = number.to_integral_value()
    # the sum is 100 for 1E+2, and 0 for -0
    return EXACT.add(whole, _ZERO) if whole == number else EXACT.normalize(number)


def rounded(number: Decimal, scale: int) -> Decimal:
    """Half away from zero, as Postgres rounds `numeric`, so that SQL can verify what Python computed."""
    return number.quantize(Decimal(1).scaleb(-scale), context=EXACT)


class Number(Decimal):
    """A number of a request body: a JSON string or number, held to the limits of its column."""

    scale: ClassVar[int]
    precision: ClassVar[int] = PRECISION
    least: ClassVar[Decimal | None] = None
    above: ClassVar[Decimal | None] = None

    @classmethod
    def read(cls, value: object) -> "Number":
        """From a decoded JSON value; raises ValueError that says what is wrong with it."""
        if isinstance(value, str):
            text = value
        elif isinstance(value, JsonNumber):
            text = value.text
        elif isinstance(value, int) and not isinstance(value, bool):
            text = str(value)
        else:
            raise ValueError('must be a number, or a string that holds one such as "12.5"')
        number = parse(text, scale=cls.scale, precision=cls.precision)
        if cls.above is not None and number <= cls.above:
            raise ValueError(f"must be greater than {shortest(cls.above)}")
        if cls.least is not None and number < cls.least:
            raise ValueError(f"must be at least {shortest(cls.least)}")
        return cls(number)


class Quantity(Number):
    """Greater than zero: how much is received, issued or moved."""

    scale = QUANTITY_SCALE
    above = Decimal(0)


class SignedQuantity(Number):
    """What an adjustment adds or, below zero, removes."""

    scale = QUANTITY_SCALE


class Level(Number):
    """Zero or more: a reorder point, a threshold."""

    scale = QUANTITY_SCALE
    least = Decimal(0)


class UnitCost(Number):
    """Zero or more: money for one unit."""

    scale = COST_SCALE
    precision = 24
    least = Decimal(0)


class Money(Number):
    """Zero or more: what something costs or is worth in all."""

    scale = MONEY_SCALE
    least = Decimal(0)


class SignedMoney(Number):
    """What a value rises or, below zero, falls by."""

    scale = MONEY_SCALE
