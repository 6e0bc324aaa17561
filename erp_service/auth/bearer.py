"""The middleware that turns `Authorization: Bearer`, or the signature of an address, into a Principal.

The framework's own takes tokens from cookies too, ignores the scheme and knows no leeway.
"""

from typing import Any, Protocol

import msgspec
from litestar.connection import ASGIConnection
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult

from erp_service import errors
from erp_service.access.principals import Authority, AuthorityCache, Principal
from erp_service.auth.problems import AddressRefused
from erp_service.auth.tokens import Tokens
from erp_service.observability import telemetry
from erp_service.web.dependencies import services_of

_MOST_BYTES = 4096


class Credential(Protocol):
    """What a request came with, once it is checked: a token's claims, or what a signed address says."""

    @property
    def user_id(self) -> int: ...
    @property
    def version(self) -> int: ...
    @property
    def expires_at(self) -> int: ...


class SignedUrlReader(Protocol):
    """Raises AddressRefused."""

    def read(self, signature: str, path: str) -> Credential: ...


class Access(msgspec.Struct, frozen=True):
    """What a request's credential is checked with."""

    tokens: Tokens
    authorities: AuthorityCache
    signed_urls: SignedUrlReader


class BearerAuth(AbstractAuthenticationMiddleware):
    """Raises errors.Unauthorized, or AddressRefused for a signature, unless it is good and its user active, with the
    version it was issued for."""

    async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
        access = services_of(connection.app).find(Access)
        credential, refused = _credential(connection, access)
        authority = await authority_of(access.authorities, credential)
        if authority is None:
            raise refused
        client = connection.client
        who = Principal(
            user_id=credential.user_id,
            role=authority.role,
            request_id=telemetry.request_id(connection.scope),
            address=client.host if client else None,
        )
        return AuthenticationResult(user=who, auth=credential)


async def authority_of(authorities: AuthorityCache, credential: Credential) -> Authority | None:
    """What its user may do at this moment; None once that is another than when it was issued, or nothing at all."""
    authority = await authorities.of(credential.user_id, at_least=credential.version)
    if authority is None or not authority.active or authority.version != credential.version:
        return None
    return authority


def _credential(connection: ASGIConnection[Any, Any, Any, Any], access: Access) -> tuple[Credential, errors.Refused]:
    """It, and what to say if its user's rights have changed. Where a signature counts and is there, it alone counts."""
    signature = connection.query_params.get("signature") if connection.route_handler.opt.get("signed") else None
    if signature is not None:
        changed = AddressRefused("The rights of the person that the address was made for have changed.")
        return access.signed_urls.read(signature, connection.scope["path"]), changed
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise errors.Unauthorized("Send `Authorization: Bearer <access token>`.")
    if len(token) > _MOST_BYTES:
        raise errors.Unauthorized("The access token is not valid.")
    return access.tokens.read(token.strip()), rights_changed()


def rights_changed() -> errors.Unauthorized:
    return errors.Unauthorized(
        "Your rights have changed since you signed in: sign in again, or use your refresh token.",
        headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
    )
