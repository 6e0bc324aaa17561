"""What users may do, looked up together: however many ask at once, one connection asks for all of them.

An instance that does not hear of changes looks up for every request and every open stream. Each by itself, a thousand
of them would take all connections there are, at the moment when the database has other troubles."""

import asyncio

from erp_service.access.principals import Authority
from erp_service.auth import queries
from erp_service.db.engine import Database


class AuthorityLoader:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[int, asyncio.Future[Authority | None]] = {}
        self._asking: asyncio.Task[None] | None = None

    async def of(self, user_id: int) -> Authority | None:
        """As it is after the call, never from before it. Raises what the database raises."""
        if user_id not in self._waiting:
            self._waiting[user_id] = asyncio.get_running_loop().create_future()
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask(), name="authorities")
        # whoever gives up waiting must not take the answer from the others
        return await asyncio.shield(self._waiting[user_id])

    async def _ask(self) -> None:
        try:
            while self._waiting:
                # who asks from here on may mean a change that this look-up does not see: they are of the next
                asked, self._waiting = self._waiting, {}
                await self._answer(asked)
        finally:
            self._asking = None

    async def _answer(self, asked: dict[int, asyncio.Future[Authority | None]]) -> None:
        try:
            async with self._database.read() as db:
                found = await queries.authorities(db, list(asked))
        except BaseException as exc:
            for future in asked.values():
                future.set_exception(exc if isinstance(exc, Exception) else ConnectionError("stopping"))
                # nobody may be left who wants it
                future.exception()
            if not isinstance(exc, Exception):
                raise
        else:
            for user_id, future in asked.items():
                future.set_result(found.get(user_id))
