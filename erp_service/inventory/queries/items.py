"""Reads of items: columns straight into the structs of the answers."""

from typing import Any

from sqlalchemy import Boolean, Text, bindparam, or_, select

from erp_service import errors
from erp_service.db.base import has, sort_key
from erp_service.db.pagination import Listing, SortKey, orders
from erp_service.db.sessions import Session
from erp_service.db.statements import Prepared
from erp_service.inventory.models import Item
from erp_service.inventory.schemas import ItemOut, ItemPage, ItemStatus

# Any: the stubs of SQLAlchemy type a select of ten columns at most
ITEM_COLUMNS: tuple[Any, ...] = (
    Item.id,
    Item.sku,
    Item.name,
    Item.unit,
    Item.status,
    Item.description,
    Item.reorder_point,
    Item.version,
    Item.created_at,
    Item.updated_at,
    Item.deleted_at,
)

_ID, _SKU = SortKey(Item.id, "id", int), SortKey(Item.sku, "sku", str)
_NAME = SortKey(Item.name_key, "name", str, sort_key)
# a sku is unique: with the id as a second key, the order could not be read from the index of the sku
_ITEMS = Listing(
    select(*ITEM_COLUMNS),
    ItemOut,
    ItemPage,
    orders({"id": _ID, "name": _NAME}, _ID) | orders({"sku": _SKU}, _SKU),
    {
        "q": has(Item.search, bindparam("q", type_=Text)),
        "sku": Item.sku == bindparam("sku"),
        "status": Item.status == bindparam("status"),
        "undeleted": Item.deleted_at.is_(None),
    },
)
_ONE = Prepared(
    select(*ITEM_COLUMNS).where(
        Item.id == bindparam("id"), or_(Item.deleted_at.is_(None), bindparam("include_deleted", type_=Boolean))
    )
)


async def item_by_id(db: Session, item_id: int, *, include_deleted: bool = False) -> ItemOut:
    """Raises errors.NotFound."""
    row = (await db.execute(_ONE, {"id": item_id, "include_deleted": include_deleted})).one_or_none()
    if row is None:
        raise errors.NotFound(f"There is no item {item_id}.")
    return ItemOut(*row)


async def item_page(
    db: Session,
    *,
    q: str | None = None,
    sku: str | None = None,
    status: ItemStatus | None = None,
    include_deleted: bool = False,
    sort: str | None = None,
    limit: int,
    cursor: str | None = None,
) -> ItemPage:
    """One page. `q` is searched in sku and name, ignoring capitals and accents.

    Raises errors.Invalid for `sort` and `cursor`."""
    parameters = {"q": q, "sku": sku, "status": status, "undeleted": not include_deleted}
    return await _ITEMS.page(db, parameters, sort=sort, limit=limit, cursor=cursor)


_ID_OF = Prepared(select(Item.id).where(Item.sku == bindparam("sku")))


async def item_id_of(db: Session, sku: str) -> int:
    """The id of the item with this sku, or 0, which no item has.

    A statement of its own and no join: only for a known id can the planner tell that the item has many entries, and
    read them from an index in order instead of sorting all of them."""
    return await db.scalar(_ID_OF, {"sku": sku}) or 0
