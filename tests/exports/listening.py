"""Exports run by the hand of a test, and listeners to their events in the test's own process."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import httpx
import msgspec
from litestar import Litestar

from erp_service.app import create_app
from erp_service.db.engine import Database
from erp_service.exports import lifecycle
from erp_service.exports.lifecycle import Published, Run
from erp_service.exports.storage.base import FileKey
from erp_service.queue.fencing import JobAttempt
from erp_service.services import build_services
from erp_service.settings import Settings
from tests.conftest import running, services_of
from tests.exports.conftest import row_of, submitted

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
MOST = 2  # exports of one user at once
# what a change takes to be heard, and what a loaded machine adds
SOON = 5.0


async def begun(client: httpx.AsyncClient, database: Database, owner: asyncpg.Connection, *, attempt: int = 1) -> Run:
    """An export of the client's that runs, though no worker knows of it."""
    export_id = await submitted(client)
    run = Run(UUID(export_id), JobAttempt((await row_of(owner, export_id))["queue_job_id"], attempt))
    async with database.write() as db:
        assert await lifecycle.claim(db, run, most_running=MOST)
    return run


def again(run: Run) -> Run:
    """The attempt that follows, as after a retry or a rescue."""
    return Run(run.export_id, JobAttempt(run.queue_job_id, run.attempt + 1))


async def advanced(database: Database, run: Run, rows: int) -> None:
    async with database.write() as db:
        await lifecycle.advance(db, run, rows=rows, bytes_=rows * 10)


async def published(database: Database, run: Run, rows: int = 1000) -> None:
    file = Published(
        key=FileKey(run.export_id, run.attempt, "csv"),
        rows=rows,
        bytes=rows * 10,
        sha256="0" * 64,
        snapshot_at=NOON,
        media_type="text/csv",
        filename="items.csv",
    )
    async with database.write() as db:
        await lifecycle.publish(db, run, file, retention_hours=1, most_running=MOST)


class Event(NamedTuple):
    name: str
    id: str
    job: dict[str, Any]


class Listener:
    """What a client of an event stream sees. `taking` is set while it reads at all."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.events: list[Event] = []
        self.comments: list[str] = []
        self.retry: int | None = None
        self.body = b""
        self.ended = False
        self.taking, self.gone = asyncio.Event(), asyncio.Event()
        self.taking.set()
        self._news = asyncio.Event()
        self._rest = b""

    async def receive(self) -> Any:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
        else:
            await self.taking.wait()
            self.body += message["body"]
            *blocks, self._rest = (self._rest + message["body"]).split(b"\n\n")
            for block in blocks:
                self._take(block.decode())
            self.ended = not message.get("more_body", False)
        self._news.set()

    def _take(self, block: str) -> None:
        fields: dict[str, str] = {}
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        if "" in fields:
            self.comments.append(fields[""])
        if "retry" in fields:
            self.retry = int(fields["retry"])
        if "data" in fields:
            self.events.append(Event(fields["event"], fields["id"], json.loads(fields["data"])))

    async def until(self, look: Any, *, seconds: float = 20) -> None:
        """Wait until `look(self)` is true; AssertionError with what there was after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                while not look(self):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"{self.status} {self.events} {self.comments} ended={self.ended}") from None

    async def event(self, number: int, *, seconds: float = 20) -> Event:
        """The event of this number, from 0."""
        await self.until(lambda listener: len(listener.events) > number, seconds=seconds)
        return self.events[number]

    async def end(self, *, seconds: float = 20) -> None:
        await self.until(lambda listener: listener.ended, seconds=seconds)


@contextlib.asynccontextmanager
async def listening(
    app: Litestar, address: str, token: str | None = None, *, last: str | None = None
) -> AsyncIterator[Listener]:
    """A listener to the stream at `address`, which begins to read at once and goes away at the end."""
    parts, listener = urlsplit(address), Listener()
    headers = [(b"host", b"test")]
    if token is not None:
        headers.append((b"authorization", f"Bearer {token}".encode()))
    if last is not None:
        headers.append((b"last-event-id", last.encode()))
    scope: Any = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": parts.path,
        "raw_path": parts.path.encode(),
        "query_string": parts.query.encode(),
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("test", 80),
    }
    asked = asyncio.create_task(app(scope, listener.receive, listener.send))
    try:
        yield listener
    finally:
        listener.taking.set()
        listener.gone.set()
        await asked


def bearer(client: httpx.AsyncClient) -> str:
    return client.headers["Authorization"].removeprefix("Bearer ")


async def followed(app: Litestar, count: int) -> bool:
    """So many follow an export on this instance."""
    return bool(services_of(app).live_status.listeners == count)


@contextlib.asynccontextmanager
async def without_notices(settings: Settings) -> AsyncIterator[Litestar]:
    """An instance whose listener cannot connect."""
    app = create_app(
        build_services(msgspec.structs.replace(settings, queue_database_url="postgresql://u@/db?host=/nonexistent"))
    )
    async with running(app):
        yield app
