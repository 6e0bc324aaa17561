"""/api/v1/inventory/stock/current, /lookup and /ledger: what is on hand, and the entries that led to it."""

from typing import Annotated

from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter

from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.company.current import CurrentSettings
from erp_service.company.queries import read_times
from erp_service.db.sessions import ReadSession
from erp_service.inventory.queries.ledger import ledger_page
from erp_service.inventory.queries.stock import STOCK
from erp_service.inventory.queries.stock_lookup import StockFound, StockLookup, stock_of_items
from erp_service.inventory.routes.filters import (
    AsOf,
    Descendants,
    From,
    IncludeZero,
    ItemId,
    LocationCode,
    LocationId,
    RecordedFrom,
    RecordedTo,
    Sku,
    To,
)
from erp_service.inventory.schemas import EntryOrigin, EntryType, LedgerPage, LedgerSort, StockPage
from erp_service.timestamps import TimeParameter, require_order
from erp_service.web.query_params import DEFAULT_LIMIT, Cursor, Limit
from erp_service.web.responses import ApiResponse
from erp_service.web.routing import get, post

_PATH = "/api/v1/inventory/stock"
_TAGS = ["stock"]


@get(
    f"{_PATH}/current",
    role=Role.VIEWER,
    scope=Scope.STOCK_READ,
    summary="What is on hand",
    tags=_TAGS,
    operation_id="list_current_stock",
)
async def current_stock(
    read: NamedDependency[ReadSession],
    company_settings: NamedDependency[CurrentSettings],
    sku: Sku = None,
    item_id: ItemId = None,
    location_id: LocationId = None,
    location: LocationCode = None,
    descendants: Descendants = False,
    as_of: AsOf = None,
    include_zero: IncludeZero = True,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> ApiResponse[StockPage]:
    """By item and location, with its value at moving average: its share of what the item is worth at all locations. An
    item that ran out at a location is listed with zero, since buyers look for it; an item that never was at a location
    is not listed. Without `as_of` the ledger is not read, so its length does not matter."""
    settings = await company_settings.now()
    (as_of_time,) = await read_times(read, TimeParameter("as_of", as_of, through=True))
    return ApiResponse(
        await STOCK.page(
            read,
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
    )


@post(
    f"{_PATH}/lookup",
    role=Role.VIEWER,
    scope=Scope.STOCK_READ,
    summary="The stock of many items",
    tags=_TAGS,
    status_code=200,
    idempotent=False,
    lines=True,
    example={"skus": ["BEAN-ESP-1K", "NO-SUCH-SKU"]},
)
async def lookup_stock(
    read: NamedDependency[ReadSession],
    company_settings: NamedDependency[CurrentSettings],
    data: JSONBody[StockLookup],
) -> ApiResponse[StockFound]:
    """What is on hand of up to 1,000 items, by ids, skus, external ids or barcodes: over all locations, or at one. It
    says which names no item has. Deleted items are not found."""
    currency = (await company_settings.now()).currency
    return ApiResponse(await stock_of_items(read, data, currency=currency), status_code=200)


@get(
    f"{_PATH}/ledger",
    role=Role.VIEWER,
    scope=Scope.STOCK_READ,
    summary="The ledger",
    tags=_TAGS,
    operation_id="list_ledger_entries",
)
async def list_ledger(
    read: NamedDependency[ReadSession],
    sku: Sku = None,
    item_id: ItemId = None,
    location_id: LocationId = None,
    location: LocationCode = None,
    descendants: Descendants = False,
    transaction_type: Annotated[EntryType | None, QueryParameter(description="only entries of this type")] = None,
    origin: Annotated[
        EntryOrigin | None, QueryParameter(description="only entries that this made, and no movement posted as such")
    ] = None,
    reference_no: Annotated[
        str | None, QueryParameter(max_length=1000, description="only entries with exactly this reference")
    ] = None,
    since: From = None,
    until: To = None,
    recorded_since: RecordedFrom = None,
    recorded_until: RecordedTo = None,
    sort: Annotated[
        LedgerSort | None, QueryParameter(description="`id`: the oldest first; `-id`, or left out: the newest")
    ] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> ApiResponse[LedgerPage]:
    """Newest first: by id, downwards; with `recorded_from` or `recorded_to` by `recorded_at`, which is the same order
    for the entries of one item. The numbers are those that were posted; they are never recomputed. Changes of value
    have no location, so they are listed without a location only."""
    times = await read_times(
        read, ("from", since), ("to", until), ("recorded_from", recorded_since), ("recorded_to", recorded_until)
    )
    require_order(times[0], times[1])
    require_order(times[2], times[3], ("recorded_from", "recorded_to"))
    return ApiResponse(
        await ledger_page(
            read,
            item_id=item_id,
            sku=sku,
            location_id=location_id,
            location=location,
            descendants=descendants,
            transaction_type=transaction_type,
            origin=origin,
            reference_no=reference_no,
            since=times[0],
            until=times[1],
            recorded_since=times[2],
            recorded_until=times[3],
            sort=sort,
            limit=limit,
            cursor=cursor,
        )
    )


ROUTES = [current_stock, lookup_stock, list_ledger]
