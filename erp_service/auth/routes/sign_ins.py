"""The routes of sign-ins that are open."""

from typing import Annotated, Any
from uuid import UUID

from litestar import Request
from litestar.di import NamedDependency
from litestar.params import PathParameter, QueryParameter

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.access.scopes import Keys
from erp_service.auth.login import sign_ins
from erp_service.auth.login.context import LoginContext
from erp_service.auth.problems import RoleOutOfReach
from erp_service.auth.schemas import SignInPage
from erp_service.auth.tokens import TokenClaims
from erp_service.db.sessions import ReadSession
from erp_service.errors import INTEGER_LIMIT
from erp_service.web.query_params import DEFAULT_LIMIT, Cursor, Limit
from erp_service.web.responses import ApiResponse
from erp_service.web.routing import delete, get

_BASE = "/api/v1/auth/sessions"
_TAGS = ["auth"]

UserId = Annotated[
    int | None, QueryParameter(ge=1, le=INTEGER_LIMIT, description="whose; your own if left out. For others: ADMIN")
]


@get(
    _BASE,
    role=Role.VIEWER,
    scope=Keys.NONE,
    summary="List open sign-ins",
    tags=_TAGS,
    problems=(errors.Forbidden, RoleOutOfReach, errors.NotFound),
)
async def list_sign_ins(
    request: Request[Principal, TokenClaims, Any],
    who: NamedDependency[Principal],
    read: NamedDependency[ReadSession],
    user_id: UserId = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> ApiResponse[SignInPage]:
    """Newest first. An ADMIN sees those of VIEWER and STAFF, a SUPER_ADMIN those of all."""
    return ApiResponse(await sign_ins.sign_ins(read, who, request.auth, user_id, limit=limit, cursor=cursor))


@delete(
    _BASE + "/{sign_in_id:uuid}",
    role=Role.VIEWER,
    scope=Keys.NONE,
    summary="End a sign-in",
    tags=_TAGS,
    problems=(RoleOutOfReach,),
)
async def end_sign_in(
    who: NamedDependency[Principal],
    login: NamedDependency[LoginContext],
    sign_in_id: Annotated[UUID, PathParameter(description="the id of the sign-in")],
) -> ApiResponse[None]:
    """Ends its refresh token, its access tokens and the URLs signed for it, on every instance within a second. Your
    own, or as ADMIN one of a VIEWER or STAFF, as SUPER_ADMIN any."""
    await sign_ins.end(login, who, sign_in_id)
    return ApiResponse(None, status_code=204)


@delete(
    _BASE,
    role=Role.VIEWER,
    scope=Keys.NONE,
    summary="End all other sign-ins",
    tags=_TAGS,
    problems=(errors.Forbidden, RoleOutOfReach, errors.NotFound),
)
async def end_sign_ins(
    request: Request[Principal, TokenClaims, Any],
    who: NamedDependency[Principal],
    login: NamedDependency[LoginContext],
    user_id: UserId = None,
) -> ApiResponse[None]:
    """All of your own but the one that makes this request; with `user_id`, all of that user, as for a device that was
    lost. On every instance within a second."""
    if user_id is None or user_id == who.user_id:
        await sign_ins.end_others(login, who, request.auth)
    elif who.role.includes(Role.ADMIN):
        await sign_ins.end_all_of(login, who, user_id)
    else:
        raise errors.Forbidden("To end the sign-ins of others, your role must be ADMIN or a higher one.")
    return ApiResponse(None, status_code=204)


ROUTES = [list_sign_ins, end_sign_in, end_sign_ins]
