"""A primary and its standby, and what a failover does to them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from erp_service.db import migrate as schema
from erp_service.standalone import postgres
from erp_service.standalone.postgres import Cluster
from tests.support.databases import as_owner, value_of
from tests.support.replication import replica_of
from tests.support.waiting import eventually

DATABASE = "erp"
SLOT = "select pg_create_physical_replication_slot('erp_backup', true)"


class Pair(NamedTuple):
    """Two servers, of which the primary comes first in the address that has both."""

    primary: Cluster
    standby: Cluster

    @property
    def address(self) -> str:
        hosts = ",".join(quote(str(cluster.socket_dir)) for cluster in self)
        return f"postgresql://postgres@/{DATABASE}?host={hosts}&port=5432"

    async def caught_up(self) -> None:
        """Returns when the standby has all that the primary has written until now."""
        written = await value_of(self.primary, "select pg_current_wal_lsn() - '0/0'")
        behind = f"select pg_last_wal_replay_lsn() - '0/0' >= {written}"
        await eventually(lambda: value_of(self.standby, behind))

    async def part(self) -> None:
        """From now on the standby receives nothing, so what the primary writes is lost with it."""
        await as_owner(self.standby, "alter system set primary_conninfo = ''", "select pg_reload_conf()")
        await eventually(lambda: value_of(self.standby, "select not exists (select from pg_stat_wal_receiver)"))

    async def fail_over(self) -> None:
        """The primary dies, and the standby is promoted."""
        await asyncio.to_thread(self.primary.stop, "immediate")
        assert await value_of(self.standby, "select pg_promote()")


@contextlib.asynccontextmanager
async def running_pair(directory: Path) -> AsyncIterator[Pair]:
    directory.mkdir(mode=0o711)
    with postgres.running(directory / "one", fsync=False, max_connections=100) as primary:
        primary.create_database(DATABASE)
        await schema.migrate(primary.owner_url(DATABASE))
        async with replica_of(primary, directory / "two") as standby:
            yield Pair(primary, standby)
