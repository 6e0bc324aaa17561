"""Downloads end with the right to them: an hour of a slow one must not be an hour more for whoever lost the role."""

import asyncio
from collections.abc import AsyncIterator
from time import monotonic

from erp_service.access.principals import AuthorityCache
from erp_service.access.roles import Role
from erp_service.auth.credentials import Credential, authority_of

EVERY = 0.5
"""Seconds between two looks, which the cache answers."""

_LOOK_SECONDS = 0.5


class RightsGone(Exception):
    """The reader of what is just being sent may no longer have it."""


async def while_allowed(
    pieces: AsyncIterator[bytes], authorities: AuthorityCache, credential: Credential, least: Role
) -> AsyncIterator[bytes]:
    """The pieces, for as long as the reader has the rights they came with. Raises RightsGone; the time of the token or
    address may pass meanwhile.

    What was allowed goes on while nobody can say whether it still is."""
    looked_at = monotonic()
    async for piece in pieces:
        if monotonic() - looked_at >= EVERY:
            if await _is_gone(authorities, credential, least):
                raise RightsGone
            looked_at = monotonic()
        yield piece


async def _is_gone(authorities: AuthorityCache, credential: Credential, least: Role) -> bool:
    try:
        async with asyncio.timeout(_LOOK_SECONDS):
            authority = await authority_of(authorities, credential)
    # the database is away, in one of its many ways
    except Exception:  # noqa: BLE001
        return False
    return authority is None or not authority.role.includes(least)
