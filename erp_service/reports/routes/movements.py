"""/api/v1/inventory/reports/movements: quantities and money by item and period."""

from litestar.di import NamedDependency

from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.db.sessions import Session
from erp_service.inventory.queries.location_filter import location_ids
from erp_service.inventory.routes.filters import Descendants, ItemId, LocationCode, LocationId, Sku, To
from erp_service.reports.periods import span
from erp_service.reports.problems import MOST_ROWS, ReportTooLong
from erp_service.reports.queries.movements import movements as movements_page
from erp_service.reports.routes.parameters import CSV, FILE, PATH, TAGS, PeriodIn, SpanFrom, Timezone, file_of
from erp_service.reports.routes.reader import AS_OF, READER, ReportReader
from erp_service.reports.schemas import MovementsLine, MovementsPage
from erp_service.web.query_params import DEFAULT_LIMIT, Cursor, Limit
from erp_service.web.responses import ApiResponse
from erp_service.web.routing import get


@get(
    f"{PATH}/movements",
    role=Role.VIEWER,
    scope=Scope.REPORTS_READ,
    summary="Quantities and money by period",
    tags=TAGS,
    operation_id="report_movements",
    headers={200: (AS_OF,)},
    dependencies=READER,
    without_primary=True,
)
async def movements(
    reader: NamedDependency[ReportReader],
    period: PeriodIn = "month",
    timezone: Timezone = None,
    sku: Sku = None,
    item_id: ItemId = None,
    location_id: LocationId = None,
    location: LocationCode = None,
    descendants: Descendants = False,
    since: SpanFrom = None,
    until: To = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> ApiResponse[MovementsPage]:
    """What was received, issued, adjusted, made into kits, transferred and revalued, by item and period, with what was
    on hand before and afterwards. Opening + movements = closing, in quantity and in value, exactly.

    Listed are periods in which the item moved, also of deleted items; at a location also those in which only its share
    of the value changed. Of the first and the last period only the part between `from` and `to` is counted."""
    settings = await reader.settings()

    async def read(db: Session) -> MovementsPage:
        return await movements_page(
            db,
            currency=settings.currency,
            period=period,
            span=await span(db, since, until, timezone),
            sku=sku,
            item_id=item_id,
            locations=await location_ids(db, location_id=location_id, location=location, descendants=descendants),
            limit=limit,
            cursor=cursor,
        )

    return ApiResponse(await reader.read(read))


@get(
    f"{PATH}/movements.csv",
    role=Role.ADMIN,
    scope=Scope.REPORTS_READ,
    summary="Quantities and money by period, as CSV",
    tags=TAGS,
    problems=(ReportTooLong,),
    responses=FILE,
    media_type=CSV,
    operation_id="report_movements_csv",
    headers={200: ("Content-Disposition", AS_OF)},
    dependencies=READER,
    without_primary=True,
)
async def movements_csv(
    reader: NamedDependency[ReportReader],
    period: PeriodIn = "month",
    timezone: Timezone = None,
    sku: Sku = None,
    item_id: ItemId = None,
    location_id: LocationId = None,
    location: LocationCode = None,
    descendants: Descendants = False,
    since: SpanFrom = None,
    until: To = None,
) -> ApiResponse[bytes]:
    """The movements in one file, at one time, for a spreadsheet: at most 10,000 rows.

    The file is what COPY of Postgres would write, but a text that a spreadsheet would take for a formula gets an
    apostrophe in front. For more rows, or for single entries, export the dataset `stock_movements`."""
    settings = await reader.settings()

    async def read(db: Session) -> MovementsPage:
        return await movements_page(
            db,
            currency=settings.currency,
            period=period,
            span=await span(db, since, until, timezone),
            sku=sku,
            item_id=item_id,
            locations=await location_ids(db, location_id=location_id, location=location, descendants=descendants),
            limit=MOST_ROWS,
        )

    return await file_of("stock-movements", MovementsLine, await reader.read(read), dataset="stock_movements")


ROUTES = [movements, movements_csv]
