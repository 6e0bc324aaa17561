"""The sign-ins that were ended while their access tokens still had time to live: by log-out, by a refresh token that
was used twice, by a change of password. Notifications keep the list complete, so that no request looks them up."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from uuid import UUID

from erp_service.db.notifications import NotificationListener
from erp_service.settings import LONGEST_ACCESS_TOKEN_SECONDS

CHANNEL = "erp_revocations"
"""The channel of notifications that a sign-in has been ended. The payload is the UUID of its family of tokens."""

KEPT_SECONDS = LONGEST_ACCESS_TOKEN_SECONDS + 60.0
"""A token that was issued before lives at most so long, with the leeway for clocks that differ. It is not the present
setting: the token may be of a time when that was longer."""


class Revocations:
    """`load` gives the families that were revoked in the last so many seconds, oldest first, each with how many seconds
    ago; `look_up` says of one family whether it is revoked."""

    def __init__(
        self,
        notifications: NotificationListener,
        load: Callable[[float], Awaitable[Mapping[UUID, float]]],
        look_up: Callable[[UUID], Awaitable[bool]],
    ) -> None:
        self._notifications = notifications
        self._load = load
        self._look_up = look_up
        self._families: OrderedDict[UUID, float] = OrderedDict()  # with the time from which they need not be known
        self._gaps = 0
        self._complete = False
        self._loading = asyncio.Lock()
        notifications.subscribe(CHANNEL, self._on_revocation)

    async def has(self, family: UUID) -> bool:
        """Whether the sign-in was ended. Raises what the database raises, if it must look it up."""
        # revoking is for ever, so what is known needs no proof
        if family in self._families:
            return True
        if self._notifications.is_current and not self._complete:
            await self._load_all()
        if self._notifications.is_current and self._complete:
            return family in self._families
        return await self._look_up(family)

    def is_known(self, family: UUID) -> bool:
        """Whether this instance was told that the sign-in was ended. If it was not, that proves nothing."""
        return family in self._families

    def add(self, family: UUID, *, seconds_ago: float = 0) -> None:
        now = monotonic()
        self._families[family] = now + KEPT_SECONDS - seconds_ago
        while self._families and next(iter(self._families.values())) <= now:
            self._families.popitem(last=False)

    async def _load_all(self) -> None:
        async with self._loading:
            # of many that come at once, one loads
            if self._complete or not self._notifications.is_current:
                return
            gaps = self._gaps
            for family, seconds_ago in (await self._load(KEPT_SECONDS)).items():
                self.add(family, seconds_ago=seconds_ago)
            # race: after a gap during the load, a revocation may be neither in what was loaded nor notified
            self._complete = gaps == self._gaps

    def _on_revocation(self, payload: str | None) -> None:
        try:
            family = UUID(payload or "")
        except ValueError:
            self._gaps += 1
            self._complete = False
        else:
            self.add(family)
