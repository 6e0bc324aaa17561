"""What the machine's items and places are, and how its days and numbers are written."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from tests.inventory.company.goods import Goods

PLACES = ("MAIN", "SHOP", "YARD-")
BOX, THIRD = "box", "third"
GOODS = (
    Goods(6, {BOX: Fraction(12), THIRD: Fraction(1, 3)}),
    Goods(0, {BOX: Fraction(12)}),
    Goods(2, {THIRD: Fraction(1, 3)}),
)
ITEMS = tuple(range(len(GOODS)))
FIRST_DAY = datetime(2026, 1, 1, 12, tzinfo=UTC)


def moment(day: int) -> datetime:
    return FIRST_DAY + timedelta(days=day)


def text(number: Fraction) -> str:
    """An exact decimal."""
    shown = f"{Decimal(number.numerator) / number.denominator:f}"
    assert Fraction(shown) == number
    return shown


def number(shown: str | None) -> Fraction | None:
    return None if shown is None else Fraction(shown)


def half(item: int, quantity: Fraction) -> Fraction:
    """About half of it, as far as the item can be divided; at least the least of it."""
    steps = 10 ** GOODS[item].decimals
    return Fraction(max(int(quantity * steps) // 2, 1), steps)
