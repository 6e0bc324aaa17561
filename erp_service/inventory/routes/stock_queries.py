"""/api/v1/inventory/stock/current and /ledger: what is on hand, and the entries that led to it."""

from typing import Annotated

from litestar.di import NamedDependency
from litestar.params import QueryParameter

from erp_service.access.roles import Role
from erp_service.db.sessions import ReadSession
from erp_service.errors import INTEGER_LIMIT
from erp_service.inventory.queries.ledger import ledger_page
from erp_service.inventory.queries.stock import stock_page
from erp_service.inventory.schemas import EntryType, LedgerPage, StockPage
from erp_service.settings import Settings
from erp_service.timestamps import parse_timestamps
from erp_service.web.query_params import DEFAULT_LIMIT, Cursor, Limit
from erp_service.web.responses import ApiResponse
from erp_service.web.routing import get

_TAGS = ["stock"]

Sku = Annotated[str | None, QueryParameter(max_length=200, description="only the item with this sku")]
ItemId = Annotated[int | None, QueryParameter(ge=1, le=INTEGER_LIMIT, description="only this item")]


@get(
    "/api/v1/inventory/stock/current",
    role=Role.VIEWER,
    summary="What is on hand",
    tags=_TAGS,
    operation_id="list_current_stock",
)
async def current_stock(
    read: NamedDependency[ReadSession],
    settings: NamedDependency[Settings],
    sku: Sku = None,
    item_id: ItemId = None,
    location_id: Annotated[
        int | None, QueryParameter(ge=1, le=INTEGER_LIMIT, description="only stock at this location")
    ] = None,
    descendants: Annotated[
        bool, QueryParameter(description="with `location_id`: also stock at the locations below it")
    ] = False,
    as_of: Annotated[
        str | None,
        QueryParameter(
            max_length=100,
            format="date-time",
            description="the sums of all entries with `occurred_at` up to this time (RFC 3339, with its zone)",
        ),
    ] = None,
    include_zero: Annotated[bool, QueryParameter(description="`false` leaves out stock of zero")] = True,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> ApiResponse[StockPage]:
    """By item and location, with its value at moving average. An item that ran out at a location is listed with zero,
    since buyers look for it; an item that never was at a location is not listed. Without `as_of` the ledger is not
    read, so its length does not matter."""
    (as_of_time,) = parse_timestamps(("as_of", as_of))
    return ApiResponse(
        await stock_page(
            read,
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
    )


@get(
    "/api/v1/inventory/stock/ledger",
    role=Role.VIEWER,
    summary="The ledger",
    tags=_TAGS,
    operation_id="list_ledger_entries",
)
async def list_ledger(
    read: NamedDependency[ReadSession],
    sku: Sku = None,
    item_id: ItemId = None,
    location_id: Annotated[
        int | None, QueryParameter(ge=1, le=INTEGER_LIMIT, description="only entries at this location")
    ] = None,
    transaction_type: Annotated[EntryType | None, QueryParameter(description="only entries of this type")] = None,
    reference_no: Annotated[
        str | None, QueryParameter(max_length=1000, description="only entries with exactly this reference")
    ] = None,
    since: Annotated[
        str | None,
        QueryParameter(
            name="from",
            max_length=100,
            format="date-time",
            description="`occurred_at` at or after this time (RFC 3339, with its zone)",
        ),
    ] = None,
    until: Annotated[
        str | None,
        QueryParameter(
            name="to",
            max_length=100,
            format="date-time",
            description="`occurred_at` before this time, so that adjacent periods share no entry",
        ),
    ] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> ApiResponse[LedgerPage]:
    """Newest first: by id, downwards. The numbers are those that were posted; they are never recomputed."""
    since_time, until_time = parse_timestamps(("from", since), ("to", until))
    return ApiResponse(
        await ledger_page(
            read,
            item_id=item_id,
            sku=sku,
            location_id=location_id,
            transaction_type=transaction_type,
            reference_no=reference_no,
            since=since_time,
            until=until_time,
            limit=limit,
            cursor=cursor,
        )
    )


ROUTES = [current_stock, list_ledger]
