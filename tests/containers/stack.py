"""The stack of compose.yaml in podman, as an operator handles it: the same commands, nothing from inside."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from time import monotonic
from typing import Any, Literal

import httpx

from tests.acceptance.instances import free_port

ROOT = Path(__file__).parents[2]
PROJECT = "erptest"
OWNER = "owner@example.com"
PASSWORD = "correct-Horse-7-battery"

_HANDED_ON = {"ERP_COMPOSE_FILES"}

Service = Literal[
    "api", "worker", "db", "migrate", "balancer", "replica", "backup", "wal", "restore", "prometheus",
    "db1", "db2", "db3", "etcd1", "etcd2", "etcd3",
]  # fmt: skip


class CommandFailed(Exception):
    """A command of the operator ended with a status other than 0; the message is what it said."""


class Stack:
    """One project; `url` is the balancer's address on this machine, `image` the release that came up first.

    Two projects on one machine need different networks: `front_subnet` is that of the balancer."""

    def __init__(
        self, image: str, directory: Path, *, project: str = PROJECT, front_subnet: str = "10.89.173.0/24"
    ) -> None:
        self.image, self.project = image, project
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.up_seconds = 0.0
        self.tls_url = f"https://127.0.0.1:{free_port()}"
        self.prometheus_url = f"http://127.0.0.1:{free_port()}"
        self.secrets = directory / "secrets"
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ERP_") or name in _HANDED_ON},
            "COMPOSE_PROJECT_NAME": project,
            "ERP_IMAGE": image,
            "ERP_BACKUP_IMAGE": os.environ["ERP_TEST_BACKUP_IMAGE"],
            "ERP_SECRETS": str(self.secrets),
            "ERP_HTTP": self.url.removeprefix("http://"),
            "ERP_HTTPS": self.tls_url.removeprefix("https://"),
            "ERP_PROMETHEUS": self.prometheus_url.removeprefix("http://"),
            "ERP_FRONT_SUBNET": front_subnet,
            "ERP_HA_NETWORK": front_subnet.replace("10.89.", "10.90.").removesuffix(".0/24"),
            # all of these clients have one address
            "ERP_REQUESTS_PER_10_SECONDS": "1000000",
            "ERP_CONNECTIONS_PER_ADDRESS": "1000",
            # and of each kind one user: these two are taken over into the database
            "ERP_EXPORT_SUBMISSIONS_PER_HOUR": "1000000",
            "ERP_EXPORT_DOWNLOADS_PER_MINUTE": "1000000",
            "ERP_SIGN_INS_PER_ACCOUNT": "1000000",
            "ERP_LOG_LEVEL": "warning",
        }
        self.files = ["compose.yaml", *self.env.get("ERP_COMPOSE_FILES", "").split()]

    async def run(self, *command: str, stdin: bytes | None = None, seconds: float = 300, **env: str) -> str:
        """What the command wrote to standard output; raises CommandFailed, and TimeoutError after killing it."""
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=ROOT,
            env={**self.env, **env},
            stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(seconds):
                out, err = await process.communicate(stdin)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        if process.returncode:
            raise CommandFailed(f"{' '.join(command)}: {process.returncode}\n{out.decode()}\n{err.decode()}")
        return out.decode()

    async def compose(self, *command: str, stdin: bytes | None = None) -> str:
        files = [part for file in self.files for part in ("--file", file)]
        return await self.run("podman-compose", *files, *command, stdin=stdin)

    async def inside(self, container: str, *command: str, stdin: bytes | None = None) -> str:
        return await self.run("podman", "exec", "--interactive", container, *command, stdin=stdin)

    async def up(self) -> None:
        await self.run("ops/secrets")
        await self.compose("up", "--detach", "--no-build")

    async def anew(self, *services: Service) -> None:
        """Containers with what the environment says now, of profiles too: not in order, as `ops/roll` does it."""
        for service in services:
            if there := await self.containers(service, running=False):
                await self.discard(there)
        await self.compose("up", "--detach", "--no-build", "--no-deps", "--no-recreate", *services)

    async def remove(self, service: Service, volume: str) -> None:
        """The container and what it kept."""
        await self.discard(await self.containers(service, running=False))
        await self.run("podman", "volume", "rm", f"{self.project}_{volume}")

    async def discard(self, containers: list[str]) -> None:
        """Stopped within a second or killed, and removed."""
        # podman 4.3 fails if a container ends by itself while it is being stopped; all are stopped nevertheless
        with contextlib.suppress(CommandFailed):
            await self.run("podman", "stop", "--ignore", "--time", "1", *containers)
        await self.run("podman", "rm", "--force", "--ignore", "--volumes", *containers)

    async def down(self) -> None:
        """Containers, volumes and networks are gone afterwards, whatever state they were in."""
        ours = ("--filter", f"label=com.docker.compose.project={self.project}", "--quiet")
        if containers := (await self.run("podman", "container", "ls", "--all", *ours)).split():
            await self.discard(containers)
        for kind in ("volume", "network"):
            if there := (await self.run("podman", kind, "ls", *ours)).split():
                await self.run("podman", kind, "rm", "--force", *there)

    async def containers(self, service: Service, *, running: bool = True) -> list[str]:
        """Their names, in order of their numbers."""
        found = await self.run(
            "podman", "ps", *([] if running else ["--all"]), "--format", "{{.Names}}",
            "--filter", f"label=com.docker.compose.project={self.project}",
            "--filter", f"label=com.docker.compose.service={service}",
        )  # fmt: skip
        return sorted(found.split(), key=lambda name: int(name.rpartition("_")[2]))

    async def inspect(self, container: str) -> dict[str, Any]:
        return json.loads(await self.run("podman", "inspect", container))[0]  # type: ignore[no-any-return]

    async def kill(self, container: str) -> None:
        """SIGKILL to the process itself, as the kernel does it when memory is short: restart policies count."""
        os.kill((await self.inspect(container))["State"]["Pid"], signal.SIGKILL)

    async def versions(self, service: Service) -> list[str]:
        names = await self.containers(service)
        if not names:
            return []
        form = '{{index .Config.Labels "org.opencontainers.image.version"}}'
        # one of them may go while we ask
        with contextlib.suppress(CommandFailed):
            return (await self.run("podman", "inspect", "--format", form, *names)).split()
        return []

    async def sql(self, statement: str) -> str:
        (db,) = await self.containers("db")
        return (await self.inside(db, "psql", "-U", "postgres", "-d", "erp", "-Atc", statement)).strip()

    async def make_owner(self) -> None:
        (api, *_) = await self.containers("api")
        await self.inside(api, "erp", "create-user", OWNER, "--role", "SUPER_ADMIN", stdin=PASSWORD.encode())
        # who is all of these clients at once
        await self.inside(api, "erp", "settings", "set", "requests_per_minute_per_user", "null")

    async def sign_in(self) -> str:
        """An access token: good for a quarter of an hour."""
        async with httpx.AsyncClient(base_url=self.url, timeout=20) as client:
            answer = await client.post("/api/v1/auth/login", data={"username": OWNER, "password": PASSWORD})
            assert answer.status_code == 200, answer.text
            return str(answer.json()["access_token"])

    async def answers(self, path: str = "/health/ready", status: int = 200) -> bool:
        with contextlib.suppress(httpx.TransportError):
            async with httpx.AsyncClient(base_url=self.url, timeout=5) as client:
                return (await client.get(path)).status_code == status
        return False

    async def logs(self) -> str:
        names = await self.run(
            "podman",
            "ps",
            "--all",
            "--format",
            "{{.Names}}",
            "--filter",
            f"label=com.docker.compose.project={self.project}",
        )
        told = []
        for name in names.split():
            process = await asyncio.create_subprocess_exec(
                "podman", "logs", "--tail", "40", name, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
            )
            told.append(f"--- {name}\n{(await process.communicate())[0].decode(errors='replace')}")
        return "\n".join(told)


@contextlib.asynccontextmanager
async def timed() -> AsyncIterator[list[float]]:
    """The seconds it took are in the list afterwards."""
    took: list[float] = []
    began = monotonic()
    try:
        yield took
    finally:
        took.append(monotonic() - began)


def percentile(values: Iterable[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else 0.0
