"""/api/v1/inventory/reports/snapshot: what is on hand, and its value."""

from litestar.di import NamedDependency

from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.company.queries import read_times
from erp_service.db.sessions import Session
from erp_service.inventory.routes.filters import (
    AsOf,
    Descendants,
    IncludeZero,
    ItemId,
    LocationCode,
    LocationId,
    Sku,
)
from erp_service.reports.problems import MOST_ROWS, ReportTooLong
from erp_service.reports.queries.snapshot import SNAPSHOT
from erp_service.reports.routes.parameters import CSV, FILE, PATH, TAGS, file_of
from erp_service.reports.routes.reader import AS_OF, READER, ReportReader
from erp_service.reports.schemas import SnapshotLine, SnapshotPage
from erp_service.timestamps import TimeParameter
from erp_service.web.query_params import DEFAULT_LIMIT, Cursor, Limit
from erp_service.web.responses import ApiResponse
from erp_service.web.routing import get


@get(
    f"{PATH}/snapshot",
    role=Role.VIEWER,
    scope=Scope.REPORTS_READ,
    summary="What is on hand, and its value",
    tags=TAGS,
    operation_id="report_snapshot",
    headers={200: (AS_OF,)},
    dependencies=READER,
    without_primary=True,
)
async def snapshot(
    reader: NamedDependency[ReportReader],
    sku: Sku = None,
    item_id: ItemId = None,
    location_id: LocationId = None,
    location: LocationCode = None,
    descendants: Descendants = False,
    as_of: AsOf = None,
    include_zero: IncludeZero = True,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> ApiResponse[SnapshotPage]:
    """By item and location, with its value at moving average, now or just before `as_of`."""
    settings = await reader.settings()

    async def read(db: Session) -> SnapshotPage:
        (as_of_time,) = await read_times(db, TimeParameter("as_of", as_of, through=True))
        return await SNAPSHOT.page(
            db,
            currency=settings.currency,
            sku=sku,
            item_id=item_id,
            location_id=location_id,
            location=location,
            descendants=descendants,
            as_of=as_of_time,
            include_zero=include_zero,
            limit=limit,
            cursor=cursor,
        )

    return ApiResponse(await reader.read(read))


@get(
    f"{PATH}/snapshot.csv",
    role=Role.ADMIN,
    scope=Scope.REPORTS_READ,
    summary="What is on hand, as CSV",
    tags=TAGS,
    problems=(ReportTooLong,),
    responses=FILE,
    media_type=CSV,
    operation_id="report_snapshot_csv",
    headers={200: ("Content-Disposition", AS_OF)},
    dependencies=READER,
    without_primary=True,
)
async def snapshot_csv(
    reader: NamedDependency[ReportReader],
    sku: Sku = None,
    item_id: ItemId = None,
    location_id: LocationId = None,
    location: LocationCode = None,
    descendants: Descendants = False,
    as_of: AsOf = None,
    include_zero: IncludeZero = True,
) -> ApiResponse[bytes]:
    """The snapshot in one file, at one time, for a spreadsheet: at most 10,000 rows.

    The file is what COPY of Postgres would write, but a text that a spreadsheet would take for a formula gets an
    apostrophe in front. For more rows, or for texts exactly as they are stored, export the dataset `stock_levels`."""
    settings = await reader.settings()

    async def read(db: Session) -> SnapshotPage:
        (as_of_time,) = await read_times(db, TimeParameter("as_of", as_of, through=True))
        return await SNAPSHOT.page(
            db,
            currency=settings.currency,
            sku=sku,
            item_id=item_id,
            location_id=location_id,
            location=location,
            descendants=descendants,
            as_of=as_of_time,
            include_zero=include_zero,
            limit=MOST_ROWS,
            cursor=None,
        )

    return await file_of("stock-snapshot", SnapshotLine, await reader.read(read), dataset="stock_levels")


ROUTES = [snapshot, snapshot_csv]
