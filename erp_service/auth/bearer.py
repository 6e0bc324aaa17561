"""The middleware that turns `Authorization: Bearer` into a Principal.

The framework's own takes tokens from cookies too, ignores the scheme and knows no leeway.
"""

from typing import Any

from litestar.connection import ASGIConnection
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult

from erp_service import errors, telemetry
from erp_service.auth.tokens import Tokens
from erp_service.principals import Authorities, Principal

_MOST_BYTES = 4096


class BearerAuth(AbstractAuthenticationMiddleware):
    """Raises errors.Unauthorized unless the token is good and its user active, with the version it was issued for."""

    async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise errors.Unauthorized("Send `Authorization: Bearer <access token>`.")
        if len(token) > _MOST_BYTES:
            raise errors.Unauthorized("The access token is not valid.")
        tokens: Tokens = connection.app.state.tokens
        authorities: Authorities = connection.app.state.authorities
        claims = tokens.read(token.strip())
        authority = await authorities.of(claims.user_id, at_least=claims.version)
        if authority is None or not authority.active or authority.version != claims.version:
            raise errors.Unauthorized(
                "Your rights have changed since you signed in: sign in again, or use your refresh token.",
                headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
            )
        client = connection.client
        who = Principal(
            user_id=claims.user_id,
            role=authority.role,
            request_id=telemetry.request_id(connection.scope),
            address=client.host if client else None,
        )
        return AuthenticationResult(user=who, auth=claims)
