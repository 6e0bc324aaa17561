"""Who is calling, and the cache of authority that notices keep true."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable

import msgspec

from erp_service.access.roles import Role
from erp_service.db.notifications import NotificationListener

CHANNEL = "erp_authority"
"""Postgres notifies it, with the user's id, in the transaction that changes a role or an activation."""

_KEPT = 10_000


class Principal(msgspec.Struct, frozen=True):
    """Who acts, with what role, in which request. `user_id` is None for the system itself: a command, a worker."""

    user_id: int | None
    role: Role
    request_id: str | None = None
    address: str | None = None


class Authority(msgspec.Struct, frozen=True):
    """What a user may do at this moment. Tokens carry `version`; raising it ends all that were issued before."""

    user_id: int
    role: Role
    active: bool
    version: int


def system(name: str) -> Principal:
    """The service acting by itself, on behalf of nobody; `name` says which part of it, such as `erp import`."""
    return Principal(user_id=None, role=Role.SUPER_ADMIN, request_id=name)


class AuthorityCache:
    """Answers without a look-up while this instance is certain to hear of changes, and looks up otherwise."""

    def __init__(self, notices: NotificationListener, load: Callable[[int], Awaitable[Authority | None]]) -> None:
        self._notices = notices
        self._load = load
        self._known: OrderedDict[int, Authority | None] = OrderedDict()
        self._clock = 0
        notices.subscribe(CHANNEL, self._forget)

    async def of(self, user_id: int, *, at_least: int = 0) -> Authority | None:
        """`at_least` is the version in the caller's token: a token may outrun the notice that says why it is so new."""
        if self._notices.is_current and user_id in self._known:
            known = self._known[user_id]
            if known is None or known.version >= at_least:
                self._known.move_to_end(user_id)
                return known
        clock = self._clock
        found = await self._load(user_id)
        # what a notice said while we read is not overwritten by what we read
        if clock == self._clock:
            self._known[user_id] = found
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return found

    def _forget(self, payload: str | None) -> None:
        self._clock += 1
        if payload is None or not payload.isdecimal():
            self._known.clear()
        else:
            self._known.pop(int(payload), None)
