"""The credentials that requests come with, and whether they still count.

This module knows no web framework: workers load it too, with `services`."""

from typing import Protocol
from uuid import UUID

import msgspec

from erp_service import errors
from erp_service.access.principals import Authority, AuthorityCache
from erp_service.auth.tokens import Tokens


class Credential(Protocol):
    """What identifies the caller of a request, once it is verified: the claims of a token, or what a signature says.

    `family` is the sign-in that it belongs to; none for a signature of the version before. `version` is the user's
    authority version when it was issued; `expires_at` is in Unix time."""

    @property
    def user_id(self) -> int: ...
    @property
    def version(self) -> int: ...
    @property
    def family(self) -> UUID | None: ...
    @property
    def expires_at(self) -> int: ...


class SignedUrlReader(Protocol):
    """Verifies the signature of a URL. `read` raises AddressRefused."""

    def read(self, signature: str, path: str) -> Credential: ...


class Access(msgspec.Struct, frozen=True):
    """What the credentials of requests are verified with."""

    tokens: Tokens
    authorities: AuthorityCache
    signed_urls: SignedUrlReader


async def authority_of(authorities: AuthorityCache, credential: Credential) -> Authority | None:
    """What the user may do now. None if that has changed since the credential was issued, if the sign-in that it
    belongs to was ended, or if the user is not there or not active."""
    authority = await authorities.of(credential.user_id, at_least=credential.version)
    if authority is None or not authority.active or authority.version != credential.version:
        return None
    if credential.family is not None and await authorities.revocations.has(credential.family):
        return None
    return authority


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
