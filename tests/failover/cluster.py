"""The stack with the profile `ha`: three servers under Patroni, three of etcd, and what each says of itself."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx
from msgspec import Struct

from tests.containers.silence import address, addresses, name_servers
from tests.containers.stack import CommandFailed, Service, Stack
from tests.support.waiting import eventually

DATABASES: tuple[Service, ...] = ("db1", "db2", "db3")
ETCD: tuple[Service, ...] = ("etcd1", "etcd2", "etcd3")
"""In an operator's racks, each of them is on the host of the server with its number."""
PATRONI_PORT = 8008
ETCD_PORT = 2379
ANSWER_SECONDS = 3.0
LOOK_SECONDS = 1.0

T = TypeVar("T")


class Member(Struct, frozen=True):
    """As Patroni lists it (`GET /cluster`)."""

    name: str
    role: str
    state: str
    timeline: int = 0
    lag: int | str = 0


class NoLeader(Exception):
    """No server that takes writes was found."""


class Cluster(Stack):
    def __init__(self, image: str, directory: Path, *, project: str, front_subnet: str) -> None:
        super().__init__(image, directory, project=project, front_subnet=front_subnet)
        self.env |= {
            "COMPOSE_PROFILES": "ha,backup",
            "ERP_BACKUP_WAL_SECONDS": "1",
            "ERP_DB": "0",
            "ERP_PATRONI_IMAGE": os.environ["ERP_TEST_PATRONI_IMAGE"],
            "ERP_REPLICA_URL_FILE": "/run/secrets/replica_url",
        }

    async def one(self, service: Service) -> str:
        """The name of its container, whether it runs or not."""
        (name,) = await self.containers(service, running=False)
        return name

    async def host_of(self, database: Service) -> list[str]:
        """The addresses of a server and of the etcd beside it, in all their networks."""
        return [
            *await addresses(self, await self.one(database)),
            *await addresses(self, await self.one(etcd_of(database))),
        ]

    async def name_servers(self) -> set[str]:
        containers = [await self.one("db1"), await self.one("etcd1"), *await self.containers("api")]
        return {one for container in containers for one in await name_servers(self, container)}

    async def members(self) -> Sequence[Member]:
        """As the first server says that answers; empty if none does."""
        for service in DATABASES:
            told = await self._told(service, "/cluster")
            if told is not None:
                return [Member(**{name: one[name] for name in Member.__struct_fields__ if name in one})
                        for one in told["members"]]  # fmt: skip
        return []

    async def leader(self) -> Service:
        """The server that takes writes, as it says itself: for a moment after a failover, Patroni's list may name one
        that is still in recovery (patroni/patroni#2972). Raises NoLeader."""
        for service in DATABASES:
            told = await self._told(service, "/primary")
            if told is not None and await self.takes_writes(service):
                return service
        raise NoLeader

    async def standbys(self) -> list[Service]:
        """Those that acknowledge synchronously first."""
        leader = await self.leader()
        roles = {member.name: member.role for member in await self.members()}
        others = [service for service in DATABASES if service != leader]
        return sorted(others, key=lambda service: not _acknowledging(roles.get(service, "")))

    async def takes_writes(self, service: Service) -> bool:
        with contextlib.suppress(CommandFailed):
            return await self.sql_at(service, "select pg_is_in_recovery()") == "f"
        return False

    async def sql(self, statement: str) -> str:
        return await self.sql_at(await self.leader(), statement)

    async def sql_at(self, service: Service, statement: str, *, database: str = "erp") -> str:
        """Over the socket of the server's container, whatever its network does. Raises CommandFailed, also if there is
        no answer within a minute."""
        psql = ("psql", "-U", "postgres", "-d", database, "-v", "ON_ERROR_STOP=1", "-Atc", statement)
        return (await self.inside(await self.one(service), "timeout", "60", *psql)).strip()

    async def until(self, look: Callable[[], Awaitable[T]], *, seconds: float) -> T:
        """As `eventually`, but with a look each second: it starts processes, and the machine has clients to serve."""

        async def slowly() -> T:
            seen = await look()
            await asyncio.sleep(0 if seen else LOOK_SECONDS)
            return seen

        return await eventually(slowly, seconds=seconds)

    async def whole(self) -> bool:
        """All servers are there, follow one leader on its timeline, one acknowledges synchronously, each of etcd is
        healthy, and every instance is ready."""
        members = await self.members()
        roles = sorted(member.role for member in members)
        states = {member.state for member in members if member.role != "leader"}
        if len(members) != len(DATABASES) or roles[0] != "leader" or states != {"streaming"}:
            return False
        if not _acknowledging(*roles) or len({member.timeline for member in members}) != 1:
            return False
        if not all([await self._etcd_is_healthy(service) for service in ETCD]):
            return False
        with contextlib.suppress(NoLeader, CommandFailed):
            await self.leader()
            return all([await self._is_ready(name) for name in await self.containers("api")])
        return False

    async def _is_ready(self, api: str) -> bool:
        told = await _json(await address(self, api, "front"), 8000, "/health/ready")
        return told is not None

    async def _etcd_is_healthy(self, service: Service) -> bool:
        told = await _json(await address(self, await self.one(service), "etcd"), ETCD_PORT, "/health")
        return told is not None and told["health"] == "true"

    async def _told(self, service: Service, path: str) -> dict[str, Any] | None:
        return await _json(await address(self, await self.one(service), "back"), PATRONI_PORT, path)

    async def switch_over(self, leader: Service, candidate: Service) -> None:
        """As an operator does it."""
        words = ("switchover", "--leader", leader, "--candidate", candidate, "--force")
        await self.inside(await self.one(leader), "patronictl", *words)

    async def kill_postmaster(self, service: Service) -> None:
        """SIGKILL, as the kernel does it when memory is short."""
        # the first line of the lock of the server's socket is its process id
        await self.inside(await self.one(service), "sh", "-c", "kill -9 $(head -1 /tmp/.s.PGSQL.5432.lock)")

    async def stopped(self, *services: Service) -> None:
        """As if its host had lost its power, and it stays away until it is started."""
        names = [await self.one(service) for service in services]
        await self.run("podman", "kill", "--signal", "KILL", *names)

    async def started(self, *services: Service) -> None:
        await self.run("podman", "start", *[await self.one(service) for service in services])

    @contextlib.asynccontextmanager
    async def away(self, *services: Service) -> AsyncIterator[None]:
        await self.stopped(*services)
        try:
            yield
        finally:
            await self.started(*services)


def _acknowledging(*roles: str) -> bool:
    return any(role in ("sync_standby", "quorum_standby") for role in roles)


def etcd_of(database: Service) -> Service:
    """The one on its host."""
    return ETCD[DATABASES.index(database)]


async def _json(host: str, port: int, path: str) -> dict[str, Any] | None:
    """What was answered with 200; None otherwise. `host` is empty if its container does not run."""
    if not host:
        return None
    with contextlib.suppress(httpx.TransportError, asyncio.TimeoutError):
        async with httpx.AsyncClient(timeout=ANSWER_SECONDS) as client:
            answer = await client.get(f"http://{host}:{port}{path}")
            if answer.status_code == 200:
                told: dict[str, Any] = answer.json()
                return told
    return None
