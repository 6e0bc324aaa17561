"""Reads of items: columns straight into the structs of the answers."""

from typing import Any

from sqlalchemy import Boolean, bindparam, or_, select

from erp_service import errors
from erp_service.db.base import has, sort_key
from erp_service.db.pagination import SortKey, chosen, orders, page
from erp_service.db.sessions import Session
from erp_service.db.statements import Prepared
from erp_service.inventory.models import Item
from erp_service.inventory.queries.filters import equal
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
_ORDERS = orders({"id": _ID, "name": _NAME}, _ID) | orders({"sku": _SKU}, _SKU)


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
    statement = select(*ITEM_COLUMNS).where(*equal((Item.sku, sku), (Item.status, status)))
    if q is not None:
        statement = statement.where(has(Item.search, q))
    if not include_deleted:
        statement = statement.where(Item.deleted_at.is_(None))
    order = chosen(_ORDERS, sort, "id")
    return await page(db, statement, ItemOut, order, limit=limit, cursor=cursor, into=ItemPage)


async def item_id_of(db: Session, sku: str) -> int:
    """The id of the item with this sku, or 0, which no item has.

    A statement of its own and no join: only for a known id can the planner tell that the item has many entries, and
    read them from an index in order instead of sorting all of them."""
    return await db.scalar(select(Item.id).where(Item.sku == sku)) or 0
