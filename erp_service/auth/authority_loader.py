"""Looks up what users may do, in batches: all look-ups that are requested at the same time share one connection.

An instance that is not notified of changes needs a look-up for every request and for every open stream. With a
connection each, a thousand of them would take all connections that there are, just when the database has other
troubles."""

import asyncio

from erp_service.access.principals import Authority
from erp_service.auth import queries
from erp_service.db.engine import Database


class AuthorityLoader:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._pending: dict[int, asyncio.Future[Authority | None]] = {}
        self._lookups: asyncio.Task[None] | None = None

    async def load(self, user_id: int) -> Authority | None:
        """The user's authority, read after this call began; None if there is no such user.

        Raises what the database raises."""
        if user_id not in self._pending:
            self._pending[user_id] = asyncio.get_running_loop().create_future()
        if self._lookups is None:
            self._lookups = asyncio.create_task(self._look_up_pending(), name="authorities")
        # a caller that gives up must not cancel the result that others wait for
        return await asyncio.shield(self._pending[user_id])

    async def _look_up_pending(self) -> None:
        try:
            while self._pending:
                # A caller that comes from here on may have seen a change that this query does not see: it gets the
                # next batch.
                batch, self._pending = self._pending, {}
                await self._look_up(batch)
        finally:
            self._lookups = None

    async def _look_up(self, batch: dict[int, asyncio.Future[Authority | None]]) -> None:
        try:
            async with self._database.read() as db:
                authorities = await queries.authorities(db, list(batch))
        except BaseException as exc:
            for future in batch.values():
                future.set_exception(exc if isinstance(exc, Exception) else ConnectionError("stopping"))
                # counts as retrieved: if every caller has given up, asyncio must not log it as lost
                future.exception()
            if not isinstance(exc, Exception):
                raise
        else:
            for user_id, future in batch.items():
                future.set_result(authorities.get(user_id))
