"""/api/v1/inventory/stock/current and /ledger: what is on hand, and how that came about."""

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


@get("/api/v1/inventory/stock/current", role=Role.VIEWER, summary="What is on hand", tags=_TAGS)
async def current_stock(
    read: NamedDependency[ReadSession],
    settings: NamedDependency[Settings],
    sku: Sku = None,
    item_id: ItemId = None,
    location_id: Annotated[
        int | None, QueryParameter(ge=1, le=INTEGER_LIMIT, description="only what is at this location")
    ] = None,
    descendants: Annotated[
        bool, QueryParameter(description="with `location_id`: also what is at any location below it")
    ] = False,
    as_of: Annotated[
        str | None,
        QueryParameter(
            max_length=100,
            format="date-time",
            description="the sums of all entries with `occurred_at` up to this instant (RFC 3339, with its zone)",
        ),
    ] = None,
    include_zero: Annotated[bool, QueryParameter(description="`false` leaves out what is at zero")] = True,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> ApiResponse[StockPage]:
    """By item and location, with its value at moving average. What ran out is in the list, at zero, for it is what a
    buyer looks for; what never was at a place is not. Without `as_of` the length of the ledger does not matter."""
    (instant,) = parse_timestamps(("as_of", as_of))
    return ApiResponse(
        await stock_page(
            read,
            currency=settings.currency,
            sku=sku,
            item_id=item_id,
            location_id=location_id,
            descendants=descendants,
            as_of=instant,
            include_zero=include_zero,
            limit=limit,
            cursor=cursor,
        )
    )


@get("/api/v1/inventory/stock/ledger", role=Role.VIEWER, summary="The ledger", tags=_TAGS)
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
            description="`occurred_at` at or after this instant (RFC 3339, with its zone)",
        ),
    ] = None,
    until: Annotated[
        str | None,
        QueryParameter(
            name="to",
            max_length=100,
            format="date-time",
            description="`occurred_at` before this instant, so that periods that meet share no entry",
        ),
    ] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> ApiResponse[LedgerPage]:
    """Newest first: in the order of ids, downwards. The numbers are those that were posted, never recomputed."""
    first, end = parse_timestamps(("from", since), ("to", until))
    return ApiResponse(
        await ledger_page(
            read,
            item_id=item_id,
            sku=sku,
            location_id=location_id,
            transaction_type=transaction_type,
            reference_no=reference_no,
            since=first,
            until=end,
            limit=limit,
            cursor=cursor,
        )
    )


ROUTES = [current_stock, list_ledger]
