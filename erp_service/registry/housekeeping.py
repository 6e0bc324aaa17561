"""What one worker of the cluster does about once a minute: prune old rows, and catch up on what was missed."""

from collections.abc import Awaitable, Callable

from msgspec import Struct
from sqlalchemy import TextClause

from erp_service.registry.services import ServiceSet


class Pruning(Struct, frozen=True):
    """Rows past their retention time. `statement` deletes at most `:batch` of them, and is repeated until it deletes
    fewer; each run is a transaction of its own, so that none holds its locks for long."""

    rows: str
    statement: TextClause


class HousekeepingStep(Struct, frozen=True):
    """Anything else. It must be safe when it is interrupted, repeated, or run twice at the same time."""

    name: str
    run: Callable[[ServiceSet], Awaitable[None]]
