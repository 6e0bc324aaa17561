"""Reads of locations: columns straight into the structs of the answers."""

from typing import Any

from sqlalchemy import Boolean, Select, Text, bindparam, literal_column, or_, select

from erp_service import errors
from erp_service.db.base import has, sort_key
from erp_service.db.pagination import Listing, SortKey, orders
from erp_service.db.sessions import Session
from erp_service.db.statements import Prepared
from erp_service.inventory.models import Location
from erp_service.inventory.schemas import LocationOut, LocationPage, LocationType

# Any: the stubs of SQLAlchemy type a select of ten columns at most
LOCATION_COLUMNS: tuple[Any, ...] = (
    Location.id,
    Location.code,
    Location.name,
    Location.location_type,
    Location.address,
    Location.parent_id,
    # no join: this one works in RETURNING and with FOR UPDATE, too
    literal_column("(select p.code from locations p where p.id = locations.parent_id)", Text).label("parent"),
    Location.allow_negative_stock,
    Location.external_id,
    Location.extra,
    Location.version,
    Location.created_at,
    Location.updated_at,
    Location.deleted_at,
)

_ID, _CODE = SortKey(Location.id, "id", int), SortKey(Location.code, "code", str)
_NAME = SortKey(Location.name_key, "name", str, sort_key)
# a code is unique: with the id as a second key, the order could not be read from the index of the code
_LOCATIONS = Listing(
    select(*LOCATION_COLUMNS),
    LocationOut,
    LocationPage,
    orders({"id": _ID, "name": _NAME}, _ID) | orders({"code": _CODE}, _CODE),
    {
        "q": has(Location.search, bindparam("q", type_=Text)),
        "code": Location.code == bindparam("code"),
        "external_id": Location.external_id == bindparam("external_id"),
        "location_type": Location.location_type == bindparam("location_type"),
        "parent_id": Location.parent_id == bindparam("parent_id"),
        "undeleted": Location.deleted_at.is_(None),
    },
)
_ONE = Prepared(
    select(*LOCATION_COLUMNS).where(
        Location.id == bindparam("id"), or_(Location.deleted_at.is_(None), bindparam("include_deleted", type_=Boolean))
    )
)


async def location_by_id(db: Session, location_id: int, *, include_deleted: bool = False) -> LocationOut:
    """Raises errors.NotFound."""
    row = (await db.execute(_ONE, {"id": location_id, "include_deleted": include_deleted})).one_or_none()
    if row is None:
        raise errors.NotFound(f"There is no location {location_id}.")
    return LocationOut(*row)


async def location_page(
    db: Session,
    *,
    q: str | None = None,
    code: str | None = None,
    external_id: str | None = None,
    location_type: LocationType | None = None,
    parent_id: int | None = None,
    include_deleted: bool = False,
    sort: str | None = None,
    limit: int,
    cursor: str | None = None,
) -> LocationPage:
    """One page. `q` is searched in code and name, ignoring capitals and accents.

    Raises errors.Invalid for `sort` and `cursor`."""
    parameters = {
        "q": q,
        "code": code,
        "external_id": external_id,
        "location_type": location_type,
        "parent_id": parent_id,
        "undeleted": not include_deleted,
    }
    return await _LOCATIONS.page(db, parameters, sort=sort, limit=limit, cursor=cursor)


def subtree(location_id: int) -> Select[int]:
    """Selects the ids of the location and of all locations below it, at any depth."""
    tree = select(Location.id).where(Location.id == location_id).cte(recursive=True)
    tree = tree.union(select(Location.id).where(Location.parent_id == tree.c.id))
    return select(tree.c.id)
