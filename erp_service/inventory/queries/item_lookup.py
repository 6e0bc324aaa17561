"""Finding many items at once, by any of their names."""

from collections.abc import Container, Iterable, Sequence
from typing import Annotated, TypeVar

from msgspec import Meta, Struct
from sqlalchemy import select, text

from erp_service import errors
from erp_service.db.sessions import Session
from erp_service.db.statements import Prepared, number_array, text_array
from erp_service.errors import Fault
from erp_service.inventory.models import Item
from erp_service.inventory.queries.items import ITEM_COLUMNS, item_of
from erp_service.inventory.schemas import IDENTIFIER_LENGTH, ItemOut, ReferredId

MOST_NAMES = 1_000
"""Of all kinds together."""

Name = TypeVar("Name", int, str)

_Names = Annotated[list[Annotated[str, Meta(min_length=1, max_length=IDENTIFIER_LENGTH)]], Meta(max_length=MOST_NAMES)]


class ItemNames(Struct, forbid_unknown_fields=True, kw_only=True):
    """Names of items, of four kinds, up to 1,000 in all."""

    ids: Annotated[list[ReferredId], Meta(max_length=MOST_NAMES, description="ids")] = []
    skus: Annotated[_Names, Meta(description="skus")] = []
    external_ids: Annotated[_Names, Meta(description="external ids")] = []
    barcodes: Annotated[_Names, Meta(description="barcodes")] = []


class ItemsFound(Struct):
    """The items that are there, and the names that no item has."""

    items: Annotated[list[ItemOut], Meta(description="each item once, by id")]
    missing: Annotated[ItemNames, Meta(description="the names that no item has, each once")]


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
    items = [item_of(*row) for row in await db.execute(_NAMED, parameters_of(names))]
    return ItemsFound(items, missing(names, [(item.id, item.sku, item.external_id, item.barcode) for item in items]))


def parameters_of(names: ItemNames) -> dict[str, object]:
    """The names as arrays, by kind. Raises errors.Invalid for more than MOST_NAMES names."""
    count = len(names.ids) + len(names.skus) + len(names.external_ids) + len(names.barcodes)
    if count > MOST_NAMES:
        raise errors.Invalid(None, Fault(f"has {count} names, and at most {MOST_NAMES} are taken", pointer=""))
    return {
        "ids": number_array(names.ids),
        "skus": text_array(names.skus),
        "external_ids": text_array(names.external_ids),
        "barcodes": text_array(names.barcodes),
    }


def missing(names: ItemNames, items: Sequence[tuple[int, str, str | None, str | None]]) -> ItemNames:
    """The names that none of the items has; of each item its id, sku, external id and barcode are given."""
    return ItemNames(
        ids=_without(names.ids, {id_ for id_, _, _, _ in items}),
        skus=_without(names.skus, {sku for _, sku, _, _ in items}),
        external_ids=_without(names.external_ids, {external_id for _, _, external_id, _ in items}),
        barcodes=_without(names.barcodes, {barcode for _, _, _, barcode in items}),
    )


def _without(names: Iterable[Name], known: Container[Name | None]) -> list[Name]:
    return [name for name in dict.fromkeys(names) if name not in known]
