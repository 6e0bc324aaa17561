"""/api/v1/inventory/counts: what is really there, and the booking of what differs."""

from typing import Annotated
from uuid import UUID

from litestar.di import NamedDependency
from litestar.params import JSONBody, PathParameter, QueryParameter

from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.db.sessions import ReadSession, WriteSession
from erp_service.errors import INTEGER_LIMIT
from erp_service.inventory.counts import service
from erp_service.inventory.counts.posting import post_count
from erp_service.inventory.counts.problems import CountEnded, StockMoved, TooManyDifferences
from erp_service.inventory.counts.queries import count_by_id, count_line_page, count_page, uncounted_page
from erp_service.inventory.counts.schemas import (
    CountBody,
    CountLinePage,
    CountLines,
    CountPage,
    CountPosting,
    CountStatus,
    CountWithTotals,
    UncountedPage,
)
from erp_service.inventory.problems import CostUnknown, InsufficientStock, PeriodClosed
from erp_service.web.query_params import DEFAULT_LIMIT, Cursor, Limit
from erp_service.web.responses import ApiResponse, created, require_match, tagged
from erp_service.web.routing import IfMatch, get, post, put

_PATH = "/api/v1/inventory/counts"
_ONE = f"{_PATH}/{{count_id:uuid}}"
_TAGS = ["counts"]

CountId = Annotated[UUID, PathParameter(description="the id of the count")]


