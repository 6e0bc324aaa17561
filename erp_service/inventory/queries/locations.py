"""Reads of locations: columns straight into the structs of the answers."""

from typing import Any

from sqlalchemy import Select, literal, or_, select

from erp_service import errors
from erp_service.db.base import has, sort_key
from erp_service.db.pagination import SortKey, chosen, orders, page
from erp_service.db.sessions import Session
from erp_service.inventory.models import Location
from erp_service.inventory.queries.filters import equal
from erp_service.inventory.schemas import LocationOut, LocationPage, LocationType

# Any: the stubs of SQLAlchemy type a select of ten columns at most
LOCATION_COLUMNS: tuple[Any, ...] = (
    Location.id,
    Location.code,
    Location.name,
    Location.location_type,
    Location.address,
    Location.parent_id,
    Location.allow_negative_stock,
    Location.version,
    Location.created_at,
    Location.updated_at,
    Location.deleted_at,
)

_ID, _CODE = SortKey(Location.id, "id", int), SortKey(Location.code, "code", str)
_NAME = SortKey(Location.name_key, "name", str, sort_key)
# a code is unique: with the id as a second key, the order could not be read from the index of the code
_ORDERS = orders({"id": _ID, "name": _NAME}, _ID) | orders({"code": _CODE}, _CODE)


async def location_by_id(db: Session, location_id: int, *, include_deleted: bool = False) -> LocationOut:
    """Raises errors.NotFound."""
    statement = select(*LOCATION_COLUMNS).where(
        Location.id == location_id, or_(Location.deleted_at.is_(None), literal(include_deleted))
    )
    if (row := (await db.execute(statement)).one_or_none()) is None:
        raise errors.NotFound(f"There is no location {location_id}.")
    return LocationOut(*row)


async def location_page(
    db: Session,
    *,
    q: str | None = None,
    code: str | None = None,
    location_type: LocationType | None = None,
    parent_id: int | None = None,
    include_deleted: bool = False,
    sort: str | None = None,
    limit: int,
    cursor: str | None = None,
) -> LocationPage:
    """One page. `q` is searched in code and name, ignoring capitals and accents.

    Raises errors.Invalid for `sort` and `cursor`."""
    statement = select(*LOCATION_COLUMNS).where(
        *equal((Location.code, code), (Location.location_type, location_type), (Location.parent_id, parent_id))
    )
    if q is not None:
        statement = statement.where(has(Location.search, q))
    if not include_deleted:
        statement = statement.where(Location.deleted_at.is_(None))
    order = chosen(_ORDERS, sort, "id")
    return await page(db, statement, LocationOut, order, limit=limit, cursor=cursor, into=LocationPage)


def subtree(location_id: int) -> Select[int]:
    """Selects the ids of the location and of all locations below it, at any depth."""
    tree = select(Location.id).where(Location.id == location_id).cte(recursive=True)
    tree = tree.union(select(Location.id).where(Location.parent_id == tree.c.id))
    return select(tree.c.id)
