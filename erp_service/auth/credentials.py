"""The credentials that requests come with, and whether they still count.

This module knows no web framework: workers load it too, with `services`."""

import math
from typing import Protocol
from uuid import UUID

import msgspec

from erp_service import errors
from erp_service.access.keys import KeyCache, KeyRights
from erp_service.access.principals import Authority, AuthorityCache
from erp_service.auth.api_keys.uses import KeyUses
from erp_service.auth.tokens import Tokens


class Credential(Protocol):
    """What identifies the caller of a request, once it is verified: the claims of a token, or what a signature says.

    `family` is the sign-in that it belongs to; none for an API key, and for a signature of the version before.
    `version` is the user's authority version when it was issued; `expires_at` is in Unix time."""

    @property
    def user_id(self) -> int: ...
    @property
    def version(self) -> int: ...
    @property
    def family(self) -> UUID | None: ...
    @property
    def expires_at(self) -> float: ...


class KeyCredential(msgspec.Struct, frozen=True):
    """An API key, once it is known: its digest, and what it may be used for."""

    digest: bytes
    rights: KeyRights

    @property
    def user_id(self) -> int:
        return self.rights.user_id

    @property
    def version(self) -> int:
        """None of its own: it follows whatever its maker may do."""
        return 0

    @property
    def family(self) -> None:
        return None

    @property
    def expires_at(self) -> float:
        return math.inf if self.rights.expires_at is None else self.rights.expires_at


class SignedUrlReader(Protocol):
    """Verifies the signature of a URL. `read` raises AddressRefused."""

    def read(self, signature: str, path: str) -> Credential: ...


class Access(msgspec.Struct, frozen=True):
    """What the credentials of requests are verified with."""

    tokens: Tokens
    keys: KeyCache
    key_uses: KeyUses
    authorities: AuthorityCache
    signed_urls: SignedUrlReader
    without_primary: "Access | None" = None
    """The same while no primary can be reached, for what only reads; None without a replica."""


async def authority_of(access: Access, credential: Credential) -> Authority | None:
    """What the credential lets its bearer do now. None if that has changed since it was issued, if the sign-in that it
    belongs to was ended, if it is an API key that was revoked, or if the user is not there or not active.

    The expiry of a token or a signed address is not looked at again, that of an API key is."""
    if isinstance(credential, KeyCredential):
        rights = await access.keys.of(credential.digest)
        return None if rights is None else await authority_by_key(access, rights)
    authorities = access.authorities
    authority = await authorities.of(credential.user_id, at_least=credential.version)
    if authority is None or not authority.active or authority.version != credential.version:
        return None
    if credential.family is not None and await authorities.revocations.has(credential.family):
        return None
    return authority


async def authority_by_key(access: Access, rights: KeyRights) -> Authority | None:
    """What its maker may do now, with the role of the key at most; None if the key has expired or its maker is not
    active.

    A password that its maker must change does not stop the key: nobody else knows the key by it."""
    authority = None if rights.has_expired else await access.authorities.of(rights.user_id)
    if authority is None or not authority.active:
        return None
    role = rights.role.at_most(authority.role)
    return Authority(authority.user_id, role, active=True, version=authority.version)


def no_longer_valid(credential: Credential) -> errors.Unauthorized:
    """For a credential that was valid when the request came."""
    return key_refused() if isinstance(credential, KeyCredential) else rights_changed()


def refuse_unprepared(authority: Authority, *, while_password_expired: bool, without_second_factor: bool) -> None:
    """For a user who must do something else first, unless the request is of the kinds that may come before it.

    Raises errors.PasswordChangeRequired, errors.SecondFactorRequired."""
    if authority.must_change_password and not while_password_expired:
        raise errors.PasswordChangeRequired("PUT /api/v1/auth/me/password changes it, and answers with new tokens.")
    if authority.needs_second_factor and not without_second_factor:
        raise errors.SecondFactorRequired("POST /api/v1/auth/me/totp begins, with your password.")


def rights_changed() -> errors.Unauthorized:
    return errors.Unauthorized(
        "This sign-in was ended, or your rights have changed since: sign in again, or use your refresh token.",
        headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
    )


def key_refused() -> errors.Unauthorized:
    # one text for all reasons: who found an old key somewhere must not learn that it was one
    return errors.Unauthorized(
        "The API key is not valid: it is unknown, was revoked or has expired, or whoever made it is not active.",
        headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
    )
