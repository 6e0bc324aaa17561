"""What exports need from the process in which they run."""

from msgspec import Struct, field

from erp_service.db.engine import Database
from erp_service.exports.run.pace import Pace
from erp_service.exports.run.snapshot import SPLITTING, Splitting
from erp_service.exports.storage.base import Store
from erp_service.settings import Settings


class ExportContext(Struct, frozen=True):
    """Settings, database pools and the file store: the same type for routes, tasks and housekeeping."""

    settings: Settings
    database: Database
    store: Store
    splitting: Splitting = SPLITTING
    pace: Pace = field(default_factory=Pace)
