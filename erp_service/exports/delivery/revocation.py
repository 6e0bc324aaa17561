"""A download ends when its reader loses the right to it: a slow one must not go on for an hour after that."""

import asyncio
from collections.abc import AsyncIterator
from time import monotonic

from erp_service.access.roles import Role
from erp_service.auth.credentials import Access, Credential, authority_of

EVERY = 0.5
"""Seconds between two checks, which the cache answers."""

_CHECK_SECONDS = 0.5


class RightsRevoked(Exception):
    """The reader of a file that is being sent may no longer read it."""


async def while_allowed(
    pieces: AsyncIterator[bytes], access: Access, credential: Credential, least: Role
) -> AsyncIterator[bytes]:
    """The pieces, for as long as the reader has the role `least`; raises RightsRevoked. The expiry of the token or the
    signed address does not end a download.

    While the rights cannot be checked, the download continues."""
    checked_at = monotonic()
    async for piece in pieces:
        if monotonic() - checked_at >= EVERY:
            if await _is_revoked(access, credential, least):
                raise RightsRevoked
            checked_at = monotonic()
        yield piece


async def _is_revoked(access: Access, credential: Credential, least: Role) -> bool:
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            authority = await authority_of(access, credential)
    # the database is unavailable, which shows in many kinds of errors
    except Exception:  # noqa: BLE001
        return False
    return authority is None or not authority.may(least)
