"""/api/v1/inventory/locations"""

from typing import Annotated, Literal

from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter

from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.db.sessions import ReadSession, WriteSession
from erp_service.errors import INTEGER_LIMIT
from erp_service.inventory import locations
from erp_service.inventory.problems import CodeTaken, LocationHasChildren, LocationHasStock, NegativeStock
from erp_service.inventory.queries.locations import location_by_id, location_page
from erp_service.inventory.schemas import LocationBody, LocationOut, LocationPage, LocationType
from erp_service.web.query_params import DEFAULT_LIMIT, Cursor, Limit
from erp_service.web.responses import ApiResponse, created, require_match, tagged
from erp_service.web.routing import Id, IfMatch, delete, get, post, put

_PATH = "/api/v1/inventory/locations"
_ONE = f"{_PATH}/{{location_id:int}}"
_TAGS = ["locations"]

Sort = Literal["code", "-code", "id", "-id", "name", "-name"]
IncludeDeleted = Annotated[bool, QueryParameter(description="also what was deleted")]


@get(_PATH, role=Role.VIEWER, summary="List locations", tags=_TAGS)
async def list_locations(
    read: NamedDependency[ReadSession],
    q: Annotated[
        str | None, QueryParameter(max_length=200, description="part of the code or the name, in any case")
    ] = None,
    code: Annotated[str | None, QueryParameter(max_length=200, description="exactly this code")] = None,
    location_type: Annotated[LocationType | None, QueryParameter(description="only locations of this type")] = None,
    parent_id: Annotated[
        int | None, QueryParameter(ge=1, le=INTEGER_LIMIT, description="only what is directly in this location")
    ] = None,
    include_deleted: IncludeDeleted = False,
    sort: Annotated[Sort | None, QueryParameter(description="`id` if absent; downwards with a minus")] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> ApiResponse[LocationPage]:
    """Keyset pages: follow `next_cursor`, or the `Link` header, until it is null."""
    return ApiResponse(
        await location_page(
            read,
            q=q,
            code=code,
            location_type=location_type,
            parent_id=parent_id,
            include_deleted=include_deleted,
            sort=sort,
            limit=limit,
            cursor=cursor,
        )
    )


@get(_ONE, role=Role.VIEWER, summary="A location", tags=_TAGS)
async def get_location(
    read: NamedDependency[ReadSession], location_id: Id, include_deleted: IncludeDeleted = False
) -> ApiResponse[LocationOut]:
    """With its `ETag`. A deleted location is 404 without `include_deleted=true`."""
    location = await location_by_id(read, location_id, include_deleted=include_deleted)
    return tagged(location, location.version)


@post(_PATH, role=Role.ADMIN, summary="Make a location", tags=_TAGS, status_code=201, problems=(CodeTaken,))
async def create_location(
    write: NamedDependency[WriteSession], who: NamedDependency[Principal], data: JSONBody[LocationBody]
) -> ApiResponse[LocationOut]:
    """The code must be new: also one of a deleted location is taken. Locations nest up to 20 levels."""
    location = await locations.create(write, who, data)
    return created(location, f"{_PATH}/{location.id}", location.version)


@put(_ONE, role=Role.ADMIN, summary="Replace a location", tags=_TAGS, problems=(CodeTaken, NegativeStock))
async def replace_location(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    location_id: Id,
    data: JSONBody[LocationBody],
    if_match: IfMatch = None,
) -> ApiResponse[LocationOut]:
    """All of it: a field that is left out gets its default. What changes nothing keeps the `ETag`.

    It cannot become a part of itself, or of what is part of it. `allow_negative_stock` cannot be switched off while
    stock of any item is below zero here."""
    held = await locations.lock_for_update(write, location_id)
    require_match(if_match, held.version)
    location = await locations.replace(write, who, held, data)
    return tagged(location, location.version)


@delete(
    _ONE,
    role=Role.ADMIN,
    summary="Delete a location",
    tags=_TAGS,
    problems=(LocationHasStock, LocationHasChildren),
)
async def delete_location(
    write: NamedDependency[WriteSession], who: NamedDependency[Principal], location_id: Id, if_match: IfMatch = None
) -> None:
    """Softly: ledger and code stay. Refused while there is stock here, also below zero, or another location in it."""
    held = await locations.lock_for_update(write, location_id)
    require_match(if_match, held.version)
    await locations.delete(write, who, held)


ROUTES = [list_locations, get_location, create_location, replace_location, delete_location]
