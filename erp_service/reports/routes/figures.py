"""/api/v1/inventory/reports/summary, /low-stock and /turnover: what to look at, what to buy, what sells."""

from decimal import Decimal
from typing import Annotated

from litestar.di import NamedDependency
from litestar.params import QueryParameter

from erp_service import decimals, errors
from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.db.sessions import Session
from erp_service.decimals import QUANTITY_SCALE
from erp_service.errors import Fault
from erp_service.inventory.queries.location_filter import location_ids
from erp_service.inventory.routes.filters import Descendants, ItemId, LocationCode, LocationId, Sku, To
from erp_service.reports.periods import span
from erp_service.reports.queries.low_stock import low_stock as low_stock_page
from erp_service.reports.queries.summary import summary as summary_figures
from erp_service.reports.queries.turnover import turnover as turnover_page
from erp_service.reports.routes.parameters import PATH, TAGS, SpanFrom, Timezone
from erp_service.reports.routes.reader import AS_OF, READER, ReportReader
from erp_service.reports.schemas import LowStockPage, Summary, TurnoverPage
from erp_service.web.query_params import DEFAULT_LIMIT, Cursor, Limit
from erp_service.web.responses import ApiResponse
from erp_service.web.routing import get


@get(
    f"{PATH}/summary",
    role=Role.VIEWER,
    scope=Scope.REPORTS_READ,
    summary="The stock in a few figures",
    tags=TAGS,
    operation_id="report_summary",
    headers={200: (AS_OF,)},
    dependencies=READER,
    without_primary=True,
)
async def summary(
    reader: NamedDependency[ReportReader],
    location_id: LocationId = None,
    location: LocationCode = None,
    descendants: Descendants = False,
) -> ApiResponse[Summary]:
    """The numbers of active items, of locations, of low items and of recent movements, and the value of the stock."""
    settings = await reader.settings()

    async def read(db: Session) -> Summary:
        places = await location_ids(db, location_id=location_id, location=location, descendants=descendants)
        return await summary_figures(
            db, currency=settings.currency, reorder_point=settings.low_stock_threshold, locations=places
        )

    return ApiResponse(await reader.read(read))


@get(
    f"{PATH}/low-stock",
    role=Role.VIEWER,
    scope=Scope.REPORTS_READ,
    summary="What to reorder",
    tags=TAGS,
    operation_id="report_low_stock",
    headers={200: (AS_OF,)},
    dependencies=READER,
    without_primary=True,
)
async def low_stock(
    reader: NamedDependency[ReportReader],
    threshold: Annotated[
        str | None,
        QueryParameter(
            max_length=40,
            pattern=r"^[0-9]{1,12}(\.[0-9]{1,6})?$",
            description="used instead of the reorder points: lists items of which less than this is available",
        ),
    ] = None,
    sku: Sku = None,
    item_id: ItemId = None,
    location_id: LocationId = None,
    location: LocationCode = None,
    descendants: Descendants = False,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> ApiResponse[LowStockPage]:
    """Active items of which no more is available (on hand, less what is reserved) than their reorder point, or than the
    setting `low_stock_threshold` if they have none; in order of id. Over all locations; or at those that are named, for
    items that ever were there."""
    level, settings = _quantity(threshold), await reader.settings()

    async def read(db: Session) -> LowStockPage:
        places = await location_ids(db, location_id=location_id, location=location, descendants=descendants)
        return await low_stock_page(
            db,
            threshold=level,
            reorder_point=settings.low_stock_threshold,
            sku=sku,
            item_id=item_id,
            locations=places,
            limit=limit,
            cursor=cursor,
        )

    return ApiResponse(await reader.read(read))


@get(
    f"{PATH}/turnover",
    role=Role.VIEWER,
    scope=Scope.REPORTS_READ,
    summary="How fast items sell",
    tags=TAGS,
    operation_id="report_turnover",
    headers={200: (AS_OF,)},
    dependencies=READER,
    without_primary=True,
)
async def turnover(
    reader: NamedDependency[ReportReader],
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
) -> ApiResponse[TurnoverPage]:
    """For each item that ever was in stock, in order of id: what was issued from `from` to `to`, or until now, how
    often the average stock was sold, how long what is on hand lasts, and since when nothing was issued. What has no
    answer, such as the days of cover of what does not sell, is null."""
    settings = await reader.settings()

    async def read(db: Session) -> TurnoverPage:
        return await turnover_page(
            db,
            currency=settings.currency,
            span=await span(db, since, until, timezone),
            sku=sku,
            item_id=item_id,
            locations=await location_ids(db, location_id=location_id, location=location, descendants=descendants),
            limit=limit,
            cursor=cursor,
        )

    return ApiResponse(await reader.read(read))


def _quantity(threshold: str | None) -> Decimal | None:
    try:
        return None if threshold is None else decimals.parse(threshold, scale=QUANTITY_SCALE)
    except ValueError as exc:
        raise errors.Invalid(None, Fault(str(exc), parameter="threshold")) from None


ROUTES = [summary, low_stock, turnover]
