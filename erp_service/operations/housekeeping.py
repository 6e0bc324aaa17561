"""What is done once a minute by one worker of the cluster, whichever has room: the features say what."""

from collections.abc import Sequence

from erp_service.db.engine import Database
from erp_service.observability.telemetry import log
from erp_service.registry.housekeeping import HousekeepingStep, Pruning
from erp_service.registry.services import ServiceSet

BATCH = 500
MOST_PRUNED = 20_000
"""Rows of one kind that one round prunes; another round follows in a minute."""


class Housekeeping:
    """All prunings and steps of the features, in their order."""

    def __init__(self, parts: Sequence[Pruning | HousekeepingStep], *, batch: int = BATCH) -> None:
        self.parts = parts
        self._batch = batch

    async def run(self, services: ServiceSet) -> None:
        """Everything, once. Raises what a step raises; the next round begins anew."""
        for part in self.parts:
            if isinstance(part, Pruning):
                await self.prune(services.find(Database), part)
            else:
                await part.run(services)

    async def prune(self, database: Database, pruning: Pruning) -> int:
        """Delete batches, each in a transaction of its own, until none is left or it is enough for now."""
        total, removed = 0, self._batch
        while removed == self._batch and total < MOST_PRUNED:
            async with database.write() as db:
                removed = (await db.execute(pruning.statement, {"batch": self._batch})).rowcount
            total += removed
        if total:
            log.info("pruned", rows_of=pruning.rows, rows=total)
        return total
