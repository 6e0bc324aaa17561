"""What is on hand, with the names of the locations."""

from erp_service.inventory.models import Location
from erp_service.inventory.queries.stock import StockList
from erp_service.reports.schemas import SnapshotLine, SnapshotPage

SNAPSHOT = StockList(SnapshotLine, SnapshotPage, Location.name)
