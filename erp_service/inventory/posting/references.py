"""How a body names items and locations, and the rows that it means."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

from msgspec import Struct
from sqlalchemy import text

from erp_service.db.sessions import WriteSession
from erp_service.db.statements import Prepared, text_array
from erp_service.errors import Fault
from erp_service.inventory.posting.row_locks import ItemKey, LockedItem, LockedLocation
from erp_service.inventory.posting.schemas import OfItem
from erp_service.texts import identifier_fault

Row = TypeVar("Row", LockedItem, LockedLocation)

_NOBODY = 0
"""The id that no row has."""


class ItemReference(Struct, frozen=True, gc=False):
    """The item that a body names, by exactly one of four fields."""

    body: OfItem
    key: ItemKey
    """The key of the row in LockedRows; `_NOBODY` if the body names none, or one that is not there."""

    @property
    def field(self) -> str:
        """The field that the body uses."""
        return next((name for name in _ITEM_FIELDS if getattr(self.body, name) is not None), "item_id")

    def resolve(self, rows: Mapping[ItemKey, LockedItem], pointer: str, faults: list[Fault]) -> LockedItem | None:
        """The row; None, and a fault, if there is none or the body does not name exactly one."""
        if (row := rows.get(self.key)) is not None and self._names_one():
            return row
        given = [name for name in _ITEM_FIELDS if getattr(self.body, name) is not None]
        if not given:
            faults.append(Fault("is missing: give item_id, sku, external_id or barcode", f"{pointer}/item_id"))
        elif len(given) > 1:
            faults.append(Fault(f"give {' or '.join(given)}, not both", f"{pointer}/{given[1]}"))
        else:
            faults.append(_unknown("item", given[0], getattr(self.body, given[0]), pointer))
        return None

    def _names_one(self) -> bool:
        b = self.body
        return (b.item_id is None) + (b.sku is None) + (b.external_id is None) + (b.barcode is None) == 3


_ITEM_FIELDS = ("item_id", "sku", "external_id", "barcode")


class LocationReference(Struct, frozen=True, gc=False):
    """The location that a body names, by its id or its code, exactly one of the two."""

    id_field: str
    code_field: str
    id: int | None
    code: str | None

    @property
    def key(self) -> int | str:
        """The key of the row in LockedRows; `_NOBODY` if the body names none."""
        return self.code or self.id or _NOBODY

    @property
    def field(self) -> str:
        """The field that the body uses."""
        return self.code_field if self.id is None else self.id_field

    def resolve(
        self, rows: Mapping[int | str, LockedLocation], pointer: str, faults: list[Fault]
    ) -> LockedLocation | None:
        """The row; None, and a fault, if there is none or the body does not name exactly one."""
        if self.id is None and self.code is None:
            faults.append(Fault(f"is missing: give {self.id_field} or {self.code_field}", f"{pointer}/{self.id_field}"))
        elif self.id is not None and self.code is not None:
            faults.append(Fault(f"give {self.id_field} or {self.code_field}, not both", f"{pointer}/{self.code_field}"))
        elif (row := rows.get(self.key)) is not None:
            return row
        else:
            faults.append(_unknown("location", self.field, self.code, pointer))
        return None


def _unknown(table: str, field: str, word: object, pointer: str) -> Fault:
    # what nobody sees is why a text that was copied finds nothing
    fault = identifier_fault(word) if isinstance(word, str) else None
    why = "" if fault is None else f": the {field} {fault}"
    return Fault(f"there is no such {table}{why}", f"{pointer}/{field}")


async def item_references(db: WriteSession, bodies: Iterable[OfItem]) -> list[ItemReference]:
    """A reference for each body. What is named by an external id or a barcode is looked up first, since the rows are
    locked by their ids."""
    bodies = list(bodies)
    external_ids = {body.external_id for body in bodies if body.external_id is not None}
    barcodes = {body.barcode for body in bodies if body.barcode is not None}
    ids: dict[tuple[str, str], int] = {}
    if external_ids or barcodes:
        parameters = {"external_ids": text_array(external_ids), "barcodes": text_array(barcodes)}
        ids = {(field, word): id_ for field, word, id_ in await db.execute(_IDS, parameters)}
    return [ItemReference(body, _key(body, ids)) for body in bodies]


_IDS = Prepared(
    text("""
select 'external_id', external_id, id from items
where external_id = any (cast(cast(:external_ids as text) as text[])) and deleted_at is null
union all
select 'barcode', barcode, id from items
where barcode = any (cast(cast(:barcodes as text) as text[])) and deleted_at is null
""")
)


def _key(body: OfItem, ids: Mapping[tuple[str, str], int]) -> ItemKey:
    if body.external_id is not None:
        return ids.get(("external_id", body.external_id), _NOBODY)
    if body.barcode is not None:
        return ids.get(("barcode", body.barcode), _NOBODY)
    return body.sku or body.item_id or _NOBODY
