"""The work that one worker of the cluster does once a minute, any worker with a free slot: features register what."""

from collections.abc import Sequence

from erp_service.db.engine import Database
from erp_service.observability.telemetry import log
from erp_service.registry.housekeeping import HousekeepingStep, Pruning
from erp_service.registry.services import ServiceSet

BATCH = 500
MOST_PRUNED = 20_000
"""The most rows of one kind that one run deletes; the next run follows in a minute."""


class Housekeeping:
    """All prunings and steps of the features, in the order of the features."""

    def __init__(self, parts: Sequence[Pruning | HousekeepingStep], *, batch: int = BATCH) -> None:
        self.parts = parts
        self._batch = batch

    async def run(self, services: ServiceSet) -> None:
        """Do each of them once. Raises what a step raises; the next run starts again with the first."""
        for part in self.parts:
            if isinstance(part, Pruning):
                await self.prune(services.find(Database), part)
            else:
                await part.run(services)

    async def prune(self, database: Database, pruning: Pruning) -> int:
        """Delete batch by batch, each in a transaction of its own, until none is left or MOST_PRUNED is reached.

        Returns how many rows were deleted."""
        total, deleted = 0, self._batch
        while deleted == self._batch and total < MOST_PRUNED:
            async with database.write() as db:
                deleted = await db.row_count(pruning.statement, {"batch": self._batch})
            total += deleted
        if total:
            log.info("pruned", rows_of=pruning.rows, rows=total)
        return total