@get(_PATH, role=Role.STAFF, scope=Scope.STOCK_READ, summary="List counts", tags=_TAGS)
async def list_counts(
    read: NamedDependency[ReadSession],
    status: Annotated[CountStatus | None, QueryParameter(description="only counts with this status")] = None,
    location_id: Annotated[
        int | None, QueryParameter(ge=1, le=INTEGER_LIMIT, description="only counts of this location")
    ] = None,
    location: Annotated[
        str | None, QueryParameter(max_length=200, description="only counts of the location with this code")
    ] = None,
    descendants: Annotated[bool, QueryParameter(description="with a location: also of the locations below it")] = False,
    transaction_id: Annotated[
        UUID | None, QueryParameter(description="the count that this document booked the differences of")
    ] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> ApiResponse[CountPage]:
    """Newest first. Keyset pages: follow `next_cursor`, or the `Link` header, until it is null."""
    return ApiResponse(
        await count_page(
            read,
            status=status,
            location_id=location_id,
            location=location,
            descendants=descendants,
            transaction_id=transaction_id,
            limit=limit,
            cursor=cursor,
        )
    )


@post(
    _PATH,
    role=Role.STAFF,
    scope=Scope.STOCK_WRITE,
    lines=True,
    summary="Open a count",
    tags=_TAGS,
    status_code=201,
    example={
        "location": "MAIN-A-01",
        "reference_no": "COUNT-2026-01",
        "lines": [{"sku": "BEAN-ESP-1K", "counted": "41"}],
    },
)
async def open_count(
    write: NamedDependency[WriteSession], who: NamedDependency[Principal], data: JSONBody[CountBody]
) -> ApiResponse[CountWithTotals]:
    """Opens a count of one location, with its first lines if there are any. Nothing is blocked meanwhile: movements go
    on, and are not undone when the count is posted."""
    count = await service.open_count(write, who, data)
    return created(count, f"{_PATH}/{count.id}", count.tag)


@get(_ONE, role=Role.STAFF, scope=Scope.STOCK_READ, summary="A count", tags=_TAGS)
async def get_count(read: NamedDependency[ReadSession], count_id: CountId) -> ApiResponse[CountWithTotals]:
    """With the number of its lines, and of those that differ from the books, or moved after they were counted."""
    count = await count_by_id(read, count_id)
    return tagged(count, count.tag)


@get(f"{_ONE}/lines", role=Role.STAFF, scope=Scope.STOCK_READ, summary="Lines of a count", tags=_TAGS)
async def list_count_lines(
    read: NamedDependency[ReadSession],
    count_id: CountId,
    sku: Annotated[str | None, QueryParameter(max_length=200, description="only the line of this item")] = None,
    differing: Annotated[bool, QueryParameter(description="only lines that differ from what the books said")] = False,
    moved: Annotated[bool, QueryParameter(description="only lines whose stock moved after they were counted")] = False,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> ApiResponse[CountLinePage]:
    """By the id of the item. Keyset pages: follow `next_cursor`, or the `Link` header, until it is null."""
    page = await count_line_page(read, count_id, sku=sku, differing=differing, moved=moved, limit=limit, cursor=cursor)
    return ApiResponse(page)


@get(f"{_ONE}/uncounted", role=Role.STAFF, scope=Scope.STOCK_READ, summary="What was not counted yet", tags=_TAGS)
async def list_uncounted(
    read: NamedDependency[ReadSession], count_id: CountId, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> ApiResponse[UncountedPage]:
    """Items that are on hand at the location by the books and have no line, by id: what `uncounted: zero` would book to
    zero. Empty when the count has ended. Keyset pages: follow `next_cursor`, or the `Link` header, until it is null."""
    return ApiResponse(await uncounted_page(read, count_id, limit=limit, cursor=cursor))


@put(
    f"{_ONE}/lines",
    role=Role.STAFF,
    scope=Scope.STOCK_WRITE,
    lines=True,
    idempotent=True,
    summary="Record what was counted",
    tags=_TAGS,
    problems=[CountEnded],
    operation_id="record_count_lines",
    example={"lines": [{"sku": "BEAN-ESP-1K", "counted": "42"}, {"sku": "BEAN-FIL-1K", "counted": "30"}]},
)
async def record_lines(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    count_id: CountId,
    data: JSONBody[CountLines],
    if_match: IfMatch = None,
) -> ApiResponse[CountWithTotals]:
    """Up to 5,000 lines: what is there, and beside it what the books say at this moment. What was counted of an item
    before is replaced, not added to; other lines stay; `counted: null` takes an item out. `errors` names all bad lines.
    So it merges as a PATCH would, and has none beside it.

    A retry reads the books again, unless it has the `Idempotency-Key` of the first try: then what was counted stays
    compared with what the books said when the lines first came."""
    count = await service.lock_open(write, count_id)
    if if_match is not None:
        require_match(if_match, (await count_by_id(write, count_id)).tag)
    changed = await service.change_lines(write, who, count, data)
    return tagged(changed, changed.tag)


@post(
    f"{_ONE}/post",
    role=Role.ADMIN,
    scope=Scope.STOCK_WRITE,
    summary="Post a count",
    tags=_TAGS,
    status_code=200,
    problems=[CountEnded, StockMoved, TooManyDifferences, InsufficientStock, PeriodClosed, CostUnknown],
    operation_id="post_count",
    example={"reason": "stocktaking of January"},
)
async def post_differences(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    count_id: CountId,
    data: JSONBody[CountPosting],
) -> ApiResponse[CountWithTotals]:
    """Books each difference (counted - expected) by an adjustment, all of them as one document, dated now. What was
    found is valued as a receipt is, what is missing as an issue. Without any difference there is no document.

    Stock that moved after it was counted is named (409 `/problems/stock-moved`) unless `accept_moved` is true; then the
    difference to what was there when it was counted is booked to what is there now. With `uncounted: zero` what has no
    line is missing, too."""
    count = await post_count(write, who, count_id, data)
    return tagged(count, count.tag)


@post(
    f"{_ONE}/cancel",
    role=Role.ADMIN,
    scope=Scope.STOCK_WRITE,
    summary="Cancel a count",
    tags=_TAGS,
    status_code=200,
    problems=[CountEnded],
    operation_id="cancel_count",
)
async def cancel(
    write: NamedDependency[WriteSession], who: NamedDependency[Principal], count_id: CountId
) -> ApiResponse[CountWithTotals]:
    """Ends the count without booking anything. Its lines stay, for the record."""
    count = await service.cancel(write, who, count_id)
    return tagged(count, count.tag)


ROUTES = [
    list_counts,
    open_count,
    get_count,
    list_count_lines,
    list_uncounted,
    record_lines,
    post_differences,
    cancel,
]
