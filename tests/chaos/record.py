"""What a chaos test reports for the table at the end."""

from typing import Any, NamedTuple

PROPERTY = "chaos"


class Line(NamedTuple):
    """One line of the table: seconds from the fault to the recovery, the number of attempts, and the result."""

    fault: str
    seconds: float | None
    starts: str
    effects: str


class Record:
    """Takes the line of one test."""

    def __init__(self, properties: list[tuple[str, Any]], fault: str) -> None:
        self._properties, self._fault = properties, fault

    def __call__(self, *, seconds: float | None, starts: int | str, effects: str) -> None:
        self._properties.append((PROPERTY, list(Line(self._fault, seconds, str(starts), effects))))


def fault_of(name: str) -> str:
    return name.removeprefix("test_").replace("_", " ")
