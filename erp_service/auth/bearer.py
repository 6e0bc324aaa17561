"""The middleware that turns `Authorization: Bearer`, with an access token or an API key, or the signature of a signed
URL, into a Principal, and refuses whom the route is not for.

We do not use the framework's own: it also takes tokens from cookies, ignores the scheme and allows no leeway.
"""

from typing import Any

from litestar.connection import ASGIConnection
from litestar.types import ASGIApp, Receive, Scope, Send

from erp_service import errors
from erp_service.access import key_format
from erp_service.access.principals import SIGNED_ADDRESS, Actor, Authority, KeyGrant, Principal
from erp_service.access.roles import Role
from erp_service.access.scopes import KeyAccess, Keys
from erp_service.auth.credentials import (
    Access,
    Credential,
    KeyCredential,
    authority_by_key,
    authority_of,
    key_refused,
    no_longer_valid,
    refuse_unprepared,
    rights_changed,
)
from erp_service.auth.problems import AddressRefused
from erp_service.db.outages import DATABASE_ONLY_ERRORS, is_unavailable
from erp_service.observability import telemetry
from erp_service.web.dependencies import services_of
from erp_service.web.middleware import has_body
from erp_service.web.request_limits.request import count_request

_ATTEMPTS = 3  # to look a caller up, while servers come and go
_LONGEST_TOKEN = 4096  # characters; ours have about 330


class BearerAuth:
    """Lets a request through if its credential is valid, its user is active, the user's authority is still the one that
    the credential was issued for, and their role includes the one that the route declares; with an API key, if it has
    the scope that the route declares, too.

    Else raises errors.Unauthorized, AddressRefused for a signature, errors.TooMany for a caller with too many requests,
    those that are forbidden too, errors.Forbidden, or for a key errors.NotForKeys, errors.KeyScopeMissing,
    errors.KeyNetworkRefused. Raises errors.PasswordChangeRequired or errors.SecondFactorRequired for a user who must
    change the password or set up a second factor first, except where a route is declared for that."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        opt = scope["route_handler"].opt
        # the framework's own handlers, which answer OPTIONS, declare none
        least: Role | None = opt.get("role")
        if least is not None:
            who, scope["auth"] = await _caller(scope, opt)
            await count_request(scope, who)
            if not who.role.includes(least):
                raise errors.Forbidden(f"This needs the role {least} or a higher one; yours is {who.role}.")
            if who.key is not None:
                who.require_scope(opt["scope"])
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
            authority = await authority_of(services_of(scope["litestar_app"]).find(Access), credential)
            if authority is None:
                raise no_longer_valid(credential)
            _refuse_unprepared(authority, scope["route_handler"].opt)
        await self._app(scope, receive, send)


async def _caller(scope: Scope, opt: dict[str, Any]) -> tuple[Principal, Credential]:
    """For routes `without_primary` also while no primary can be asked: see auth/authority/without_primary.py."""
    access = services_of(scope["litestar_app"]).find(Access)
    fault: Exception | None = None
    for _ in range(_ATTEMPTS):
        try:
            return await _principal(scope, opt, access)
        except DATABASE_ONLY_ERRORS as exc:
            if not opt.get("without_primary") or access.without_primary is None or not is_unavailable(exc):
                raise
        try:
            caller = await _principal(scope, opt, access.without_primary)
        except ConnectionError as exc:
            # the replica must not be asked, or the primary is there again, or was still there
            fault = exc
        else:
            telemetry.authority_alone.inc()
            return caller
    raise fault or AssertionError("no attempt")


async def _principal(scope: Scope, opt: dict[str, Any], access: Access) -> tuple[Principal, Credential]:
    signature = _signature(scope) if opt.get("signed") else None
    if signature is None:
        token = _token(scope)
        if token.startswith(key_format.PREFIX):
            return await _principal_by_key(scope, access, token, opt["scope"])
        credential: Credential = access.tokens.read(token)
    else:
        # a signature that is present is the only credential that counts
        credential = access.signed_urls.read(signature, scope["path"])
    authority = await authority_of(access, credential)
    if authority is None:
        if signature is None:
            raise rights_changed()
        raise AddressRefused("The user for whom the URL was signed has signed out, or their rights have changed.")
    _refuse_unprepared(authority, opt)
    who = Principal(
        user_id=credential.user_id,
        role=authority.role,
        request_id=telemetry.request_id(scope),
        address=_address(scope),
        actor=None if signature is None else Actor(credential.user_id, SIGNED_ADDRESS),
    )
    return who, credential


async def _principal_by_key(
    scope: Scope, access: Access, key: str, needed: KeyAccess
) -> tuple[Principal, KeyCredential]:
    # what is no key at all costs no look-up
    if not key_format.is_whole(key):
        raise key_refused()
    credential = await _credential_of(access, key_format.digest(key))
    rights = credential.rights
    authority = await authority_by_key(access, rights)
    if authority is None:
        raise key_refused()
    if needed is Keys.NONE:
        raise errors.NotForKeys
    address = _address(scope)
    if not rights.is_for(address):
        raise errors.KeyNetworkRefused(f"This request came from {address or 'no network address'}.")
    access.key_uses.note(rights.id)
    who = Principal(
        user_id=rights.user_id,
        role=authority.role,
        request_id=telemetry.request_id(scope),
        address=address,
        key=KeyGrant(rights.id, rights.scopes),
    )
    return who, credential


async def _credential_of(access: Access, digest: bytes) -> KeyCredential:
    """Raises errors.Unauthorized."""
    if (rights := await access.keys.of(digest)) is None:
        raise key_refused()
    return KeyCredential(digest, rights)


def _refuse_unprepared(authority: Authority, opt: dict[str, Any]) -> None:
    refuse_unprepared(
        authority,
        while_password_expired=opt.get("while_password_expired", False),
        without_second_factor=opt.get("without_second_factor", False),
    )


def _address(scope: Scope) -> str | None:
    """As a trusted proxy forwarded it, if there is one (processes/api.py)."""
    client = scope["client"]
    return client[0] if client else None


def _signature(scope: Scope) -> str | None:
    """The `signature` of the query."""
    return ASGIConnection[Any, Any, Any, Any](scope).query_params.get("signature")


def _token(scope: Scope) -> str:
    """Raises errors.Unauthorized."""
    header = next((value for name, value in scope["headers"] if name == b"authorization"), b"").decode("latin-1")
    scheme, _, token = header.partition(" ")
    # blanks around a value are no part of it (RFC 9110, 5.5), and other characters are
    token = token.strip(" \t")
    if scheme.lower() != "bearer" or not token:
        raise errors.Unauthorized("Send `Authorization: Bearer <access token or API key>`.")
    if len(token) > _LONGEST_TOKEN:
        raise errors.Unauthorized("The access token is not valid.")
    return token
