"""The servers of ERP_REPLICA_URL, of which one is used at a time."""

import random
from asyncio import CancelledError, timeout
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from time import monotonic

import asyncpg

from erp_service.db.outages import DATABASE_ERRORS
from erp_service.db.pool import Pool
from erp_service.db.replicas import state
from erp_service.db.replicas.state import Row
from erp_service.db.servers.addresses import Host

LEARN_SECONDS = 2.0
CONNECT_SECONDS = 0.5
"""For a reader, who can read elsewhere."""


class Standby:
    """One server: `pool` is for what reads the data, `authority_pool`, which opens nothing before it is needed, for
    look-ups of what users may do, while no primary can be asked."""

    def __init__(self, host: Host, pool: Pool, authority_pool: Pool) -> None:
        self.host = host
        # what metrics are labelled with; a directory is no name
        self.name = host.name if host.name and not host.name.startswith("/") else "local"
        self._pool, self._authority_pool = pool, authority_pool
        self._connections: set[asyncpg.Connection] = set()

    @asynccontextmanager
    async def connection(
        self, *, authority: bool = False, seconds: float = CONNECT_SECONDS
    ) -> AsyncIterator[asyncpg.Connection]:
        """Raises TimeoutError if there is none within `seconds`."""
        pool = self._authority_pool if authority else self._pool
        async with AsyncExitStack() as stack:
            async with timeout(seconds):
                connection = await stack.enter_async_context(pool.connection())
            self._connections.add(connection)
            try:
                yield connection
            except (*DATABASE_ERRORS, CancelledError):
                # to end a statement in an orderly way would hang on a server that hangs
                connection.terminate()
                raise
            finally:
                self._connections.discard(connection)

    def end_reads(self) -> None:
        """Reads on it fail now, and are repeated elsewhere, instead of waiting for an answer that may not come."""
        for driver in list(self._connections):
            driver.terminate()

    def leave(self) -> None:
        """It is not used again."""
        self.end_reads()
        self._pool.abandon()
        self._authority_pool.abandon()

    async def close(self) -> None:
        await self._pool.close()
        await self._authority_pool.close()


class Standbys:
    """The servers, in an order of its own for each process: so the instances are spread over them."""

    def __init__(self, hosts: Sequence[Host], standby_of: Callable[[Host], Standby]) -> None:
        self.hosts = random.sample(hosts, len(hosts))
        self.standby_of = standby_of
        self.current = standby_of(self.hosts[0])
        self._timelines: dict[Host, int] = {}
        self._learned_at = float("-inf")

    def timeline_of(self, host: Host, shown: int) -> int:
        """The newest timeline that the server follows: the one that it shows now, or showed before. Once the primary is
        gone, only the control file shows it, which has the one of the last restart point, some minutes ago. No server
        goes back to an older one."""
        newest = max(shown, self._timelines.get(host, 0))
        self._timelines[host] = newest
        return newest

    async def learn(self, timeline: int, identity: Row) -> None:
        """Look at the other servers that were not seen to follow this timeline of the primary's; not more often than
        every LEARN_SECONDS, since each look opens connections."""
        others = [host for host in self.hosts if host != self.current.host and self._timelines.get(host, 0) < timeline]
        if not others or monotonic() - self._learned_at < LEARN_SECONDS:
            return
        self._learned_at = monotonic()
        for host in others:
            standby = self.standby_of(host)
            try:
                async with timeout(CONNECT_SECONDS), standby.connection() as connection:
                    row = await connection.fetchrow(state.ALONE)
                if not state.is_of_another(identity, row):
                    self.timeline_of(host, state.newest_timeline(row))
            except DATABASE_ERRORS:
                # it is away, and asked again
                continue
            finally:
                standby.leave()

    def after_current(self) -> Standby:
        """A server to use in place of the current one."""
        following = (self.hosts.index(self.current.host) + 1) % len(self.hosts)
        return self.standby_of(self.hosts[following])

    def use(self, standby: Standby) -> None:
        """Reads on the one that was used fail now."""
        self.current.leave()
        self.current = standby
