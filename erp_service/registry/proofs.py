"""What `erp verify` proves. A proof selects the rows at fault.

That the database refuses most such rows by itself is no reason not to look: a restored backup, a lifted trigger or a
fault of ours would show here."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import asyncpg
from msgspec import Struct

from erp_service.settings import Settings

MOST_ROWS = 20
"""Rows at fault that a finding shows; it counts all of them."""


class Proof(Struct, frozen=True):
    """`rows` is one select of what is at fault, and nothing else; `holds` says what does not hold if there is any."""

    name: str
    holds: str
    rows: str


class Finding(Struct, frozen=True):
    """What does not hold: the first rows at fault, by column, and how many there are."""

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
    """For what takes longer than a snapshot may be held open. `prepare` reads on the one snapshot of all proofs, and
    gives what looks at the rest once that has been closed. Changes nothing."""

    name: str
    prepare: Callable[[asyncpg.Connection, Settings], Awaitable[Judge]]
