"""The middleware that turns `Authorization: Bearer`, or the signature of a signed URL, into a Principal, and refuses
whom the route is not for.

We do not use the framework's own: it also takes tokens from cookies, ignores the scheme and allows no leeway.
"""

from typing import Any

from litestar.connection import ASGIConnection
from litestar.types import ASGIApp, Receive, Scope, Send

from erp_service import errors
from erp_service.access.principals import SIGNED_ADDRESS, Actor, Authority, Principal
from erp_service.access.roles import Role
from erp_service.auth.credentials import Access, Credential, authority_of, refuse_unprepared, rights_changed
from erp_service.auth.problems import AddressRefused
from erp_service.observability import telemetry
from erp_service.web.dependencies import services_of
from erp_service.web.middleware import has_body

_LONGEST_TOKEN = 4096  # characters; ours have about 330


class BearerAuth:
    """Lets a request through if its credential is valid, its user is active, the user's authority is still the one that
    the credential was issued for, and their role includes the one that the route declares.

    Else raises errors.Unauthorized, AddressRefused for a signature, or errors.Forbidden. Raises
    errors.PasswordChangeRequired or errors.SecondFactorRequired for a user who must change the password or set up a
    second factor first, except where a route is declared for that."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        opt = scope["route_handler"].opt
        # the framework's own handlers, which answer OPTIONS, declare none
        least: Role | None = opt.get("role")
        if least is not None:
            who, scope["auth"] = await _principal(scope, opt)
            if not who.role.includes(least):
                raise errors.Forbidden(f"This needs the role {least} or a higher one; yours is {who.role}.")
            scope["user"] = who
        await self._app(scope, receive, send)


class StillSignedIn:
    """Checks the credential again once the body has come, which takes as long as the client likes.

    Else whoever expects to lose the account keeps a request open that lacks its last byte, such as one that creates
    another administrator, and sends that afterwards. Raises errors.Unauthorized, errors.PasswordChangeRequired,
    errors.SecondFactorRequired."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (credential := scope.get("auth")) is not None and has_body(scope):
            authorities = services_of(scope["litestar_app"]).find(Access).authorities
            authority = await authority_of(authorities, credential)
            if authority is None:
                raise rights_changed()
            _refuse_unprepared(authority, scope["route_handler"].opt)
        await self._app(scope, receive, send)


async def _principal(scope: Scope, opt: dict[str, Any]) -> tuple[Principal, Credential]:
    access = services_of(scope["litestar_app"]).find(Access)
    signature = _signature(scope) if opt.get("signed") else None
    if signature is None:
        credential: Credential = access.tokens.read(_token(scope))
    else:
        # a signature that is present is the only credential that counts
        credential = access.signed_urls.read(signature, scope["path"])
    authority = await authority_of(access.authorities, credential)
    if authority is None:
        if signature is None:
            raise rights_changed()
        raise AddressRefused("The user for whom the URL was signed has signed out, or their rights have changed.")
    _refuse_unprepared(authority, opt)
    client = scope["client"]
    who = Principal(
        user_id=credential.user_id,
        role=authority.role,
        request_id=telemetry.request_id(scope),
        address=client[0] if client else None,
        actor=None if signature is None else Actor(credential.user_id, SIGNED_ADDRESS),
    )
    return who, credential


def _refuse_unprepared(authority: Authority, opt: dict[str, Any]) -> None:
    refuse_unprepared(
        authority,
        while_password_expired=opt.get("while_password_expired", False),
        without_second_factor=opt.get("without_second_factor", False),
    )


def _signature(scope: Scope) -> str | None:
    """The `signature` of the query."""
    return ASGIConnection[Any, Any, Any, Any](scope).query_params.get("signature")


def _token(scope: Scope) -> str:
    """Raises errors.Unauthorized."""
    header = next((value for name, value in scope["headers"] if name == b"authorization"), b"").decode("latin-1")
    scheme, _, token = header.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise errors.Unauthorized("Send `Authorization: Bearer <access token>`.")
    if len(token) > _LONGEST_TOKEN:
        raise errors.Unauthorized("The access token is not valid.")
    return token
