"""/api/v1/inventory/items"""

from typing import Annotated, Literal

from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter

from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.db.sessions import ReadSession, WriteSession
from erp_service.errors import Conflict
from erp_service.inventory import items
from erp_service.inventory.bulk import service as bulk
from erp_service.inventory.bulk.schemas import ItemBulk, ItemBulkOut
from erp_service.inventory.edits import ItemPatch, ItemReplacement
from erp_service.inventory.problems import (
    BarcodeTaken,
    DecimalsStay,
    ExternalIdTaken,
    ItemDeleted,
    ItemHasStock,
    LooksAlike,
    SkuTaken,
    UnitStays,
)
from erp_service.inventory.queries.item_lookup import ItemNames, ItemsFound, items_named
from erp_service.inventory.queries.items import item_by_id, item_page
from erp_service.inventory.schemas import ItemBody, ItemOut, ItemPage, ItemStatus
from erp_service.web.merge_patch import Edit
from erp_service.web.query_params import DEFAULT_LIMIT, Cursor, Limit
from erp_service.web.responses import ApiResponse, created, require_match, tagged
from erp_service.web.routing import Id, IfMatch, delete, get, patch, post, put

_PATH = "/api/v1/inventory/items"
_ONE = f"{_PATH}/{{item_id:int}}"
_TAGS = ["items"]

Sort = Literal["id", "-id", "name", "-name", "sku", "-sku"]
IncludeDeleted = Annotated[bool, QueryParameter(description="also deleted items")]


