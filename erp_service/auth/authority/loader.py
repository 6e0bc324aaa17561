"""Looks up what users and API keys may do, and whether sign-ins were ended, in batches: all look-ups that are requested
at the same time share one connection.

An instance that is not notified of changes needs a look-up for every request and for every open stream. With a
connection each, a thousand of them would take all connections that there are, just when the database has other
troubles."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar
from uuid import UUID

from erp_service.access.keys import KeyRights
from erp_service.access.principals import Authority
from erp_service.auth import queries
from erp_service.auth.api_keys import queries as key_queries
from erp_service.auth.login import families
from erp_service.db.sessions import ReadSession
from erp_service.errors import INTEGER_LIMIT

Reading = Callable[[], AbstractAsyncContextManager[ReadSession]]
"""Opens a session: `Database.read`, or `Database.authority_without_leader`."""

K = TypeVar("K")
V = TypeVar("V")


class Lookups(ABC, Generic[K, V]):
    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._pending: dict[K, asyncio.Future[V | None]] = {}
        self._lookups: asyncio.Task[None] | None = None

    @abstractmethod
    async def _read(self, db: ReadSession, keys: list[K]) -> Mapping[K, V]:
        """What each key stands for; one that stands for nothing is missing."""

    async def load(self, key: K) -> V | None:
        """What was read after this call began; None if there is no such thing.

        Raises what the database raises."""
        if key not in self._pending:
            self._pending[key] = asyncio.get_running_loop().create_future()
        if self._lookups is None:
            self._lookups = asyncio.create_task(self._look_up_pending(), name="look-ups")
        # a caller that gives up must not cancel the result that others wait for
        return await asyncio.shield(self._pending[key])

    async def _look_up_pending(self) -> None:
        try:
            while self._pending:
                # A caller that comes from here on may have seen a change that this query does not see: it gets the
                # next batch.
                batch, self._pending = self._pending, {}
                await self._look_up(batch)
        finally:
            self._lookups = None

    async def _look_up(self, batch: dict[K, asyncio.Future[V | None]]) -> None:
        try:
            async with self._reading() as db:
                values = await self._read(db, list(batch))
        except BaseException as exc:
            for future in batch.values():
                future.set_exception(exc if isinstance(exc, Exception) else ConnectionError("stopping"))
                # counts as retrieved: if every caller has given up, asyncio must not log it as lost
                future.exception()
            if not isinstance(exc, Exception):
                raise
        else:
            for key, future in batch.items():
                future.set_result(values.get(key))


class AuthorityLoader(Lookups[int, Authority]):
    """By the user's id."""

    async def load(self, key: int) -> Authority | None:
        # the column does not take a larger one, and the look-ups of all others in the batch would fail with it
        return await super().load(key) if 0 < key <= INTEGER_LIMIT else None

    async def _read(self, db: ReadSession, keys: list[int]) -> Mapping[int, Authority]:
        return await queries.authorities(db, keys)


class RevocationLoader(Lookups[UUID, bool]):
    """By the family of refresh tokens."""

    async def is_revoked(self, family: UUID) -> bool:
        return await self.load(family) is True

    async def recent(self, seconds: float) -> Mapping[UUID, float]:
        """As families.recently_revoked."""
        async with self._reading() as db:
            return await families.recently_revoked(db, seconds)

    async def _read(self, db: ReadSession, keys: list[UUID]) -> Mapping[UUID, bool]:
        return await families.revoked(db, keys)


class KeyLoader(Lookups[bytes, KeyRights]):
    """By the digest of the API key."""

    async def _read(self, db: ReadSession, keys: list[bytes]) -> Mapping[bytes, KeyRights]:
        return await key_queries.rights(db, keys)
