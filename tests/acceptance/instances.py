"""Real processes of the service, as an operator starts them."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import httpx

from erp_service.settings import PREFIX, Settings
from tests.support.settings import as_role
from tests.support.users import token_of
from tests.support.waiting import eventually


class Process(NamedTuple):
    """A running process; `url` is empty for a worker, `log` is what it wrote to standard error."""

    process: asyncio.subprocess.Process
    url: str
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self, *, seconds: float = 30.0) -> int:
        async with asyncio.timeout(seconds):
            return await self.process.wait()


def environment(settings: Settings, **more: str) -> dict[str, str]:
    """The settings as environment variables of a new process."""
    values = {
        PREFIX + name.upper(): str(value)
        for name in settings.__struct_fields__
        if (value := getattr(settings, name)) is not None
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return {**kept, **values, **more}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def erp(*arguments: str, env: dict[str, str], log: Path, url: str = "") -> AsyncIterator[Process]:
    """`erp ARGUMENTS` in a process of its own, which is killed at the end. `TEST_PYTHON` in `env` is another Python."""
    python = env.get("TEST_PYTHON", sys.executable)
    with log.open("ab") as file:
        process = await asyncio.create_subprocess_exec(
            python, "-m", "erp_service", *arguments, env=env, stderr=file, stdout=file, start_new_session=True
        )
    try:
        yield Process(process, url, log)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGCONT)
                os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


@contextlib.asynccontextmanager
async def instance(settings: Settings, log: Path, **more: str) -> AsyncIterator[Process]:
    """`erp serve`, ready to answer."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    env = environment(as_role(settings, "erp_api"), ERP_PORT=str(port), **more)
    async with erp("serve", env=env, log=log, url=url) as process:
        await eventually(lambda: answers(process, "/health/ready"))
        yield process


@contextlib.asynccontextmanager
async def worker(settings: Settings, log: Path, **more: str) -> AsyncIterator[Process]:
    """`erp worker`; it need not be ready yet."""
    env = environment(as_role(settings, "erp_worker"), **more)
    del env["ERP_JWT_SECRET"]
    async with erp("worker", env=env, log=log) as process:
        yield process


async def answers(process: Process, path: str, status: int = 200) -> bool:
    assert process.process.returncode is None, f"ended by itself: {process.log.read_text()}"
    with contextlib.suppress(httpx.TransportError):
        async with httpx.AsyncClient(base_url=process.url, timeout=2) as client:
            return (await client.get(path)).status_code == status
    return False


def signed_in(process: Process, settings: Settings, user_id: int) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {token_of(settings, user_id)}"}
    return httpx.AsyncClient(base_url=process.url, headers=headers, timeout=20)
