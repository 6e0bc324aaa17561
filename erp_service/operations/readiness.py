"""Whether a load balancer may send requests to this instance, and the signal that ends open streams when it stops.

While no primary can be reached an instance is not ready, although it answers reports
(auth/authority/without_primary.py). It cannot know whether others reach one, and if they do, they should get the
requests. A balancer that finds no instance ready must therefore ask any: HAProxy does here (backend `anyone`), and
nginx asks no instance whether it is ready. A Service of Kubernetes sends nothing to pods that are not ready, even if
none is, so its probe asks `may_read`: of the two, that all reports fail in each failover is worse than that a pod which
alone lost the primary refuses its share of writes, with `Retry-After`, for ERP_READ_WITHOUT_PRIMARY_SECONDS at most."""

import asyncio
from collections.abc import Callable
from typing import Protocol

import msgspec

from erp_service import errors
from erp_service.db import revisions
from erp_service.db.engine import Database
from erp_service.db.outages import DATABASE_ERRORS
from erp_service.db.sessions import ReadSession
from erp_service.settings import Settings

NO_DATABASE = "The database does not answer."


class Check(Protocol):
    """One condition that an instance needs before it can answer requests. Returns why it is not met, or None."""

    async def __call__(self, db: ReadSession) -> str | None: ...


class ProbeDatabase(Database):
    """The two connections of readiness and metrics, which must not wait for one that a request gives back."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(msgspec.structs.replace(settings, pool_size=2, replica_url=None), name="erp probes")


class Readiness:
    """The state of this instance. `draining` makes it unready; `stopping` ends open streams, when the drain is over."""

    def __init__(
        self, database: Database, checks: list[Check], may_be_read_alone: Callable[[], bool] = lambda: False
    ) -> None:
        """`database` has connections of its own: an instance whose requests use all of theirs is busy, not unready. A
        balancer that took it out would make the others as busy. `may_be_read_alone` says whether reports are answered
        although no primary can be reached."""
        self._database, self._may_be_read_alone = database, may_be_read_alone
        self.checks = [revisions.behind, *checks]
        self.draining = False
        self.stopping = asyncio.Event()
        self._run: asyncio.Task[str | None] | None = None

    async def fault(self) -> str | None:
        """Why this instance is not ready, or None. Calls at the same time share one run of the checks."""
        if self.draining:
            return "This instance is stopping."
        if self._run is None or self._run.done():
            self._run = asyncio.create_task(self._run_checks(), name="readiness")
        # a caller that is cancelled, even the first, must not cancel the run that others wait for
        return await asyncio.shield(self._run)

    def may_read(self, fault: str) -> bool:
        """Whether an instance that is not ready because of `fault` answers reports nevertheless."""
        return fault == NO_DATABASE and not self.draining and self._may_be_read_alone()

    async def _run_checks(self) -> str | None:
        try:
            async with asyncio.timeout(3), self._database.read() as db:
                for check in self.checks:
                    if (fault := await check(db)) is not None:
                        return fault
        except DATABASE_ERRORS:
            return NO_DATABASE
        return None


class NotReady(errors.Refused):
    """This instance must not get requests now; other instances may answer. `detail` says why.

    It is starting or draining, its database is unavailable or lacks migrations, or its export store is not the one that
    the database knows."""

    status, slug, title = 503, "not-ready", "This instance is not ready"
    extension = errors.RetryLater
