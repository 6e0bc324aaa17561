"""/console/session: the sign-in of the console. The same as at /api/v1/auth, by the same functions and limits, but the
refresh token is in a cookie that no script can read and that no other address gets."""

import re
from typing import Any

from litestar import Request
from litestar.di import NamedDependency

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.access.scopes import Keys
from erp_service.auth import login_form, sessions
from erp_service.auth.login.context import LoginContext
from erp_service.auth.problems import RefreshRefused
from erp_service.auth.schemas import TokenPair
from erp_service.auth.tokens import TokenClaims
from erp_service.console import cookie
from erp_service.console.origin import require_own
from erp_service.console.schemas import ConsoleToken
from erp_service.errors import Fault
from erp_service.settings import Settings
from erp_service.web.dependencies import anonymous
from erp_service.web.responses import ApiResponse
from erp_service.web.routing import PUBLIC, delete, post

_RANDOM_KEY = re.compile(r"[0-9a-f]{32}", re.ASCII)


def _signed_in(settings: Settings, pair: TokenPair) -> ApiResponse[ConsoleToken]:
    headers = {"Set-Cookie": cookie.written(settings, pair.refresh_token), "Cache-Control": "no-store"}
    return ApiResponse(ConsoleToken(pair.access_token, pair.expires_in), headers=headers)


@post(cookie.PATH, role=PUBLIC, scope=Keys.NONE, status_code=200, include_in_schema=False)
async def open_session(
    request: Request[Any, Any, Any], settings: NamedDependency[Settings], login: NamedDependency[LoginContext]
) -> ApiResponse[ConsoleToken]:
    """Takes the form of `POST /api/v1/auth/login`, and refuses what that refuses."""
    require_own(request.headers, settings.public_url)
    credentials = await login_form.read_credentials(request)
    pair = await sessions.sign_in(login, anonymous(request), credentials, request.headers.get("user-agent"))
    return _signed_in(settings, pair)


@post(f"{cookie.PATH}/refresh", role=PUBLIC, scope=Keys.NONE, status_code=200, include_in_schema=False)
async def refresh_session(
    request: Request[Any, Any, Any], settings: NamedDependency[Settings], login: NamedDependency[LoginContext]
) -> ApiResponse[ConsoleToken] | ApiResponse[None]:
    """Takes no body. 204 if there is no cookie: nobody is signed in, and nothing is wrong.

    The token in the cookie works once: the page sees to it that of two tabs one asks at a time. If an answer is lost,
    the page asks again with the same `Idempotency-Key`, and gets a new token. The key must be random."""
    require_own(request.headers, settings.public_url)
    key = request.headers.get("idempotency-key")
    if key is not None and not _RANDOM_KEY.fullmatch(key):
        raise errors.Invalid(None, Fault("must be 32 hexadecimal digits", parameter="Idempotency-Key"))
    token = request.cookies.get(cookie.name(settings))
    if not token:
        return ApiResponse(None, status_code=204)
    try:
        return _signed_in(settings, await sessions.refresh(login, anonymous(request), token, key))
    except RefreshRefused as refusal:
        refusal.headers["Set-Cookie"] = cookie.removed(settings)
        raise


@delete(
    cookie.PATH,
    role=Role.VIEWER,
    scope=Keys.NONE,
    status_code=204,
    include_in_schema=False,
    while_password_expired=True,
    without_second_factor=True,
)
async def close_session(
    request: Request[Principal, TokenClaims, Any],
    settings: NamedDependency[Settings],
    who: NamedDependency[Principal],
    login: NamedDependency[LoginContext],
) -> ApiResponse[None]:
    """Ends the sign-in of the access token on every instance, as `POST /api/v1/auth/logout` does."""
    require_own(request.headers, settings.public_url)
    await sessions.sign_out(login, who, request.auth)
    return ApiResponse(None, status_code=204, headers={"Set-Cookie": cookie.removed(settings)})


ROUTES = [open_session, refresh_session, close_session]
