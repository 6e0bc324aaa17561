"""/api/v1/inventory/reports: read from the replica if there is one that has replayed everything committed before."""

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Annotated, TypeVar

import msgspec
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import QueryParameter

from erp_service import decimals, errors
from erp_service.access.roles import Role
from erp_service.db.engine import Database
from erp_service.db.pagination import Page
from erp_service.decimals import QUANTITY_SCALE
from erp_service.errors import INTEGER_LIMIT, Fault
from erp_service.reports import cells, queries
from erp_service.reports.periods import MOST_DAYS, span
from erp_service.reports.problems import MOST_ROWS, ReportTooLong
from erp_service.reports.schemas import (
    LowStockPage,
    MovementsLine,
    MovementsPage,
    Period,
    SnapshotLine,
    SnapshotPage,
    Summary,
)
from erp_service.settings import Settings
from erp_service.timestamps import parse_timestamps
from erp_service.web.query_params import DEFAULT_LIMIT, Cursor, Limit
from erp_service.web.responses import ApiResponse
from erp_service.web.routing import get

Line = TypeVar("Line", bound=msgspec.Struct)

_PATH = "/api/v1/inventory/reports"
_TAGS = ["reports"]
_CSV = "text/csv"
_FILE = {200: ResponseSpec(bytes, generate_examples=False, description="CSV in UTF-8", media_type=_CSV)}

Sku = Annotated[str | None, QueryParameter(max_length=200, description="only the item with this sku")]
ItemId = Annotated[int | None, QueryParameter(ge=1, le=INTEGER_LIMIT, description="only this item")]
LocationId = Annotated[
    int | None, QueryParameter(ge=1, le=INTEGER_LIMIT, description="only stock or movements at this location")
]
Descendants = Annotated[bool, QueryParameter(description="with `location_id`: also stock at the locations below it")]
IncludeZero = Annotated[bool, QueryParameter(description="`false` leaves out stock of zero")]
AsOf = Annotated[
    str | None,
    QueryParameter(
        max_length=100,
        format="date-time",
        description="the sums of all entries with `occurred_at` up to this time (RFC 3339, with its zone)",
    ),
]
PeriodIn = Annotated[Period, QueryParameter(description="the length of a period")]
Timezone = Annotated[
    str,
    QueryParameter(min_length=1, max_length=64, description="the IANA time zone in which days, weeks and months begin"),
]
From = Annotated[
    str | None,
    QueryParameter(
        name="from",
        max_length=100,
        format="date-time",
        description="`occurred_at` at or after this time (RFC 3339, with its zone); without it, from the first"
        f" day of the month one year before `to`. At most {MOST_DAYS} days before `to`",
    ),
]
To = Annotated[
    str | None,
    QueryParameter(name="to", max_length=100, format="date-time", description="`occurred_at` before this time"),
]