@get(_PATH, role=Role.VIEWER, scope=Scope.ITEMS_READ, summary="List items", tags=_TAGS)
async def list_items(
    read: NamedDependency[ReadSession],
    q: Annotated[
        str | None,
        QueryParameter(max_length=200, description="part of the sku or the name, ignoring capitals and accents"),
    ] = None,
    sku: Annotated[str | None, QueryParameter(max_length=200, description="exactly this sku")] = None,
    barcode: Annotated[str | None, QueryParameter(max_length=200, description="exactly this barcode")] = None,
    external_id: Annotated[str | None, QueryParameter(max_length=200, description="exactly this external id")] = None,
    status: Annotated[ItemStatus | None, QueryParameter(description="only items with this status")] = None,
    include_deleted: IncludeDeleted = False,
    sort: Annotated[Sort | None, QueryParameter(description="`id` if it is left out; a minus sorts downwards")] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> ApiResponse[ItemPage]:
    """Keyset pages: follow `next_cursor`, or the `Link` header, until it is null."""
    return ApiResponse(
        await item_page(
            read,
            q=q,
            sku=sku,
            barcode=barcode,
            external_id=external_id,
            status=status,
            include_deleted=include_deleted,
            sort=sort,
            limit=limit,
            cursor=cursor,
        )
    )


@get(_ONE, role=Role.VIEWER, scope=Scope.ITEMS_READ, summary="An item", tags=_TAGS)
async def get_item(
    read: NamedDependency[ReadSession], item_id: Id, include_deleted: IncludeDeleted = False
) -> ApiResponse[ItemOut]:
    """With its `ETag`. A deleted item is 404 without `include_deleted=true`."""
    item = await item_by_id(read, item_id, include_deleted=include_deleted)
    return tagged(item, item.version)


@post(
    _PATH,
    role=Role.ADMIN,
    scope=Scope.ITEMS_WRITE,
    summary="Create an item",
    tags=_TAGS,
    status_code=201,
    problems=(SkuTaken, BarcodeTaken, ExternalIdTaken),
    example={
        "sku": "MUG-BLUE",
        "name": "Mug, blue",
        "unit": "pcs",
        "decimals": 0,
        "units": [{"unit": "case", "numerator": 12, "denominator": 1}],
        "barcode": "2000000000411",
        "metadata": {"colour": "blue"},
        "reorder_point": "10",
    },
)
async def create_item(
    write: NamedDependency[WriteSession], who: NamedDependency[Principal], data: JSONBody[ItemBody]
) -> ApiResponse[ItemOut]:
    """The sku must be new. A deleted item keeps its sku, and gives its barcode and its external id free.

    `units` are packs that quantities may be given in. What is kept is always in the item's own unit."""
    item = await items.create(write, who, data)
    return created(item, f"{_PATH}/{item.id}", item.version)


@put(
    _ONE,
    role=Role.ADMIN,
    scope=Scope.ITEMS_WRITE,
    summary="Replace an item",
    tags=_TAGS,
    problems=(SkuTaken, BarcodeTaken, ExternalIdTaken, UnitStays, DecimalsStay),
    example={
        "sku": "BEAN-ESP-1K",
        "name": "Coffee beans, house espresso, 1 kg",
        "unit": "bag",
        "decimals": 0,
        "barcode": "2000000000015",
        "reorder_point": "45",
    },
)
async def replace_item(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    item_id: Id,
    data: JSONBody[ItemReplacement],
    if_match: IfMatch = None,
) -> ApiResponse[ItemOut]:
    """Replaces every field: one that is left out gets its default. If nothing changes, the `ETag` stays the same.

    A body as GET shows it is taken: what a client cannot write is ignored if it is unchanged, and refused if it is not.

    The unit stays once there are ledger entries, since their quantities are in it. `decimals` cannot become less than
    the finest of them. Packs can change at any time, and change nothing that is posted."""
    return await _change(write, who, item_id, data, if_match)


@patch(
    _ONE,
    role=Role.ADMIN,
    scope=Scope.ITEMS_WRITE,
    summary="Change an item",
    tags=_TAGS,
    problems=(SkuTaken, BarcodeTaken, ExternalIdTaken, UnitStays, DecimalsStay),
    example={"reorder_point": "50", "description": None, "metadata": {"shelf": "A3"}},
)
async def patch_item(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    item_id: Id,
    data: JSONBody[ItemPatch],
    if_match: IfMatch = None,
) -> ApiResponse[ItemOut]:
    """A merge patch (RFC 7396): a field that is left out stays as it is, null gives it its default, `metadata` is
    merged by key, `units` are replaced. The rules are those of PUT."""
    return await _change(write, who, item_id, data, if_match)


async def _change(
    db: WriteSession, who: Principal, item_id: int, data: Edit[ItemBody, ItemOut], if_match: str | None
) -> ApiResponse[ItemOut]:
    before = await items.lock_for_update(db, item_id)
    require_match(if_match, before.version)
    item = await items.replace(db, who, before, data.over(before))
    return tagged(item, item.version)


@delete(_ONE, role=Role.ADMIN, scope=Scope.ITEMS_WRITE, summary="Delete an item", tags=_TAGS, problems=(ItemHasStock,))
async def delete_item(
    write: NamedDependency[WriteSession], who: NamedDependency[Principal], item_id: Id, if_match: IfMatch = None
) -> None:
    """The item is marked as deleted; its ledger and its sku stay. Refused while any location has stock of it, or stock
    below zero, or some of it is reserved."""
    item = await items.lock_for_update(write, item_id)
    require_match(if_match, item.version)
    await items.delete(write, who, item)


@post(
    f"{_ONE}/restore",
    role=Role.ADMIN,
    scope=Scope.ITEMS_WRITE,
    summary="Restore a deleted item",
    tags=_TAGS,
    status_code=200,
    problems=(BarcodeTaken, ExternalIdTaken, LooksAlike),
)
async def restore_item(
    write: NamedDependency[WriteSession], who: NamedDependency[Principal], item_id: Id
) -> ApiResponse[ItemOut]:
    """Undoes a deletion. Refused if another item has taken the barcode or the external id meanwhile. An item that is
    not deleted is answered as it is."""
    item = await items.restore(write, who, await items.lock_for_update(write, item_id, include_deleted=True))
    return tagged(item, item.version)


@post(
    f"{_PATH}/lookup",
    role=Role.VIEWER,
    scope=Scope.ITEMS_READ,
    summary="Look items up",
    tags=_TAGS,
    status_code=200,
    idempotent=False,
    lines=True,
    example={"skus": ["BEAN-ESP-1K", "NO-SUCH-SKU"], "barcodes": ["2000000000015"]},
)
async def lookup_items(read: NamedDependency[ReadSession], data: JSONBody[ItemNames]) -> ApiResponse[ItemsFound]:
    """Finds items by their ids, skus, external ids and barcodes, up to 1,000 names in all, and says which names no item
    has. Deleted items are not found."""
    return ApiResponse(await items_named(read, data), status_code=200)


@post(
    f"{_PATH}/bulk",
    role=Role.ADMIN,
    scope=Scope.ITEMS_WRITE,
    summary="Create and change many items",
    tags=_TAGS,
    status_code=200,
    lines=True,
    problems=(SkuTaken, BarcodeTaken, ExternalIdTaken, UnitStays, DecimalsStay, ItemDeleted, Conflict),
    operation_id="write_items",
    example={
        "items": [
            {"sku": "BEAN-ESP-1K", "reorder_point": "40"},
            {"sku": "CUP-TRAVEL", "name": "Travel cup", "decimals": 0, "external_id": "shop-4711"},
        ],
        "mode": "upsert",
    },
)
async def write_items(
    write: NamedDependency[WriteSession], who: NamedDependency[Principal], data: JSONBody[ItemBulk]
) -> ApiResponse[ItemBulkOut]:
    """Up to 1,000 lines, each a merge patch of the item that it names, by the rules of PATCH; of a new item, by those
    of POST. The answer has one result a line, in their order. An item that is as its line says keeps its `ETag`.

    With `atomic` (the default), all lines are written or none: the problem names the faults of all lines, such as
    `/items/3/sku`. Without it, each line is written or refused by itself: the answer is 200, and `results` has the
    problem of each refused line.

    A line names an item once: the same sku twice is refused. A sku, a barcode or an external id that another item has
    is taken, also if another line gives it free: send that line in a request before. The sku of a deleted item is
    refused: restore the item first."""
    return ApiResponse(await bulk.write(write, who, data), status_code=200)


ROUTES = [
    list_items,
    get_item,
    create_item,
    replace_item,
    patch_item,
    delete_item,
    restore_item,
    lookup_items,
    write_items,
]
