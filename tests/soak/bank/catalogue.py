"""What is posted: items with packs and decimals, and locations, one of which allows negative stock."""

from collections.abc import Mapping
from decimal import Decimal
from random import Random
from typing import Any

from msgspec import Struct


class Item(Struct, frozen=True):
    """An item. `packs` are ratios to its unit, each a number that its decimals can hold."""

    sku: str
    unit: str
    decimals: int
    packs: Mapping[str, tuple[int, int]]

    @property
    def body(self) -> dict[str, Any]:
        return {
            "sku": self.sku,
            "name": f"Sold all the time: {self.sku}",
            "unit": self.unit,
            "decimals": self.decimals,
            "units": [{"unit": unit, "numerator": n, "denominator": d} for unit, (n, d) in self.packs.items()],
        }

    @property
    def step(self) -> Decimal:
        return Decimal(1).scaleb(-self.decimals)


ITEMS = (
    Item("BOLT", "pcs", 0, {"box": (100, 1), "dozen": (12, 1)}),
    Item("OIL", "l", 3, {"can": (5, 1)}),
    Item("CABLE", "m", 2, {"roll": (305, 10)}),
    Item("TEA", "kg", 6, {"bag": (1, 8)}),
    Item("PAPER", "sheet", 0, {"ream": (500, 1)}),
)
KIT = Item("KIT", "pcs", 0, {})
PARTS = {"BOLT": Decimal(4), "OIL": Decimal("0.25")}
"""Of one kit."""
BY_SKU = {item.sku: item for item in (*ITEMS, KIT)}

LOOSE = "LOOSE"
"""Allows negative stock."""
LOCATIONS = ("MAIN", "SHOP", "BACK", LOOSE)


def location_body(code: str) -> dict[str, Any]:
    return {
        "code": code,
        "name": code,
        "location_type": "WAREHOUSE",
        "allow_negative_stock": code == LOOSE,
    }


def amount(random: Random, item: Item, most: int) -> dict[str, str]:
    """Up to about `most` of the item's unit, sometimes in packs, as a body states it."""
    if item.packs and random.random() < 0.3:
        unit = random.choice(list(item.packs))
        numerator, denominator = item.packs[unit]
        return {"quantity": str(random.randrange(1, 1 + max(1, most * denominator // numerator))), "unit": unit}
    return {"quantity": f"{part(random, item, Decimal(most)):f}"}


def in_unit(item: Item, body: Mapping[str, Any]) -> Decimal:
    """What a body states, without its sign, in the item's unit."""
    numerator, denominator = item.packs[body["unit"]] if "unit" in body else (1, 1)
    return abs(Decimal(body["quantity"])) * numerator / denominator


def part(random: Random, item: Item, whole: Decimal) -> Decimal:
    """More than zero and no more than `whole`, as far as the item can be divided."""
    return random.randrange(1, 1 + int(whole / item.step)) * item.step


def cost(random: Random) -> dict[str, str]:
    """Of what comes in: of one, of all, or none stated."""
    match random.choice(["unit_cost", "unit_cost", "total_cost", None]):
        case "unit_cost":
            return {"unit_cost": f"{Decimal(random.randrange(10**12)) / 10 ** random.choice([10, 11, 11]):.10f}"}
        case "total_cost":
            return {"total_cost": f"{Decimal(random.randrange(5_000_000)) / 10_000:f}"}
        case _:
            return {}
