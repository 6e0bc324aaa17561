"""Writes at one server itself, inside its container, while the network around it is lost: they must not succeed."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from time import monotonic
from uuid import uuid4

from tests.containers.stack import CommandFailed, Service
from tests.failover.cluster import Cluster
from tests.support.waiting import eventually

DATABASE = "failover_probe"
"""Beside the service's, whose tables are not ours."""
_KILLED = 137
_HANGS_SECONDS = 2
_REFUSED_SECONDS = 180.0


class Probe:
    """Tries a write again and again. `acknowledged` are those that the server confirmed, by their ids."""

    def __init__(self, cluster: Cluster, service: Service) -> None:
        self.cluster, self.service = cluster, service
        self.began = monotonic()
        self.outcomes: Counter[str] = Counter()
        self.acknowledged: list[str] = []
        self.refused_after: float | None = None

    @property
    def tried(self) -> int:
        return self.outcomes.total()

    @contextlib.asynccontextmanager
    async def going_on(self) -> AsyncIterator["Probe"]:
        """Afterwards: AssertionError if a write was acknowledged."""
        trying = asyncio.create_task(self._try())
        try:
            yield self
        finally:
            trying.cancel()
            await asyncio.wait([trying])
        if not trying.cancelled() and (fault := trying.exception()) is not None:
            raise fault
        assert not self.acknowledged, f"{self.service}, which is alone, acknowledged {self.acknowledged}"

    async def hung(self) -> bool:
        """A write was made that nobody acknowledged: it is in this server's log, and in no other's."""
        return self.outcomes["hung"] > 0

    async def refused(self) -> None:
        """Wait until the server takes no writes any more."""

        async def look() -> bool:
            return self.refused_after is not None

        await eventually(look, seconds=_REFUSED_SECONDS)

    def told(self) -> str:
        counted = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.outcomes.items()))
        stopped = "" if self.refused_after is None else f", the first refused after {self.refused_after:.0f} s"
        return f"writes inside: {counted}{stopped}"

    async def _try(self) -> None:
        while True:
            id_ = uuid4().hex
            outcome = await self._write(id_)
            self.outcomes[outcome] += 1
            if outcome == "acknowledged":
                self.acknowledged.append(id_)
            elif outcome == "refused" and self.refused_after is None:
                self.refused_after = monotonic() - self.began
            await asyncio.sleep(0.5)

    async def _write(self, id_: str) -> str:
        """The client is killed while it waits, as one that gives up: what its session waits for goes on."""
        psql = (
            "psql", "-U", "postgres", "-d", DATABASE, "-v", "ON_ERROR_STOP=1", "-qAtc",
            f"insert into probes values ('{id_}')",
        )  # fmt: skip
        try:
            name = await self.cluster.one(self.service)
            await self.cluster.inside(name, "timeout", "--signal=KILL", str(_HANGS_SECONDS), *psql)
        except CommandFailed as failed:
            return "hung" if f": {_KILLED}\n" in str(failed) else "refused"
        return "acknowledged"


async def prepare(cluster: Cluster) -> None:
    await cluster.sql(f"create database {DATABASE}")
    leader = await cluster.leader()
    await cluster.sql_at(leader, "create table probes (id text primary key)", database=DATABASE)
