"""/api/v1/api-keys: keys for programs, in place of somebody's password."""

from typing import Annotated

from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter

from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.access.scopes import Keys
from erp_service.auth.api_keys import queries, service
from erp_service.auth.api_keys.problems import KeyRoleTooHigh, TooManyKeys
from erp_service.auth.api_keys.schemas import ApiKeyOut, ApiKeyPage, CreatedApiKey, NewApiKey
from erp_service.auth.problems import RoleOutOfReach
from erp_service.db.sessions import ReadSession, WriteSession
from erp_service.errors import INTEGER_LIMIT
from erp_service.web.query_params import DEFAULT_LIMIT, Cursor, Limit
from erp_service.web.responses import ApiResponse, created, require_match, tagged
from erp_service.web.routing import Id, IfMatch, delete, get, post

_BASE = "/api/v1/api-keys"
_ONE = f"{_BASE}/{{key_id:int}}"
_TAGS = ["api-keys"]


@get(_BASE, role=Role.ADMIN, scope=Keys.NONE, summary="List API keys", tags=_TAGS, operation_id="list_api_keys")
async def list_keys(
    read: NamedDependency[ReadSession],
    user_id: Annotated[
        int | None, QueryParameter(ge=1, le=INTEGER_LIMIT, description="only those that this user made")
    ] = None,
    is_active: Annotated[
        bool | None,
        QueryParameter(
            description="only active keys, or only those that were revoked or have expired; both by default"
        ),
    ] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> ApiResponse[ApiKeyPage]:
    """Newest first; those of everybody. No answer holds a key: `hint` has its first characters."""
    return ApiResponse(await queries.api_keys(read, user_id=user_id, is_active=is_active, limit=limit, cursor=cursor))


@post(
    _BASE,
    role=Role.ADMIN,
    scope=Keys.NONE,
    summary="Make an API key",
    tags=_TAGS,
    idempotent=False,
    problems=(KeyRoleTooHigh, TooManyKeys, RoleOutOfReach),
    operation_id="create_api_key",
    headers={201: ("ETag",)},
    example={
        "name": "web shop, production",
        "role": "STAFF",
        "scopes": ["items:read", "stock:read", "stock:write"],
        "networks": ["203.0.113.0/24"],
    },
)
async def create_key(
    write: NamedDependency[WriteSession], who: NamedDependency[Principal], data: JSONBody[NewApiKey]
) -> ApiResponse[CreatedApiKey]:
    """The answer shows the key once. Only a digest of it is kept, so nobody can show it again.

    Send it as `Authorization: Bearer erp_...`, in place of an access token. It acts for you: with the lesser of its own
    role and your present one, only where its scopes allow, and until it is revoked, it expires, or you are deactivated.
    What it does is on record under your name and its id. `expires_at`, scopes and all else never change: make another
    key, then revoke this one."""
    key = await service.create(write, who, data)
    return created(key, f"{_BASE}/{key.id}", queries.version(key))


@get(_ONE, role=Role.ADMIN, scope=Keys.NONE, summary="An API key", tags=_TAGS, operation_id="get_api_key")
async def get_key(read: NamedDependency[ReadSession], key_id: Id) -> ApiResponse[ApiKeyOut]:
    """Also one that was revoked. `last_used_at` does not change the `ETag`."""
    key = await queries.api_key(read, key_id)
    return tagged(key, queries.version(key))


@delete(
    _ONE,
    role=Role.ADMIN,
    scope=Keys.NONE,
    summary="Revoke an API key",
    tags=_TAGS,
    problems=(RoleOutOfReach,),
    operation_id="revoke_api_key",
)
async def revoke_key(
    write: NamedDependency[WriteSession], who: NamedDependency[Principal], key_id: Id, if_match: IfMatch = None
) -> ApiResponse[None]:
    """Within a second it is refused on every instance, and what it has open ends: streams, long polls and downloads.

    An ADMIN revokes their own keys and those of users who are VIEWER or STAFF by now, a SUPER_ADMIN all. The key stays
    on the list. To revoke it again is 204 too, and changes nothing."""
    key = await service.lock_for_update(write, who, key_id)
    # a retry may come with the tag from before (RFC 9110, 13.1.1)
    if key.revoked_at is None:
        require_match(if_match, queries.version(key))
    await service.revoke(write, who, key)
    return ApiResponse(None, status_code=204)


ROUTES = [list_keys, create_key, get_key, revoke_key]
