"""The figures of a part as tables of text, for the page and for the terminal."""

from collections.abc import Sequence
from typing import NamedTuple

from tests.bench.recorder import CPU, P50, P99, RATE, SERVER_CPU
from tests.bench.records import OURS, Key, Run, Spread, ratios, spread


class Table(NamedTuple):
    """The first `words` columns hold words, the others numbers."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int


class Compared(NamedTuple):
    """A part that compares the ways of the same work, such as sizes, with the first of them. `first_is_over`: the ratio
    is that of the first to the others, which for rates is how many times as long the others take."""

    title: str
    unit: str
    ways: Sequence[str]
    first_is_over: bool = False


_LOAD_UNITS = (RATE, P50, P99, CPU, SERVER_CPU)


def number(value: float) -> str:
    """Three significant figures, and all those before the point."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3f}"


def shown(values: Spread | None) -> str:
    """The median, with the least and the greatest if they differ from it."""
    if values is None:
        return "–"
    middle, least, greatest = (number(value) for value in values)
    return middle if least == greatest else f"{middle} ({least} to {greatest})"


def by_way(run: Run, part: str) -> list[Table]:
    """Loads: a row for each work and way, with the ratio of ours to each peer. Other figures: in a second table."""
    keys = [series.key for series in run.series if series.key.part == part]
    loads, others = [], []
    for key in keys:
        if key.unit == RATE:
            cells = [shown(spread(run.values(_with(key, unit=unit)))) for unit in _LOAD_UNITS]
            loads.append([key.what, key.way, *cells, _ours_to(run, key)])
        elif key.unit not in _LOAD_UNITS:
            others.append([key.what, key.way, key.unit, shown(spread(run.values(key))), _ours_to(run, key)])
    tables = []
    if loads:
        tables.append(Table("", ["what", "by", *_LOAD_UNITS, "ours to it"], loads, words=2))
    if others:
        tables.append(Table("", ["what", "by", "unit", "figure", "ours to it"], others, words=3))
    return tables


def compared(run: Run, part: str, how: Sequence[Compared]) -> list[Table]:
    """A row for each work that is compared, a column for each way, and the ratio of the last ways to the first."""
    tables = []
    for title, unit, known_ways, first_is_over in how:
        keys = [series.key for series in run.series if series.key.part == part and series.key.unit == unit]
        ways = [way for way in known_ways if any(key.way == way for key in keys)]
        rows = []
        for what in dict.fromkeys(key.what for key in keys):
            values = [run.values(Key(part, what, way, unit)) for way in ways]
            if not any(values[1:]):
                continue
            quotients = [
                ratios(values[0], other) if first_is_over else ratios(other, values[0]) for other in values[1:]
            ]
            rows.append([what, *(shown(spread(v)) for v in values), *(shown(spread(q)) for q in quotients)])
        if rows:
            heads = [f"{way} / {ways[0]}" for way in ways[1:]]
            tables.append(Table(f"{title} ({unit})", ["what", *ways, *heads], rows, words=1))
    return tables


def _ours_to(run: Run, key: Key) -> str:
    if key.way == OURS:
        return ""
    return shown(spread(ratios(run.values(_with(key, way=OURS)), run.values(key))))


def _with(key: Key, *, way: str | None = None, unit: str | None = None) -> Key:
    return Key(key.part, key.what, way or key.way, unit or key.unit)
