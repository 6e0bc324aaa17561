"""Three servers of one cluster: a primary with two streaming standbys, of which one must confirm each commit."""

import contextlib
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from erp_service.db.servers.addresses import parse
from erp_service.settings import Settings
from erp_service.standalone.postgres import Cluster
from tests.support.clusters import in_memory, send
from tests.support.databases import value_of
from tests.support.replication import replica_of
from tests.support.waiting import eventually


class Trio(NamedTuple):
    primary: Cluster
    standbys: tuple[Cluster, Cluster]
    database: str

    def settings(self, settings: Settings, *, knows_all: bool = True) -> Settings:
        """Of an instance that reads one of them, and knows that all may lead, or the primary alone."""
        every = (self.primary, *self.standbys)

        def url(role: str, target: str | None, servers: tuple[Cluster, ...]) -> str:
            hosts = [parse(server.owner_url(self.database)).hosts[0] for server in servers]
            address = parse(self.primary.owner_url(self.database))
            return msgspec.structs.replace(address, user=role, target=target).url(*hosts)

        return msgspec.structs.replace(
            settings,
            database_url=url("erp_api", None, every if knows_all else (self.primary,)),
            replica_url=url("erp_reader", "prefer-standby", every),
        )

    async def promote(self, standby: Cluster) -> None:
        """The others follow it."""
        await value_of(standby, "select pg_promote()")
        for other in self.standbys:
            if other is not standby:
                place = f"host={standby.socket_dir} port=5432 user=postgres"
                await value_of(other, f"alter system set primary_conninfo = '{place}'")
                await value_of(other, "select pg_reload_conf()")


@contextlib.asynccontextmanager
async def trio_from(cluster: Cluster, database: str) -> AsyncIterator[Trio]:
    """A copy of the cluster, which is not changed. The primary is the copy, promoted."""
    async with contextlib.AsyncExitStack() as stack:

        async def copy_of(server: Cluster) -> Cluster:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="erp-trio-", dir=in_memory()))
            return await stack.enter_async_context(replica_of(server, Path(directory)))

        primary = await copy_of(cluster)
        await value_of(primary, "select pg_promote()")
        standbys = await copy_of(primary), await copy_of(primary)
        await value_of(primary, "alter system set synchronous_standby_names = 'ANY 1 (*)'")
        await value_of(primary, "select pg_reload_conf()")

        async def confirmed() -> bool:
            count = "select count(*) from pg_stat_replication where sync_state = 'quorum'"
            return bool(await value_of(primary, count) == 2)

        await eventually(confirmed)
        yield Trio(primary, standbys, database)


def kill(server: Cluster) -> None:
    """Its host loses its power."""
    send(server, signal.SIGKILL)
