"""What exports need of the process they are made or served in."""

from msgspec import Struct

from erp_service.db.engine import Database
from erp_service.exports.run.snapshot import SPLITTING, Splitting
from erp_service.exports.storage.base import Store
from erp_service.settings import Settings


class ExportContext(Struct, frozen=True):
    """Settings, pools and the file store, the same for routes, tasks and maintenance."""

    settings: Settings
    database: Database
    store: Store
    splitting: Splitting = SPLITTING

    @property
    def most_running(self) -> int:
        """Exports of one user that run at once."""
        return self.settings.exports_running_per_user
