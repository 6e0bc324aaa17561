"""What each API key may be used for: a cache, which notifications keep up to date."""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

import msgspec

from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.db.notifications import NotificationListener

CHANNEL = "erp_api_keys"
"""The channel of notifications that a key was made or revoked. The payload is the key's id."""

_MOST_UNKNOWN = 1_000

Network = IPv4Network | IPv6Network


class KeyRights(msgspec.Struct, frozen=True):
    """A key that was not revoked; it may expire while it is known. `networks` None: from everywhere; `expires_at` is in
    Unix time, None: never."""

    id: int
    user_id: int
    """Who made it, and for whom it acts."""
    role: Role
    scopes: frozenset[Scope]
    networks: tuple[Network, ...] | None
    expires_at: float | None

    @property
    def has_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= time.time()

    def is_for(self, address: str | None) -> bool:
        """Whether it may be used from this network address."""
        if self.networks is None:
            return True
        try:
            ip = ip_address(address or "")
        except ValueError:
            return False
        if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        return any(ip in network for network in self.networks)


class KeyCache:
    """Needs no look-up in the database while this instance is certain to be notified of changes.

    `load` gives the rights of the key with a digest; None if there is none, or if it was revoked or has
    expired."""

    def __init__(
        self, notifications: NotificationListener, load: Callable[[bytes], Awaitable[KeyRights | None]]
    ) -> None:
        self._notifications = notifications
        self._load = load
        # as many as the company has keys
        self._known: dict[bytes, KeyRights] = {}
        # apart, since strangers decide how many there are: they must not push out the known ones
        self._unknown: OrderedDict[bytes, None] = OrderedDict()
        self._changes = 0
        notifications.subscribe(CHANNEL, self._forget)

    async def of(self, digest: bytes) -> KeyRights | None:
        """None for a key that was revoked, or never made. Raises what the database raises, if it must look it up."""
        if self._notifications.is_current:
            if (rights := self._known.get(digest)) is not None:
                return rights
            if digest in self._unknown:
                return None
        changes = self._changes
        rights = await self._load(digest)
        # race: a notification that came during the load may be about a change that the load did not see
        if changes == self._changes:
            self._keep(digest, rights)
        return rights

    def _keep(self, digest: bytes, rights: KeyRights | None) -> None:
        if rights is not None:
            self._known[digest] = rights
            return
        self._known.pop(digest, None)
        self._unknown[digest] = None
        if len(self._unknown) > _MOST_UNKNOWN:
            self._unknown.popitem(last=False)

    def _forget(self, _payload: str | None) -> None:
        # all of them: changes are rare, and the next look-up reads all that are needed at once
        self._changes += 1
        self._known.clear()
        self._unknown.clear()