@get(
    f"{_PATH}/snapshot",
    role=Role.VIEWER,
    summary="What is on hand, and its value",
    tags=_TAGS,
    operation_id="report_snapshot",
)
async def snapshot(
    settings: NamedDependency[Settings],
    database: NamedDependency[Database],
    sku: Sku = None,
    item_id: ItemId = None,
    location_id: LocationId = None,
    descendants: Descendants = False,
    as_of: AsOf = None,
    include_zero: IncludeZero = True,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> ApiResponse[SnapshotPage]:
    """By item and location, with its value at moving average, now or at the time `as_of`."""
    (as_of_time,) = parse_timestamps(("as_of", as_of))
    read = partial(
        queries.snapshot,
        currency=settings.currency,
        sku=sku,
        item_id=item_id,
        location_id=location_id,
        descendants=descendants,
        as_of=as_of_time,
        include_zero=include_zero,
        limit=limit,
        cursor=cursor,
    )
    return ApiResponse(await database.reading(read))


@get(
    f"{_PATH}/snapshot.csv",
    role=Role.ADMIN,
    summary="What is on hand, as CSV",
    tags=_TAGS,
    problems=(ReportTooLong,),
    responses=_FILE,
    media_type=_CSV,
    operation_id="report_snapshot_csv",
    headers={200: ("Content-Disposition",)},
)
async def snapshot_csv(
    settings: NamedDependency[Settings],
    database: NamedDependency[Database],
    sku: Sku = None,
    item_id: ItemId = None,
    location_id: LocationId = None,
    descendants: Descendants = False,
    as_of: AsOf = None,
    include_zero: IncludeZero = True,
) -> ApiResponse[bytes]:
    """The snapshot in one file, at one time, for a spreadsheet: at most 10,000 rows.

    The file is what COPY of Postgres would write, but a text that a spreadsheet would take for a formula gets an
    apostrophe in front. For more rows, or for texts exactly as they are stored, export the dataset `stock_levels`."""
    (as_of_time,) = parse_timestamps(("as_of", as_of))
    read = partial(
        queries.snapshot,
        currency=settings.currency,
        sku=sku,
        item_id=item_id,
        location_id=location_id,
        descendants=descendants,
        as_of=as_of_time,
        include_zero=include_zero,
        limit=MOST_ROWS,
    )
    return await _file("stock-snapshot", SnapshotLine, await database.reading(read), dataset="stock_levels")


@get(
    f"{_PATH}/movements",
    role=Role.VIEWER,
    summary="Receipts, issues and adjustments by period",
    tags=_TAGS,
    operation_id="report_movements",
)
async def movements(
    settings: NamedDependency[Settings],
    database: NamedDependency[Database],
    period: PeriodIn = "month",
    timezone: Timezone = "UTC",
    sku: Sku = None,
    item_id: ItemId = None,
    location_id: LocationId = None,
    since: From = None,
    until: To = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> ApiResponse[MovementsPage]:
    """By item and period, for items that moved in it, also deleted ones. Of the first and the last period only the
    part between `from` and `to` is counted. Values are those that were posted."""
    read = partial(
        queries.movements,
        currency=settings.currency,
        period=period,
        span=span(since, until, timezone),
        sku=sku,
        item_id=item_id,
        location_id=location_id,
        limit=limit,
        cursor=cursor,
    )
    return ApiResponse(await database.reading(read))


@get(
    f"{_PATH}/movements.csv",
    role=Role.ADMIN,
    summary="Receipts, issues and adjustments by period, as CSV",
    tags=_TAGS,
    problems=(ReportTooLong,),
    responses=_FILE,
    media_type=_CSV,
    operation_id="report_movements_csv",
    headers={200: ("Content-Disposition",)},
)
async def movements_csv(
    settings: NamedDependency[Settings],
    database: NamedDependency[Database],
    period: PeriodIn = "month",
    timezone: Timezone = "UTC",
    sku: Sku = None,
    item_id: ItemId = None,
    location_id: LocationId = None,
    since: From = None,
    until: To = None,
) -> ApiResponse[bytes]:
    """The movements in one file, at one time, for a spreadsheet: at most 10,000 rows.

    The file is what COPY of Postgres would write, but a text that a spreadsheet would take for a formula gets an
    apostrophe in front. For more rows, or for single entries, export the dataset `stock_movements`."""
    read = partial(
        queries.movements,
        currency=settings.currency,
        period=period,
        span=span(since, until, timezone),
        sku=sku,
        item_id=item_id,
        location_id=location_id,
        limit=MOST_ROWS,
    )
    return await _file("stock-movements", MovementsLine, await database.reading(read), dataset="stock_movements")


@get(
    f"{_PATH}/summary",
    role=Role.VIEWER,
    summary="The stock in a few figures",
    tags=_TAGS,
    operation_id="report_summary",
)
async def summary(settings: NamedDependency[Settings], database: NamedDependency[Database]) -> ApiResponse[Summary]:
    """The numbers of active items, of locations, of low items and of recent movements, and the value of the stock."""
    return ApiResponse(await database.reading(partial(queries.summary, currency=settings.currency)))


@get(
    f"{_PATH}/low-stock",
    role=Role.VIEWER,
    summary="What to reorder",
    tags=_TAGS,
    operation_id="report_low_stock",
)
async def low_stock(
    database: NamedDependency[Database],
    threshold: Annotated[
        str | None,
        QueryParameter(
            max_length=40,
            pattern=r"^[0-9]{1,12}(\.[0-9]{1,6})?$",
            description="used instead of the reorder points: lists items with less than this on hand",
        ),
    ] = None,
    sku: Sku = None,
    item_id: ItemId = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> ApiResponse[LowStockPage]:
    """Active items whose quantity on hand, over all locations, is at or below their reorder point; in order of id."""
    read = partial(
        queries.low_stock, threshold=_quantity(threshold), sku=sku, item_id=item_id, limit=limit, cursor=cursor
    )
    return ApiResponse(await database.reading(read))


def _quantity(threshold: str | None) -> Decimal | None:
    try:
        return None if threshold is None else decimals.parse(threshold, scale=QUANTITY_SCALE)
    except ValueError as exc:
        raise errors.Invalid(None, Fault(str(exc), parameter="threshold")) from None


async def _file(name: str, kind: type[Line], page: Page[Line], *, dataset: str) -> ApiResponse[bytes]:
    if page.next_cursor is not None:
        raise ReportTooLong(dataset)
    now = datetime.now(UTC)
    return ApiResponse(
        # in a thread, since it takes about a tenth of a second, for which the event loop would stand still
        await asyncio.to_thread(_text, kind, page.items),
        media_type=_CSV,
        headers={
            "Content-Disposition": f'attachment; filename="{name}-{now:%Y%m%dT%H%M%SZ}.csv"',
            "Cache-Control": "private, no-transform",
        },
    )


def _text(kind: type[Line], rows: list[Line]) -> bytes:
    return "".join(cells.csv(kind, rows)).encode()


ROUTES = [snapshot, snapshot_csv, movements, movements_csv, summary, low_stock]
