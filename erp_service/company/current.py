"""The company's settings as an instance keeps them: no look-up per request, and never older than a second."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TypeVar

from erp_service.company.settings import CompanySettings, company_settings
from erp_service.db.engine import Database
from erp_service.db.notifications import NotificationListener
from erp_service.db.outages import DATABASE_ERRORS
from erp_service.registry.services import ServiceSet

CHANNEL = "erp_settings"
"""The channel of notifications that a setting was changed, by a trigger (migration 0027)."""

HOLDS_UNHEARD = 0.5
"""For so many seconds settings count that were read while this instance cannot be sure that it is notified."""

START_SECONDS = 1.0

T = TypeVar("T")


class CurrentSettings:
    """Looked up when first needed, and again after each notification, or twice a second while none may come."""

    def __init__(self, notifications: NotificationListener, database: Database) -> None:
        self._notifications = notifications
        self._database = database
        self._latest = CompanySettings()
        self._latest_of = -1
        self._read_at: float | None = None
        self._changes = 0
        self._look_up: asyncio.Task[CompanySettings] | None = None
        notifications.subscribe(CHANNEL, self._forget)

    async def now(self) -> CompanySettings:
        """Raises what the database raises. It may need a connection, so whoever has a transaction reads
        `company_settings` in it instead."""
        if self._is_known():
            return self._latest
        # a caller that gives up must not cancel the result that others wait for
        return await asyncio.shield(self._looking_up())

    def soon(self) -> CompanySettings | None:
        """What was read last, with no wait; None if nothing was read yet. If it may have changed it is read, for the
        calls that follow: enough for what only shapes, such as limits of requests, which must not wait for a database
        that is away."""
        if not self._is_known():
            self._looking_up()
        return self._latest if self._latest_of >= 0 else None

    async def prepare(self, *, patience: float = START_SECONDS) -> None:
        """Read them, so that `soon` knows them from the first request on. An instance starts without a database, too:
        after `patience` seconds, or an error, `soon` goes on trying."""
        with contextlib.suppress(*DATABASE_ERRORS):
            async with asyncio.timeout(patience):
                await self.now()

    @property
    def latest(self) -> CompanySettings:
        """What was read last, with no look-up: for a handler with a transaction whose guard has just called `now`."""
        return self._latest

    def _looking_up(self) -> "asyncio.Task[CompanySettings]":
        if self._look_up is None:
            self._look_up = asyncio.create_task(self._read(), name="settings")
            self._look_up.add_done_callback(_retrieved)
        return self._look_up

    def _is_known(self) -> bool:
        if self._read_at is None:
            return False
        return self._notifications.is_current or monotonic() - self._read_at < HOLDS_UNHEARD

    async def _read(self) -> CompanySettings:
        changes, began = self._changes, monotonic()
        try:
            settings = await company_settings(self._database.reader)
        finally:
            if changes == self._changes:
                self._look_up = None
        # two look-ups may overtake each other
        if changes >= self._latest_of:
            self._latest, self._latest_of = settings, changes
        # race: a notification that came during the look-up may be about a change that it did not see
        if changes == self._changes:
            self._read_at = began
        return settings

    def _forget(self, _payload: str | None) -> None:
        self._changes += 1
        # who comes from here on must not get what was read before
        self._read_at = self._look_up = None


def _retrieved(look_up: "asyncio.Task[CompanySettings]") -> None:
    """If every caller has given up, asyncio must not log its error as lost."""
    with contextlib.suppress(asyncio.CancelledError):
        look_up.exception()


def setting(choose: Callable[[CompanySettings], T]) -> Callable[[ServiceSet], Awaitable[T]]:
    """One setting as it is now, for whoever has the services of an instance."""

    async def now(services: ServiceSet) -> T:
        return choose(await services.find(CurrentSettings).now())

    return now
