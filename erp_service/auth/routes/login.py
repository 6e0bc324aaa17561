"""The routes of signing in and out, and of one's own account."""

from typing import Any

import msgspec
from litestar import Request
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import JSONBody

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.access.scopes import Keys, Scope
from erp_service.auth import login_form, queries, sessions, users
from erp_service.auth.api_keys.queries import api_key
from erp_service.auth.api_keys.schemas import OwnKey, ProfileOut
from erp_service.auth.credentials import Credential
from erp_service.auth.login.context import LoginContext
from erp_service.auth.problems import (
    EmailTaken,
    RefreshRefused,
    RoleOutOfReach,
    SecondFactorNeeded,
    SecondFactorWrong,
    TemporaryPasswordExpired,
    WrongCredentials,
)
from erp_service.auth.routes.new_user import HASHED_FIRST
from erp_service.auth.schemas import NewUser, PasswordChange, RefreshRequest, TokenPair, UserOut
from erp_service.auth.tokens import TokenClaims
from erp_service.db.sessions import ReadSession, WriteSession
from erp_service.web.dependencies import anonymous
from erp_service.web.responses import ApiResponse, created, tagged
from erp_service.web.routing import PUBLIC, get, post, put

_BASE = "/api/v1/auth"
_TAGS = ["auth"]


def _uncached(pair: TokenPair) -> ApiResponse[TokenPair]:
    # RFC 6749, 5.1: no cache may store tokens
    return ApiResponse(pair, headers={"Cache-Control": "no-store", "Pragma": "no-cache"})


@post(
    f"{_BASE}/login",
    role=PUBLIC,
    scope=Keys.NONE,
    status_code=200,
    summary="Sign in",
    tags=_TAGS,
    operation_class=login_form.FormOperation,
    problems=(
        WrongCredentials,
        SecondFactorNeeded,
        SecondFactorWrong,
        TemporaryPasswordExpired,
        errors.TooMany,
        errors.Malformed,
        errors.TooSlow,
        errors.TooLarge,
        errors.UnsupportedMedia,
    ),
)
async def login(request: Request[Any, Any, Any], login: NamedDependency[LoginContext]) -> ApiResponse[TokenPair]:
    """Takes e-mail and password, as the form of the OAuth 2.0 password grant. A header `Authorization` is ignored.

    Users with a second factor also send its code as `totp`, or a recovery code. Without it, the answer to the right
    password is 401 `second-factor-needed`: ask for the code, and send the whole form again.

    Failures are counted for each account and each network; after too many, the answer is 429, and each attempt has to
    wait longer than the one before. Nobody's failures elsewhere slow down an account on a network from which it has
    signed in before. More than 20 sign-ins of an account in a minute are 429, too, unless the operator set another
    limit."""
    credentials = await login_form.read_credentials(request)
    pair = await sessions.sign_in(login, anonymous(request), credentials, request.headers.get("user-agent"))
    return _uncached(pair)


@post(
    f"{_BASE}/refresh",
    role=PUBLIC,
    scope=Keys.NONE,
    status_code=200,
    summary="Get a new pair of tokens",
    tags=_TAGS,
    problems=(RefreshRefused, errors.TooMany),
    operation_id="refresh_tokens",
)
async def refresh(
    request: Request[Any, Any, Any], login: NamedDependency[LoginContext], data: JSONBody[RefreshRequest]
) -> ApiResponse[TokenPair]:
    """A refresh token can be used once. A second use ends the whole sign-in with its access tokens, since somebody else
    may have a copy."""
    return _uncached(await sessions.refresh(login, anonymous(request), data.refresh_token))


@post(
    f"{_BASE}/logout",
    role=Role.VIEWER,
    scope=Keys.NONE,
    status_code=204,
    summary="Sign out",
    tags=_TAGS,
    idempotent=False,
    while_password_expired=True,
    without_second_factor=True,
)
async def logout(
    request: Request[Principal, TokenClaims, Any],
    who: NamedDependency[Principal],
    login: NamedDependency[LoginContext],
) -> ApiResponse[None]:
    """Ends this sign-in on every instance: its refresh token, its access tokens and the URLs signed for it."""
    await sessions.sign_out(login, who, request.auth)
    return ApiResponse(None, status_code=204)


@post(
    f"{_BASE}/register",
    role=Role.ADMIN,
    scope=Scope.USERS_WRITE,
    summary="Create a user",
    tags=_TAGS,
    idempotent=False,
    problems=(EmailTaken, RoleOutOfReach),
    dependencies=HASHED_FIRST,
    operation_id="register_user",
    example={
        "email": "ada@example.com",
        "full_name": "Ada Marsh",
        "role": "VIEWER",
        "password": "copper kettle by the harbour",
    },
)
async def register(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    password_hash: NamedDependency[str],
    data: JSONBody[NewUser],
) -> ApiResponse[UserOut]:
    """The same as `POST /api/v1/users`."""
    user = await users.register(write, who, data, password_hash)
    return created(user, f"/api/v1/users/{user.id}", version=1)


@get(
    f"{_BASE}/me",
    role=Role.VIEWER,
    scope=Keys.ANY,
    summary="Your profile",
    tags=_TAGS,
    operation_id="get_own_profile",
    responses={304: ResponseSpec(None, description="It is the one that `If-None-Match` names")},
    headers={200: ("ETag",)},
    without_second_factor=True,
)
async def me(
    read: NamedDependency[ReadSession], who: NamedDependency[Principal], request: Request[Principal, Credential, Any]
) -> ApiResponse[ProfileOut]:
    """The user whom the access token belongs to, as the database has them now. With an API key: whoever made it, and in
    `api_key` the key."""
    user, version = await queries.user(read, request.auth.user_id)
    fields = msgspec.structs.asdict(user)
    if who.key is None:
        return tagged(ProfileOut(**fields, api_key=None), version)
    key = await api_key(read, who.key.id)
    own = OwnKey(key.id, key.name, who.role, key.scopes, key.expires_at)
    return tagged(ProfileOut(**fields, api_key=own), f"{version}-{key.id}-{who.role}")


@put(
    f"{_BASE}/me/password",
    role=Role.VIEWER,
    scope=Keys.NONE,
    summary="Change your password",
    tags=_TAGS,
    problems=(errors.TooMany,),
    while_password_expired=True,
    without_second_factor=True,
)
async def change_password(
    request: Request[Principal, TokenClaims, Any],
    who: NamedDependency[Principal],
    login: NamedDependency[LoginContext],
    data: JSONBody[PasswordChange],
) -> ApiResponse[TokenPair]:
    """Needs the old password. Ends all your other sign-ins and every access token; the answer has new tokens for this
    sign-in.

    A wrong old password counts like a failed log-in."""
    return _uncached(await sessions.change_password(login, who, request.auth, data))


ROUTES = [login, refresh, logout, register, me, change_password]
