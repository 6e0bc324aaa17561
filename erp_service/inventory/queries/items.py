"""Reads of items: columns straight into the structs of the answers."""

from collections.abc import Container, Iterable
from typing import Any, TypeVar

from sqlalchemy import Boolean, Text, bindparam, func, literal_column, or_, select, text

from erp_service import errors
from erp_service.db.base import has, sort_key
from erp_service.db.pagination import Listing, SortKey, orders
from erp_service.db.sessions import Session
from erp_service.db.statements import Prepared, number_array, text_array
from erp_service.errors import Fault
from erp_service.inventory.models import Item
from erp_service.inventory.schemas import (
    MOST_NAMES,
    ItemNames,
    ItemOut,
    ItemPack,
    ItemPage,
    ItemsFound,
    ItemStatus,
)

Name = TypeVar("Name", int, str)

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


_NAMED = Prepared(
    select(*ITEM_COLUMNS)
    .where(
        Item.deleted_at.is_(None),
        text("""(
  items.id = any (cast(cast(:ids as text) as bigint[])) or items.sku = any (cast(cast(:skus as text) as text[]))
  or items.external_id = any (cast(cast(:external_ids as text) as text[]))
  or items.barcode = any (cast(cast(:barcodes as text) as text[]))
)"""),
    )
    .order_by(Item.id)
)


async def items_named(db: Session, names: ItemNames) -> ItemsFound:
    """The items that are not deleted and have any of the names; those names that no such item has.

    Raises errors.Invalid for more than MOST_NAMES names."""
    count = len(names.ids) + len(names.skus) + len(names.external_ids) + len(names.barcodes)
    if count > MOST_NAMES:
        raise errors.Invalid(None, Fault(f"has {count} names, and at most {MOST_NAMES} are taken", pointer=""))
    parameters = {
        "ids": number_array(names.ids),
        "skus": text_array(names.skus),
        "external_ids": text_array(names.external_ids),
        "barcodes": text_array(names.barcodes),
    }
    items = [item_of(*row) for row in await db.execute(_NAMED, parameters)]
    missing = ItemNames(
        ids=_without(names.ids, {item.id for item in items}),
        skus=_without(names.skus, {item.sku for item in items}),
        external_ids=_without(names.external_ids, {item.external_id for item in items}),
        barcodes=_without(names.barcodes, {item.barcode for item in items}),
    )
    return ItemsFound(items, missing)


def _without(names: Iterable[Name], known: Container[Name | None]) -> list[Name]:
    return [name for name in dict.fromkeys(names) if name not in known]
