"""What a run of `make bench` has found, as it is stored and as the page is made from it."""

import math
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import NamedTuple

import msgspec

OURS = "ours"


class Key(msgspec.Struct, frozen=True, order=True):
    """What a series of values is of: the part, the work, who did it (`ours`, or a peer), and the unit."""

    part: str
    what: str
    way: str
    unit: str


class Series(msgspec.Struct):
    """One value for each round, in the order of the rounds: the values of two series of one round belong together."""

    key: Key
    values: list[float]


class Machine(msgspec.Struct):
    """Without a name: pages are public."""

    cores: int
    cpu: str
    memory_gib: float
    kernel: str
    load_before: float
    """The load average before the start: what else the machine did."""


class Run(msgspec.Struct):
    """`missing` says what could not be measured, and why; such a run has failed."""

    began: datetime
    seconds: float
    quick: bool
    revision: str
    parts: list[str]
    sizes: dict[str, str]
    machine: Machine
    versions: dict[str, str]
    notes: list[str]
    series: list[Series]
    missing: list[str]

    def values(self, key: Key) -> list[float]:
        return next((series.values for series in self.series if series.key == key), [])


class Spread(NamedTuple):
    """The median of the rounds, and the least and the greatest of them."""

    median: float
    least: float
    greatest: float


def spread(values: Iterable[float]) -> Spread | None:
    """None if there are no values."""
    numbers = [value for value in values if not math.isnan(value)]
    return Spread(median(numbers), min(numbers), max(numbers)) if numbers else None


def ratios(over: list[float], under: list[float]) -> list[float]:
    """Of the values of the same rounds, since what else the machine did met both."""
    return [one / other for one, other in zip(over, under, strict=False) if other]


def load(path: Path) -> Run:
    return msgspec.json.decode(path.read_bytes(), type=Run)


def store(run: Run, directory: Path) -> Path:
    """Named by its time, so that runs sort by age."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{run.began:%Y-%m-%dT%H%M%SZ}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=1) + b"\n")
    return path
