"""Every feature of the service: the only such list.

A new feature is a folder with a `feature.py`, and one line here."""

from erp_service.access.feature import ACCESS
from erp_service.audit.feature import AUDIT
from erp_service.auth.feature import AUTH
from erp_service.exports.feature import EXPORTS
from erp_service.imports.feature import IMPORTS
from erp_service.inventory.feature import INVENTORY
from erp_service.operations.feature import OPERATIONS
from erp_service.queue.feature import QUEUE
from erp_service.registry.feature import Feature
from erp_service.reports.feature import REPORTS
from erp_service.web.feature import WEB

FEATURES: tuple[Feature, ...] = (
    ACCESS,
    WEB,
    QUEUE,
    AUTH,
    INVENTORY,
    REPORTS,
    IMPORTS,
    EXPORTS,
    AUDIT,
    OPERATIONS,
)
