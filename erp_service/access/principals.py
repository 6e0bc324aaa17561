"""Who makes a request, and a cache of what each user may do, which notifications keep up to date."""

import os
import pwd
import socket
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import msgspec

from erp_service import errors
from erp_service.access.revocations import Revocations
from erp_service.access.roles import Role
from erp_service.access.scopes import KeyAccess, Keys, Scope
from erp_service.db.notifications import NotificationListener

CHANNEL = "erp_authority"
"""The channel of notifications that a user may do more or less than before. The payload is the user's id."""

_MOST_USERS = 10_000


class Actor(msgspec.Struct, frozen=True):
    """Who acts if that is not simply the user of a Principal: another user, or what `name` says, or a user by the way
    that `name` says."""

    user_id: int | None
    name: str | None = None


SIGNED_ADDRESS = "signed address"
"""The name of an actor who showed no token, but an address that was signed for the user: whoever has it."""

SCHEDULE = "schedule"
"""The name of an actor for whom a worker acts at the time of a schedule."""


class KeyGrant(msgspec.Struct, frozen=True):
    """The API key that a request came with, in place of a token: its id and what it may be used for."""

    id: int
    scopes: frozenset[Scope]


class Principal(msgspec.Struct, frozen=True):
    """Whose rights a request has, and who makes it. `user_id` is None for the service itself: a command, a worker.

    `actor` is who acts on behalf of the user; None is the user in person."""

    user_id: int | None
    role: Role
    request_id: str | None = None
    address: str | None = None
    actor: Actor | None = None
    key: KeyGrant | None = None
    """The API key of the user that acts, if it is not the user in person: `role` is then the lesser of the two."""

    def has_scope(self, scope: KeyAccess) -> bool:
        """What a key was not made for, it may not do; people have no scopes, and roles alone limit them."""
        if self.key is None or scope is Keys.ANY:
            return True
        return scope in self.key.scopes

    def require_scope(self, scope: KeyAccess) -> None:
        """Raises errors.KeyScopeMissing, with the challenge of RFC 6750, 3.1."""
        if not self.has_scope(scope):
            challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
            headers = {"WWW-Authenticate": challenge}
            raise errors.KeyScopeMissing(f"This needs the scope {scope}.", headers=headers, scope=str(scope))


class Authority(msgspec.Struct, frozen=True):
    """What a user may do at this moment. Tokens carry `version`: raising it ends all tokens that were issued before.

    With `must_change_password`, nothing but changing it and signing out; with `needs_second_factor`, nothing but
    setting one up, reading their profile, changing the password and signing out."""

    user_id: int
    role: Role
    active: bool
    version: int
    must_change_password: bool = False
    needs_second_factor: bool = False

    def may(self, least: Role) -> bool:
        """Their role includes it, and nothing else has to be done first: for a reader of what is being sent."""
        return self.role.includes(least) and not (self.must_change_password or self.needs_second_factor)


def system(name: str) -> Principal:
    """The service itself, which acts for no user; `name` says which part of it, such as `erp import`."""
    return Principal(user_id=None, role=Role.SUPER_ADMIN, request_id=name, actor=Actor(None, name))


def command(name: str) -> Principal:
    """Whoever runs a command on a machine that has the database's address, such as `erp import`."""
    return msgspec.structs.replace(system(name), actor=Actor(None, f"command:{_account()}@{socket.gethostname()}"))


def _account() -> str:
    """By the kernel, since the environment says what its owner likes; the number of an account without a name."""
    number = os.getuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


class AuthorityCache:
    """Needs no look-up in the database while this instance is certain to be notified of changes."""

    def __init__(
        self,
        notifications: NotificationListener,
        load: Callable[[int], Awaitable[Authority | None]],
        revocations: Revocations,
    ) -> None:
        self.revocations = revocations
        self._notifications = notifications
        self._load = load
        self._known: OrderedDict[int, Authority | None] = OrderedDict()
        self._changes = 0
        notifications.subscribe(CHANNEL, self._forget)

    async def of(self, user_id: int, *, at_least: int = 0) -> Authority | None:
        """None for an id that no user has.

        `at_least` is the version in the caller's token. A new token may arrive before the notification of the change
        that it came with; what is cached is then too old. So may a request after the caller has set up the second
        factor that they need."""
        if self._notifications.is_current and user_id in self._known:
            known = self._known[user_id]
            if known is None or (known.version >= at_least and not known.needs_second_factor):
                self._known.move_to_end(user_id)
                return known
        changes = self._changes
        authority = await self._load(user_id)
        # race: a notification that came during the load may be about a change that the load did not see
        if changes == self._changes:
            self._known[user_id] = authority
            if len(self._known) > _MOST_USERS:
                self._known.popitem(last=False)
        return authority

    def _forget(self, payload: str | None) -> None:
        self._changes += 1
        if payload is None or not payload.isdecimal():
            self._known.clear()
        else:
            self._known.pop(int(payload), None)
