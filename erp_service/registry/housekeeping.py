"""What is done about once a minute by one worker of the cluster: old rows are pruned, what was missed is made good."""

from collections.abc import Awaitable, Callable

from msgspec import Struct
from sqlalchemy import TextClause

from erp_service.registry.services import ServiceSet


class Pruning(Struct, frozen=True):
    """Rows whose keeping time is over. `statement` deletes at most `:batch` of them, and is repeated until it finds
    fewer; each run is a transaction of its own, so none holds its locks for long."""

    rows: str
    statement: TextClause


class HousekeepingStep(Struct, frozen=True):
    """Anything else. Must be safe to be cut short, repeated, or run twice at once."""

    name: str
    run: Callable[[ServiceSet], Awaitable[None]]
