"""A primary and its standby, which the test promotes, as Patroni would."""

import asyncio
import contextlib
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pytest

from erp_service.db.servers.leaders import LEADERS
from erp_service.standalone.postgres import Cluster
from tests.support.clusters import in_memory, send
from tests.support.databases import as_owner, value_of
from tests.support.replication import replica_of
from tests.support.waiting import eventually


class Pair(NamedTuple):
    """`standby` follows `primary` until it is promoted."""

    primary: Cluster
    standby: Cluster

    def url(self, database: str, *, user: str = "erp_app") -> str:
        """An address with both hosts, the primary first."""
        hosts = ",".join(quote(str(cluster.socket_dir)) for cluster in self)
        return f"postgresql://{user}@/{database}?host={hosts}&port=5432"

    async def caught_up(self) -> None:
        """Returns once the standby has all that is committed by now."""
        written = await value_of(self.primary, "select pg_current_wal_lsn()::text")

        async def has_all() -> object:
            return await value_of(self.standby, f"select pg_last_wal_replay_lsn() >= '{written}'::pg_lsn")

        await eventually(has_all)

    async def part(self) -> None:
        """Ends the replication: what the primary commits from now on is lost when the standby is promoted."""
        await as_owner(self.standby, "alter system set primary_conninfo = ''", "select pg_reload_conf()")

        async def apart() -> object:
            return await value_of(self.standby, "select not exists (select from pg_stat_wal_receiver)")

        await eventually(apart)

    def kill(self) -> None:
        """The primary dies without a word to anybody but the kernel, which closes its connections."""
        send(self.primary, signal.SIGKILL)

    async def promote(self) -> None:
        """Returns when the standby leads."""
        assert await value_of(self.standby, "select pg_promote(true, 60)") is True


@contextlib.asynccontextmanager
async def pair_of(primary: Cluster) -> AsyncIterator[Pair]:
    """A new standby of the primary, which runs again in the end; and this process forgets which of them led."""
    with tempfile.TemporaryDirectory(prefix="erp-standby-", dir=in_memory()) as directory, forgetting():
        async with replica_of(primary, Path(directory)) as standby:
            try:
                yield Pair(primary, standby)
            finally:
                send(primary, signal.SIGCONT)
                await asyncio.to_thread(primary.start)


@contextlib.contextmanager
def forgetting() -> Iterator[None]:
    """Without it, other tests of this process could not use the primary again: it leads on an older timeline."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LEADERS, "_timelines", {})
        yield
