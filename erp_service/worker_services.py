"""What a worker is composed of, apart from services.py: so that a worker loads nothing of what signs people in."""

from erp_service.db.engine import Database
from erp_service.events.webhooks.context import WebhookContext, webhook_context
from erp_service.exports.context import ExportContext
from erp_service.exports.storage.registry import open_store
from erp_service.features import FEATURES
from erp_service.operations.housekeeping import Housekeeping
from erp_service.operations.seal_head import HeadCopy, head_target
from erp_service.registry.feature import load
from erp_service.registry.housekeeping import HousekeepingStep, Pruning
from erp_service.registry.services import ServiceSet
from erp_service.settings import Settings


class WorkerServices(ServiceSet, frozen=True):
    """One worker. Tasks, background steps and housekeeping find in it what they need."""

    settings: Settings
    database: Database
    exports: ExportContext
    webhooks: WebhookContext
    housekeeping: Housekeeping
    head_copy: HeadCopy

    async def close(self) -> None:
        self.webhooks.sender.close()
        await self.exports.store.close()
        await self.database.close()


def build_worker_services(settings: Settings) -> WorkerServices:
    """Connects to nothing yet. Raises SettingsError if the store, or where heads are kept, is of no known kind."""
    database = Database(settings, name="erp worker")
    steps: list[Pruning | HousekeepingStep] = load(FEATURES, "housekeeping", Pruning, HousekeepingStep)
    return WorkerServices(
        settings=settings,
        database=database,
        exports=ExportContext(settings, database, open_store(settings)),
        webhooks=webhook_context(settings, database),
        housekeeping=Housekeeping(steps),
        head_copy=HeadCopy(head_target(settings)),
    )
