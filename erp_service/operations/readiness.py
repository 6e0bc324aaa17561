"""Whether this instance may be sent requests, and what ends open streams when it stops."""

import asyncio
from typing import Protocol

import msgspec

from erp_service import errors
from erp_service.db import revisions
from erp_service.db.engine import Database
from erp_service.db.outages import DATABASE_ERRORS
from erp_service.db.sessions import ReadSession
from erp_service.settings import Settings


class Check(Protocol):
    """One more thing an instance needs before it may be asked: why it is not ready, or None."""

    async def __call__(self, db: ReadSession) -> str | None: ...


class ProbeDatabase(Database):
    """Connections of their own for readiness and metrics, which must not wait until a busy instance has one."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(msgspec.structs.replace(settings, pool_size=2, replica_url=None), name="erp probes")


class Readiness:
    """What the load balancer is told, and what ends open streams when the instance stops."""

    def __init__(self, database: Database, checks: list[Check]) -> None:
        """`database` is not that of requests: an instance that has all its connections in use is busy, and a balancer
        that took it out would have the others as busy next."""
        self._database = database
        self.checks = [revisions.behind, *checks]
        self.draining = False
        self.stopping = asyncio.Event()
        self._looking: asyncio.Task[str | None] | None = None

    async def fault(self) -> str | None:
        """Why not, or None. However many ask at once, one looks."""
        if self.draining:
            return "This instance is stopping."
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(), name="readiness")
        # who asked first may go, and the others have their answer
        return await asyncio.shield(self._looking)

    async def _look(self) -> str | None:
        try:
            async with asyncio.timeout(3), self._database.read() as db:
                for check in self.checks:
                    if (fault := await check(db)) is not None:
                        return fault
        except DATABASE_ERRORS:
            return "The database does not answer."
        return None


class NotReady(errors.Refused):
    """This instance must not be sent requests now; others may answer. `detail` says why.

    It is starting, draining, without a database, has a database behind its migrations, or an export store that is
    not the one the database knows."""

    status, slug, title = 503, "not-ready", "This instance is not ready"
