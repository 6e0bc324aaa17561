"""Collects the figures of a run, and what could not be measured."""

import contextlib
from collections.abc import Iterator

from rich.console import Console

from tests.bench.load import Load, NotMeasured
from tests.bench.records import Key, Series

RATE, P50, P99 = "requests/s", "p50 ms", "p99 ms"
CPU, SERVER_CPU = "CPU ms each", "Postgres CPU ms each"


class Recorder:
    def __init__(self, part: str, out: Console) -> None:
        self.part = part
        self.missing: list[str] = []
        self.notes: list[str] = []
        self.versions: dict[str, str] = {}
        self._out = out
        self._values: dict[Key, list[float]] = {}
        self._refused: set[tuple[str, str]] = set()

    @property
    def series(self) -> list[Series]:
        return [Series(key, values) for key, values in self._values.items() if (key.what, key.way) not in self._refused]

    def add(self, what: str, way: str, unit: str, value: float) -> None:
        self._values.setdefault(Key(self.part, what, way, unit), []).append(float(f"{value:.6g}"))

    def add_load(self, what: str, way: str, load: Load) -> None:
        for unit, value in (
            (RATE, load.rate),
            (P50, load.p50),
            (P99, load.p99),
            (CPU, load.cpu),
            (SERVER_CPU, load.server_cpu),
        ):
            self.add(what, way, unit, value)

    @contextlib.contextmanager
    def figure(self, what: str, way: str) -> Iterator[None]:
        """Around all that measures one figure once. After NotMeasured no value of this figure is shown, nor of its
        earlier rounds, and the run fails in the end."""
        try:
            yield
        except NotMeasured as problem:
            if (what, way) not in self._refused:
                self._refused.add((what, way))
                self.missed(f"{what}, {way}: {problem}")

    def missed(self, problem: str) -> None:
        """Something of this part could not be measured: loud, and the run fails in the end."""
        self._out.print(f"{self.part}: NOT MEASURED: {problem}", style="bold red", markup=False)
        self.missing.append(f"{self.part}, {problem}")

    def say(self, text: str) -> None:
        self._out.print(f"{self.part}: {text}", markup=False)

    def note(self, text: str) -> None:
        """A sentence for the page."""
        self.notes.append(f"{self.part}: {text}")
