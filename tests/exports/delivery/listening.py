"""Listeners to the event streams of exports, in the test's own process."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx
import msgspec
from litestar import Litestar

from erp_service.app import create_app
from erp_service.services import build_services
from erp_service.settings import Settings
from tests.support.apps import running, services_of

SOON = 20.0
"""A deadline in seconds. A change arrives at once, or without notifications after two; a missed one never arrives."""


class Event(NamedTuple):
    name: str
    id: str
    job: dict[str, Any]


class Listener:
    """What a client of an event stream receives. It reads only while `taking` is set."""

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
            self.events.append(Event(fields["event"], fields.get("id", ""), json.loads(fields["data"])))

    async def until(self, look: Any, *, seconds: float = 20) -> None:
        """Returns once `look(self)` is true; after `seconds` AssertionError with what was received."""
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
    """A client of the stream at `address`. It reads from the start and disconnects at the end."""
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
    """Whether so many clients follow an export on this instance."""
    return bool(services_of(app).live_status.listeners == count)


async def all_wait(app: Litestar, count: int) -> bool:
    """Whether so many clients have read the job on this instance, and wait for its next state."""
    followed = services_of(app).live_status._followed.values()
    return sum(len(one.change._waiters) for one in followed) == count


@contextlib.asynccontextmanager
async def without_notices(settings: Settings) -> AsyncIterator[Litestar]:
    """An instance whose listener cannot connect."""
    app = create_app(
        build_services(msgspec.structs.replace(settings, queue_database_url="postgresql://u@/db?host=/nonexistent"))
    )
    async with running(app):
        yield app
