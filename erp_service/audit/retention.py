"""Removing audit entries that are older than the company keeps them.

Only what has a position is removed, in the order of positions. The trail keeps the digest of each, so the chain still
holds, and says what was removed; the removal is an audit entry itself. Ledger entries are never removed."""

from sqlalchemy import text

from erp_service.access.principals import system
from erp_service.audit.record import record
from erp_service.db.engine import Database
from erp_service.db.statements import Prepared
from erp_service.observability.telemetry import log
from erp_service.registry.housekeeping import HousekeepingStep
from erp_service.registry.services import ServiceSet
from erp_service.timestamps import text_of

BATCH = 5_000
MOST_BATCHES = 10
"""Of one run; the next follows in a minute."""

_WHO = system("erp worker")
_PRUNE = Prepared(text("select * from erp_prune_audit(cast(:most as integer))"))


async def prune(database: Database, *, batch: int = BATCH, most_batches: int = MOST_BATCHES) -> int:
    """Returns how many entries were removed."""
    total = 0
    for _ in range(most_batches):
        async with database.write() as db:
            pruned = (await db.execute(_PRUNE, {"most": batch})).one_or_none()
            if pruned is None:
                break
            after = {
                "position": pruned.last_position,
                "first_position": pruned.first_position,
                "entries": pruned.entries,
                "link": pruned.last_link.hex(),
                "older_than": text_of(pruned.older_than),
            }
            await record(db, _WHO, "audit.pruned", pruned.last_position, after=after)
        total += pruned.entries
    if total:
        log.info("pruned", rows_of="audit entries", rows=total)
    return total


async def _prune(services: ServiceSet) -> None:
    await prune(services.find(Database))


HOUSEKEEPING = (HousekeepingStep("audit entries past their retention", _prune),)
