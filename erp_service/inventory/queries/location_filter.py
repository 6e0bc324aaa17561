"""How requests name locations whose stock they read: by id or by code, alone or with those below."""

from sqlalchemy import Text, bindparam, select

from erp_service import errors
from erp_service.db.sessions import Session
from erp_service.db.statements import Prepared
from erp_service.errors import Fault
from erp_service.inventory.models import Location
from erp_service.inventory.queries.locations import subtree

_ID_OF = Prepared(select(Location.id).where(Location.code == bindparam("code", type_=Text)))
_IS_THERE = Prepared(select(Location.id).where(Location.id == bindparam("id")))


async def location_ids(
    db: Session, *, location_id: int | None, location: str | None, descendants: bool
) -> list[int] | None:
    """The ids of the locations that the query of a request names, also of deleted ones, whose history stays; None if
    it names none. An id that no location has is answered like a location without stock.

    Raises errors.Invalid for a code that no location has, since a misspelt one must not look like an empty shelf, and
    for an id beside a code."""
    if location is not None:
        if location_id is not None:
            raise errors.Invalid(None, Fault("give location_id or location, not both", parameter="location"))
        location_id = await db.scalar(_ID_OF, {"code": location})
        if location_id is None:
            raise errors.Invalid(None, Fault("there is no location with this code", parameter="location"))
    if location_id is None:
        return None
    return await db.scalars(subtree(location_id)) if descendants else [location_id]


async def named_location(db: Session, location_id: int | None, location: str | None) -> int | None:
    """The id of the location that the body of a request names; None if it names none.

    Raises errors.Invalid for one that is not there, and for an id beside a code."""
    if location_id is None and location is None:
        return None
    if location_id is not None and location is not None:
        raise errors.Invalid(None, Fault("give location_id or location, not both", pointer="/location"))
    named, field = (_IS_THERE, "location_id") if location is None else (_ID_OF, "location")
    id_: int | None = await db.scalar(named, {"id": location_id} if location is None else {"code": location})
    if id_ is None:
        raise errors.Invalid(None, Fault("there is no such location", pointer=f"/{field}"))
    return id_
