"""Quantities in the unit that a caller gives, as quantities in the item's own: by exact ratios, never rounded."""

from decimal import Decimal
from fractions import Fraction

from erp_service.decimals import COST_SCALE, EXACT, PRECISION, QUANTITY_SCALE, rounded, shortest
from erp_service.inventory.posting.row_locks import LockedItem

_QUANTITY_END = Decimal(10) ** (PRECISION - QUANTITY_SCALE)


class UnitFault(ValueError):
    """`field` is that of the body that is wrong."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(detail)
        self.field = field


def ratio_of(item: LockedItem, unit: str | None) -> Fraction | int:
    """How many of the item's unit one of `unit` is. Raises UnitFault."""
    if unit is None or unit == item.unit:
        return 1
    for pack in item.packs:
        if pack.unit == unit:
            return Fraction(pack.numerator, pack.denominator)
    known = ", ".join([item.unit, *(pack.unit for pack in item.packs)])
    raise UnitFault("unit", f"is no unit of {item.sku}, which is counted in {known}")


def in_item_unit(item: LockedItem, quantity: Decimal, unit: str | None) -> Decimal:
    """The quantity, signed, in the item's unit. Raises UnitFault if the item cannot be divided so far."""
    ratio = ratio_of(item, unit)
    if ratio == 1 and item.decimals == QUANTITY_SCALE:
        return quantity
    exact = Fraction(quantity) * ratio
    if (exact * 10**item.decimals).denominator != 1:
        counted = f"in {item.unit} with up to {item.decimals} decimals" if item.decimals else f"in whole {item.unit}"
        raise UnitFault("quantity", f"cannot be divided so far: {item.sku} is counted {counted}")
    number = EXACT.divide(Decimal(exact.numerator), Decimal(exact.denominator))
    if abs(number) >= _QUANTITY_END:
        raise UnitFault("quantity", f"is {shortest(number)} {item.unit}, with more than 12 digits before the point")
    return number


def cost_in_item_unit(item: LockedItem, unit_cost: Decimal, unit: str | None) -> Decimal:
    """The cost of one in the item's unit, to 10 decimals, of the cost of one of `unit`. Raises UnitFault."""
    ratio = ratio_of(item, unit)
    if ratio == 1:
        return unit_cost
    return rounded(EXACT.divide(unit_cost * ratio.denominator, Decimal(ratio.numerator)), COST_SCALE)
