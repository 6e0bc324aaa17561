"""What `erp verify` proves. A proof selects the rows at fault.

The database refuses most such rows by itself. They can still be there: by a restored backup, a disabled trigger, or a
fault of ours."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import asyncpg
from msgspec import Struct

from erp_service.settings import Settings

MOST_ROWS = 20
"""Rows at fault that a finding shows; it counts all of them."""


class Proof(Struct, frozen=True):
    """`rows` is a select of the rows at fault, one statement; `holds` says what does not hold if there is any."""

    name: str
    holds: str
    rows: str


class Finding(Struct, frozen=True):
    """What does not hold: the first rows at fault, by column, and the number of all."""

    proof: str
    holds: str
    rows: tuple[dict[str, Any], ...]
    total: int

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.proof}: it does not hold that {self.holds}; {self.total} at fault:"
        for row in self.rows:
            yield "  " + ", ".join(f"{column} {value}" for column, value in row.items())
        if self.total > len(self.rows):
            yield f"  and {self.total - len(self.rows)} more"


Judge = Callable[[asyncpg.Connection], Awaitable[Finding | None]]


class SlowProof(Struct, frozen=True):
    """For a proof that takes longer than a snapshot may be held open. `prepare` reads from the snapshot that all proofs
    share, and returns the function that checks the rest after it was closed. Neither changes anything."""

    name: str
    holds: str
    prepare: Callable[[asyncpg.Connection, Settings], Awaitable[Judge]]
