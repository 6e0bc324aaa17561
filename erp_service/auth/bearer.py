"""The middleware that turns `Authorization: Bearer`, or the signature of a signed URL, into a Principal.

We do not use the framework's own: it also takes tokens from cookies, ignores the scheme and allows no leeway.
"""

from typing import Any

from litestar.connection import ASGIConnection
from litestar.middleware import AbstractAuthenticationMiddleware, ASGIMiddleware, AuthenticationResult
from litestar.types import ASGIApp, Receive, Scope, Send

from erp_service import errors
from erp_service.access.principals import SIGNED_ADDRESS, Actor, Principal
from erp_service.auth.credentials import Access, Credential, authority_of, rights_changed
from erp_service.auth.problems import AddressRefused
from erp_service.observability import telemetry
from erp_service.web.dependencies import services_of
from erp_service.web.middleware import has_body

_LONGEST_TOKEN = 4096  # characters; ours have about 330


class BearerAuth(AbstractAuthenticationMiddleware):
    """Lets a request through if its credential is valid, its user is active, and the user's authority is still the one
    that the credential was issued for. Else raises errors.Unauthorized, or AddressRefused for a signature.

    Raises errors.PasswordChangeRequired for a user who must change the password first, except where a route is declared
    for that."""

    async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
        access = services_of(connection.app).find(Access)
        credential, refusal = _credential(connection, access)
        authority = await authority_of(access.authorities, credential)
        if authority is None:
            raise refusal
        if authority.must_change_password and not connection.route_handler.opt.get("while_password_expired"):
            raise errors.PasswordChangeRequired("PUT /api/v1/auth/me/password changes it, and answers with new tokens.")
        client = connection.client
        who = Principal(
            user_id=credential.user_id,
            role=authority.role,
            request_id=telemetry.request_id(connection.scope),
            address=client.host if client else None,
            actor=Actor(credential.user_id, SIGNED_ADDRESS) if _is_signed(connection) else None,
        )
        return AuthenticationResult(user=who, auth=credential)


class StillSignedIn(ASGIMiddleware):
    """Checks the credential again once the body has come, which takes as long as the client likes.

    Else whoever expects to lose the account keeps a request open that lacks its last byte, such as one that creates
    another administrator, and sends that afterwards. Raises errors.Unauthorized, errors.PasswordChangeRequired."""

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        if (credential := scope.get("auth")) is not None and has_body(scope):
            app = ASGIConnection[Any, Any, Any, Any](scope).app
            authorities = services_of(app).find(Access).authorities
            authority = await authority_of(authorities, credential)
            if authority is None:
                raise rights_changed()
            if authority.must_change_password and not scope["route_handler"].opt.get("while_password_expired"):
                raise errors.PasswordChangeRequired
        await next_app(scope, receive, send)


def _is_signed(connection: ASGIConnection[Any, Any, Any, Any]) -> bool:
    return bool(connection.route_handler.opt.get("signed")) and "signature" in connection.query_params


def _credential(connection: ASGIConnection[Any, Any, Any, Any], access: Access) -> tuple[Credential, errors.Refused]:
    """The credential, and the refusal to raise if the user's authority has changed since.

    On a route that takes signatures, a signature that is present is the only credential that counts."""
    if _is_signed(connection):
        signature = connection.query_params["signature"]
        changed = AddressRefused("The user for whom the URL was signed has signed out, or their rights have changed.")
        return access.signed_urls.read(signature, connection.scope["path"]), changed
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise errors.Unauthorized("Send `Authorization: Bearer <access token>`.")
    if len(token) > _LONGEST_TOKEN:
        raise errors.Unauthorized("The access token is not valid.")
    return access.tokens.read(token.strip()), rights_changed()
