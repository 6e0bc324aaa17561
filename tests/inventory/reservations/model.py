"""Reservations and movements in plain numbers: worded after the contract, and sharing no line with the service."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

Key = tuple[str, str]
"""A sku and the code of a location; one that ends in `-` allows negative stock."""


class Short(Exception):
    def __init__(self, available: Decimal) -> None:
        self.available = available


class Ended(Exception):
    def __init__(self, status: str) -> None:
        self.status = status


@dataclass
class Hold:
    key: Key
    quantity: Decimal
    original: Decimal
    status: str = "ACTIVE"
    is_past: bool = False
    """Its time is over, and nobody has noticed yet."""

    @property
    def shown(self) -> str:
        return "EXPIRED" if self.status == "ACTIVE" and self.is_past else self.status


@dataclass
class Stock:
    on_hand: dict[Key, Decimal]
    holds: list[Hold] = field(default_factory=list)

    def active(self, key: Key) -> Iterator[Hold]:
        return (hold for hold in self.holds if hold.key == key and hold.status == "ACTIVE")

    def held(self, key: Key) -> Decimal:
        return sum((hold.quantity for hold in self.active(key)), Decimal(0))

    def sweep(self, *keys: Key) -> None:
        for key in keys:
            for hold in self.active(key):
                if hold.is_past:
                    hold.status = "EXPIRED"

    def reserve(self, lines: list[tuple[Key, Decimal]]) -> None:
        self.sweep(*(key for key, _ in lines))
        for key, quantity in lines:
            free = self.on_hand[key] - self.held(key)
            if quantity > free:
                raise Short(max(free, Decimal(0)))
            self.holds.append(Hold(key, quantity, quantity))

    def receive(self, key: Key, quantity: Decimal) -> None:
        self.sweep(key)
        self.on_hand[key] += quantity

    def issue(self, key: Key, quantity: Decimal, hold: Hold | None = None) -> None:
        if hold is not None:
            if hold.status != "ACTIVE":
                raise Ended(hold.status)
            hold.quantity -= min(quantity, hold.quantity)
            hold.status = "ACTIVE" if hold.quantity else "USED"
        self.sweep(key)
        free = self.on_hand[key] - self.held(key)
        if quantity > free and not key[1].endswith("-"):
            raise Short(free)
        self.on_hand[key] -= quantity

    def move(self, source: Key, target: Key, quantity: Decimal) -> None:
        self.sweep(source, target)
        self.issue(source, quantity)
        self.on_hand[target] += quantity

    def release(self, hold: Hold) -> None:
        if hold.status == "USED":
            raise Ended("USED")
        self.sweep(hold.key)
        if hold.status == "ACTIVE":
            hold.status = "RELEASED"

    def extend(self, hold: Hold) -> None:
        if hold.status != "ACTIVE":
            raise Ended(hold.status)
        was_past, hold.is_past = hold.is_past, False
        self.sweep(hold.key)
        if was_past and self.held(hold.key) > self.on_hand[hold.key]:
            raise Ended("EXPIRED")
