"""Reads of items: columns straight into the structs of the answers."""

from typing import Any

from sqlalchemy import Boolean, Text, bindparam, func, literal_column, or_, select

from erp_service import errors
from erp_service.db.base import has, sort_key
from erp_service.db.pagination import Listing, SortKey, orders
from erp_service.db.sessions import Session
from erp_service.db.statements import Prepared
from erp_service.inventory.models import Item
from erp_service.inventory.schemas import ItemOut, ItemPack, ItemPage, ItemStatus

# Any: the stubs of SQLAlchemy type a select of ten columns at most. What most items do not have comes as null, since
# null is not decoded: that took a fifth of the time in which a page of items is read and encoded.
ITEM_COLUMNS: tuple[Any, ...] = (
    Item.id,
    Item.sku,
    Item.name,
    Item.unit,
    Item.decimals,
    func.nullif(Item.units, literal_column("'[]'::jsonb")).label("units"),
    Item.barcode,
    Item.external_id,
    func.nullif(Item.extra, literal_column("'{}'::jsonb")).label("metadata"),
    Item.status,
    Item.description,
    Item.reorder_point,
    Item.version,
    Item.created_at,
    Item.updated_at,
    Item.deleted_at,
)


def item_of(*row: Any) -> ItemOut:
    """Of the values of ITEM_COLUMNS."""
    item = ItemOut(*row)
    packs = row[_UNITS]
    item.units = [ItemPack(**pack) for pack in packs] if packs else []
    item.metadata = row[_METADATA] or {}
    return item


_UNITS, _METADATA = (ItemOut.__struct_fields__.index(name) for name in ("units", "metadata"))

_ID, _SKU = SortKey(Item.id, "id", int), SortKey(Item.sku, "sku", str)
_NAME = SortKey(Item.name_key, "name", str, sort_key)
# a sku is unique: with the id as a second key, the order could not be read from the index of the sku
_ITEMS = Listing(
    select(*ITEM_COLUMNS),
    item_of,
    ItemPage,
    orders({"id": _ID, "name": _NAME}, _ID) | orders({"sku": _SKU}, _SKU),
    {
        "q": has(Item.search, bindparam("q", type_=Text)),
        "sku": Item.sku == bindparam("sku"),
        "barcode": Item.barcode == bindparam("barcode"),
        "external_id": Item.external_id == bindparam("external_id"),
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
    return item_of(*row)


async def item_page(
    db: Session,
    *,
    q: str | None = None,
    sku: str | None = None,
    barcode: str | None = None,
    external_id: str | None = None,
    status: ItemStatus | None = None,
    include_deleted: bool = False,
    sort: str | None = None,
    limit: int,
    cursor: str | None = None,
) -> ItemPage:
    """One page. `q` is searched in sku and name, ignoring capitals and accents.

    Raises errors.Invalid for `sort` and `cursor`."""
    parameters = {
        "q": q,
        "sku": sku,
        "barcode": barcode,
        "external_id": external_id,
        "status": status,
        "undeleted": not include_deleted,
    }
    return await _ITEMS.page(db, parameters, sort=sort, limit=limit, cursor=cursor)


_ID_OF = Prepared(select(Item.id).where(Item.sku == bindparam("sku")))


async def item_id_of(db: Session, sku: str) -> int:
    """The id of the item with this sku, or 0, which no item has.

    A statement of its own and no join: only for a known id can the planner tell that the item has many entries, and
    read them from an index in order instead of sorting all of them."""
    return await db.scalar(_ID_OF, {"sku": sku}) or 0
