"""/api/v1/inventory/locations"""

from typing import Annotated, Literal

from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter

from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.db.sessions import ReadSession, WriteSession
from erp_service.errors import INTEGER_LIMIT
from erp_service.inventory import locations
from erp_service.inventory.edits import LocationPatch, LocationReplacement
from erp_service.inventory.problems import (
    CodeTaken,
    ExternalIdTaken,
    LocationHasChildren,
    LocationHasStock,
    LooksAlike,
    NegativeStock,
    NoPlaceInTree,
)
from erp_service.inventory.queries.locations import location_by_id, location_page
from erp_service.inventory.schemas import LocationBody, LocationOut, LocationPage, LocationType
from erp_service.web.merge_patch import Edit
from erp_service.web.query_params import DEFAULT_LIMIT, Cursor, Limit
from erp_service.web.responses import ApiResponse, created, require_match, tagged
from erp_service.web.routing import Id, IfMatch, delete, get, patch, post, put

_PATH = "/api/v1/inventory/locations"
_ONE = f"{_PATH}/{{location_id:int}}"
_TAGS = ["locations"]

Sort = Literal["code", "-code", "id", "-id", "name", "-name"]
IncludeDeleted = Annotated[bool, QueryParameter(description="also deleted locations")]


@get(_PATH, role=Role.VIEWER, scope=Scope.LOCATIONS_READ, summary="List locations", tags=_TAGS)
async def list_locations(
    read: NamedDependency[ReadSession],
    q: Annotated[
        str | None,
        QueryParameter(max_length=200, description="part of the code or the name, ignoring capitals and accents"),
    ] = None,
    code: Annotated[str | None, QueryParameter(max_length=200, description="exactly this code")] = None,
    external_id: Annotated[str | None, QueryParameter(max_length=200, description="exactly this external id")] = None,
    location_type: Annotated[LocationType | None, QueryParameter(description="only locations of this type")] = None,
    parent_id: Annotated[
        int | None, QueryParameter(ge=1, le=INTEGER_LIMIT, description="only locations directly below this one")
    ] = None,
    include_deleted: IncludeDeleted = False,
    sort: Annotated[Sort | None, QueryParameter(description="`id` if it is left out; a minus sorts downwards")] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> ApiResponse[LocationPage]:
    """Keyset pages: follow `next_cursor`, or the `Link` header, until it is null."""
    return ApiResponse(
        await location_page(
            read,
            q=q,
            code=code,
            external_id=external_id,
            location_type=location_type,
            parent_id=parent_id,
            include_deleted=include_deleted,
            sort=sort,
            limit=limit,
            cursor=cursor,
        )
    )


@get(_ONE, role=Role.VIEWER, scope=Scope.LOCATIONS_READ, summary="A location", tags=_TAGS)
async def get_location(
    read: NamedDependency[ReadSession], location_id: Id, include_deleted: IncludeDeleted = False
) -> ApiResponse[LocationOut]:
    """With its `ETag`. A deleted location is 404 without `include_deleted=true`."""
    location = await location_by_id(read, location_id, include_deleted=include_deleted)
    return tagged(location, location.version)


@post(
    _PATH,
    role=Role.ADMIN,
    scope=Scope.LOCATIONS_WRITE,
    summary="Create a location",
    tags=_TAGS,
    status_code=201,
    problems=(CodeTaken, ExternalIdTaken),
    example={"code": "SHOP-WINDOW", "name": "The shop's window", "location_type": "ZONE", "parent": "SHOP"},
)
async def create_location(
    write: NamedDependency[WriteSession], who: NamedDependency[Principal], data: JSONBody[LocationBody]
) -> ApiResponse[LocationOut]:
    """The code must be new. A deleted location keeps its code, and gives its external id free.

    `parent` or `parent_id` names the location that it is a part of; both, if they agree. Locations nest up to 20
    levels."""
    location = await locations.create(write, who, data)
    return created(location, f"{_PATH}/{location.id}", location.version)


@put(
    _ONE,
    role=Role.ADMIN,
    scope=Scope.LOCATIONS_WRITE,
    summary="Replace a location",
    tags=_TAGS,
    problems=(CodeTaken, ExternalIdTaken, NegativeStock),
    example={
        "code": "MAIN",
        "name": "Main warehouse",
        "location_type": "WAREHOUSE",
        "address": "Unit 5, Harbour Lane, Bristol",
    },
)
async def replace_location(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    location_id: Id,
    data: JSONBody[LocationReplacement],
    if_match: IfMatch = None,
) -> ApiResponse[LocationOut]:
    """Replaces every field: one that is left out gets its default. If nothing changes, the `ETag` stays the same.

    A body as GET shows it is taken: what a client cannot write is ignored if it is unchanged, and refused if it is not.

    A location cannot become part of itself, nor of a location below it. `allow_negative_stock` cannot be switched off
    while stock of any item is below zero here. With a new code, the locations in it get a new `ETag`, since their
    `parent` shows it."""
    return await _change(write, who, location_id, data, if_match)


@patch(
    _ONE,
    role=Role.ADMIN,
    scope=Scope.LOCATIONS_WRITE,
    summary="Change a location",
    tags=_TAGS,
    problems=(CodeTaken, ExternalIdTaken, NegativeStock),
    example={"address": "Unit 6, Harbour Lane, Bristol", "metadata": {"gate": "2"}},
)
async def patch_location(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    location_id: Id,
    data: JSONBody[LocationPatch],
    if_match: IfMatch = None,
) -> ApiResponse[LocationOut]:
    """A merge patch (RFC 7396): a field that is left out stays as it is, null gives it its default, `metadata` is
    merged by key. The rules are those of PUT. Of `parent` and `parent_id`, which name the same location, one is
    enough."""
    return await _change(write, who, location_id, data, if_match)


async def _change(
    db: WriteSession, who: Principal, location_id: int, data: Edit[LocationBody, LocationOut], if_match: str | None
) -> ApiResponse[LocationOut]:
    before = await locations.lock_for_update(db, location_id, new_code=data.text("code"))
    require_match(if_match, before.version)
    location = await locations.replace(db, who, before, data.over(before))
    return tagged(location, location.version)


@delete(
    _ONE,
    role=Role.ADMIN,
    scope=Scope.LOCATIONS_WRITE,
    summary="Delete a location",
    tags=_TAGS,
    problems=(LocationHasStock, LocationHasChildren),
)
async def delete_location(
    write: NamedDependency[WriteSession], who: NamedDependency[Principal], location_id: Id, if_match: IfMatch = None
) -> None:
    """The location is marked as deleted; its ledger and its code stay. Refused while it has stock of any item, or stock
    below zero, or some is reserved, or other locations are part of it."""
    location = await locations.lock_for_update(write, location_id)
    require_match(if_match, location.version)
    await locations.delete(write, who, location)


@post(
    f"{_ONE}/restore",
    role=Role.ADMIN,
    scope=Scope.LOCATIONS_WRITE,
    summary="Restore a deleted location",
    tags=_TAGS,
    status_code=200,
    problems=(ExternalIdTaken, LooksAlike, NoPlaceInTree),
)
async def restore_location(
    write: NamedDependency[WriteSession], who: NamedDependency[Principal], location_id: Id
) -> ApiResponse[LocationOut]:
    """Undoes a deletion. Refused if another location has taken the external id meanwhile, or while the location that it
    was a part of is deleted. A location that is not deleted is answered as it is."""
    before = await locations.lock_for_update(write, location_id, include_deleted=True)
    location = await locations.restore(write, who, before)
    return tagged(location, location.version)


ROUTES = [
    list_locations,
    get_location,
    create_location,
    replace_location,
    patch_location,
    delete_location,
    restore_location,
]
