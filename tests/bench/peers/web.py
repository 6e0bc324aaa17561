"""Starts the peers that answer over HTTP: `bare` and `people`, each in one process of uvicorn."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx

from tests.acceptance.instances import free_port
from tests.bench.environments import python_with
from tests.bench.load import NotMeasured, Target
from tests.bench.stage import Data
from tests.support.waiting import eventually

PACKAGES = [
    "asyncpg",
    "fastapi",
    "httptools",
    "litestar",
    "msgspec",
    "pydantic",
    "pyjwt",
    "sqlalchemy[asyncio]",
    "uvicorn",
    "uvloop",
]
BARE, PEOPLE = "bare", "people"


def python() -> Path:
    return python_with("peers", PACKAGES, as_ours=True)


@contextlib.asynccontextmanager
async def peer(name: str, data: Data, directory: Path) -> AsyncIterator[Target]:
    """Raises NotMeasured if it does not start."""
    port = free_port()
    program = [str(await asyncio.to_thread(python)), "-m", "uvicorn", f"{name}:app", "--port", str(port)]
    program += ["--app-dir", str(Path(__file__).parent), "--no-access-log", "--log-level", "warning"]
    program += ["--loop", "uvloop", "--http", "httptools", "--no-server-header"]
    settings = {"PEER_DATABASE_URL": data.settings.database_url, "PEER_SECRET": data.settings.jwt_secrets[0]}
    log = directory / f"{name}.log"
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *program, env={**os.environ, **settings}, stdout=file, stderr=file, start_new_session=True
        )
    target = Target(name, f"http://127.0.0.1:{port}", (process.pid,))

    async def answers() -> bool:
        if process.returncode is not None:
            raise NotMeasured(f"{name} did not start: {log.read_text()[-500:]}")
        with contextlib.suppress(httpx.TransportError):
            async with httpx.AsyncClient() as client:
                return (await client.get(f"{target.url}/health/live")).is_success
        return False

    try:
        await eventually(answers)
        yield target
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
        await process.wait()
